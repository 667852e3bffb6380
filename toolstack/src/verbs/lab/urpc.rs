//! What a message between two cores costs, and how many there can be.

use std::time::Instant;

use guest_kernel::{knowledge::Knowledge, labs::messages};
use io_rings::urpc::ChannelPage;

use super::{
    Guests, Lab, Paper, crew, hosted,
    result::{Panel, Series, Verdict},
    stopwatch::Bench,
};
use crate::{
    error::{Error, Result},
    verbs::topology::host,
};

/// See the module.
pub const LAB: Lab = Lab {
    name: "urpc",
    title: "What a URPC message costs, and how many go over a channel",
    paper: Paper {
        citation: "Baumann et al., The Multikernel, SOSP 2009, Table 2",
        says: "A message is one cache line. Its latency is that of a few cache misses and grows with the distance between \
               the cores, over a shared cache, one hop, two hops; and several messages under way cost less each than one by one.",
        shape,
    },
    note: "In a virtual machine two virtual CPUs of a guest do it, on cores so far apart. Without caches a message takes as many \
           instructions at any distance. `atoll info topology` has the members of the mesh measure answers of their kernels.",
    on_host: Ok(measure),
    in_vm: Ok(in_vm),
    judge,
};

const LATENCY: &str = "One way";
const THROUGHPUT: &str = "Messages a microsecond";
const THOUSAND: &str = "Messages in 1,000 ticks";

fn shape() -> Vec<Panel> {
    let latency = Series::new("latency", vec![(1.0, 1.0), (3.0, 2.2), (6.0, 2.6)]);
    vec![super::drawn(LATENCY, "distance", vec![latency])]
}

fn measure(bench: &Bench) -> Result<Vec<Panel>> {
    let knowledge = Knowledge::of_machine(&host::topology()?);
    let (mut latencies, mut throughputs) = (Vec::new(), Vec::new());
    // A pair for each distance that there is from the first core.
    for distance in 1..=6 {
        let far = (1..bench.cores()).find(|&core| knowledge.distance(0, core as u32) == Some(distance));
        let Some(far) = far else { continue };
        latencies.push((distance as f64, bench.least(|| ping_pong(bench, far))?));
        throughputs.push((distance as f64, 1e3 / bench.least(|| stream(bench, far))?));
    }
    Ok(vec![
        hosted(bench, LATENCY, "distance", "ns", vec![Series::new("latency", latencies)]),
        hosted(bench, THROUGHPUT, "distance", "messages", vec![Series::new("throughput", throughputs)]),
    ])
}

/// Nanoseconds that the side on the first core takes; the other is on `far`, whatever lies between idle.
fn pair(
    bench: &Bench,
    far: usize,
    near: impl Fn() -> Option<()> + Sync,
    other: impl Fn() -> Option<()> + Sync,
) -> Result<f64> {
    let two = Bench { processors: vec![bench.processors[0], bench.processors[far]], ..bench.clone() };
    let times = two.together(2, |core, _| {
        let begun = Instant::now();
        if core == 0 {
            near()?
        } else {
            other()?
        };
        Some(begun.elapsed().as_nanos() as f64)
    })?;
    let times: Option<Vec<f64>> = times.into_iter().collect();
    let broken = || Error::new("a channel broke between two threads", "this is a bug: report it");
    times.and_then(|times| times.first().copied()).ok_or_else(broken)
}

/// Half of there and back.
fn ping_pong(bench: &Bench, far: usize) -> Result<f64> {
    let rounds = bench.operations(5_000);
    let (there, back) = (ChannelPage::new(), ChannelPage::new());
    let near = || messages::ask(&there, &back, rounds);
    let took = pair(bench, far, near, || messages::answer(&there, &back, rounds))?;
    Ok(took / rounds as f64 / 2.0)
}

/// As many as there is room for, one way; of one.
fn stream(bench: &Bench, far: usize) -> Result<f64> {
    let (count, channel) = (bench.operations(20_000), ChannelPage::new());
    let took = pair(bench, far, || messages::send(&channel, count), || messages::receive(&channel, count))?;
    Ok(took / count as f64)
}

/// A guest of two virtual CPUs for each distance that there is from core 1.
pub fn in_vm(guests: &Guests<'_>) -> Result<Vec<Panel>> {
    let (known, _) = guests.client.topology()?;
    let cores = known.topology.core_places().len() as u32;
    let knowledge = Knowledge::of_machine(&known.topology);
    let (mut latencies, mut throughputs) = (Vec::new(), Vec::new());
    for distance in 1..=6 {
        let far = (2..cores).find(|&core| knowledge.distance(1, core) == Some(distance));
        let Some(far) = far else { continue };
        let lines = crew::run(guests.client, "urpc", vec![1, far])?;
        let x = distance as f64;
        latencies.push((x, lines.ticks_of_one("latency")? / 2.0));
        throughputs.push((x, 1e3 / lines.ticks_of_one("stream")?));
    }
    let panel = |title: &str, y: &str, name: &str, points| Panel {
        title: title.to_owned(),
        x: "distance",
        y: y.to_owned(),
        label: guests.label,
        machine: guests.machine.clone(),
        series: vec![Series::new(name, points)],
    };
    Ok(vec![
        panel(LATENCY, "ticks", "latency", latencies),
        panel(THOUSAND, "messages", "throughput", throughputs),
    ])
}

fn judge(panels: &[Panel]) -> Vec<Verdict> {
    let [latency, throughput, ..] = panels else { return Vec::new() };
    let label = latency.label;
    let points = |panel: &Panel| panel.series.first().map(|series| series.points.clone()).unwrap_or_default();
    let (latency, throughput) = (points(latency), points(throughput));
    const FAR: &str = "latency grows with the distance";
    const MANY: &str = "messages under way together cost less each than one by one";
    let first = |points: &[(f64, f64)]| points.first().map(|point| point.1);
    let far = match (latency.first(), latency.last()) {
        _ if label == "emulated" => Verdict::cannot(FAR, super::NO_CACHES.to_owned()),
        (Some(near), Some(far)) if latency.len() > 1 => {
            Verdict::at_least(FAR, Some(far.1), 1.2, Some(near.1), "the farthest pair against the nearest")
        }
        _ => Verdict::cannot(FAR, format!("{} distances here, and it takes 2 to see", latency.len())),
    };
    let one = first(&throughput).map(|rate| 1e3 / rate);
    // Without caches nobody waits for a line: what overlaps is the two sides' own instructions.
    let factor = if label == "emulated" { 1.2 } else { 1.5 };
    vec![far, Verdict::at_least(MANY, first(&latency), factor, one, "one alone against one of many")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::result::Outcome;

    #[test]
    fn judged_by_the_figures() {
        let panels = |latency: Vec<(f64, f64)>, rate: f64| {
            vec![
                super::super::drawn(LATENCY, "distance", vec![Series::new("latency", latency)]),
                super::super::drawn(
                    THROUGHPUT,
                    "distance",
                    vec![Series::new("throughput", vec![(3.0, rate)])],
                ),
            ]
        };
        let outcomes = |panels: Vec<Panel>| {
            judge(&panels).into_iter().map(|verdict| verdict.outcome).collect::<Vec<_>>()
        };
        use Outcome::{CannotBeJudged, DoesNot, Holds};
        assert_eq!(outcomes(panels(vec![(3.0, 150.0)], 20.0)), [CannotBeJudged, Holds]);
        assert_eq!(outcomes(panels(vec![(1.0, 50.0), (6.0, 150.0)], 7.0)), [Holds, DoesNot]);
        assert_eq!(outcomes(panels(vec![], 7.0)), [CannotBeJudged; 2]);
    }
}
