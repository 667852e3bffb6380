//! What a message between two cores costs, and how many there can be.

use std::{hint, time::Instant};

use guest_kernel::knowledge::Knowledge;
use io_rings::urpc::{ChannelPage, Receiver, SendError, Sender};

use super::{
    Lab, Paper, hosted,
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
    note: "In a virtual machine `atoll info topology` has the members of the mesh measure it, counted in instructions.",
    on_host: Ok(measure),
    in_vm: Err("an emulator without caches counts an instruction for each line, whoever wrote it last"),
    judge,
};

const LATENCY: &str = "One way";
const THROUGHPUT: &str = "Messages a microsecond";

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

/// Runs one side on the first core and the other on `far`, whatever lies between idle; nanoseconds of the first.
fn pair(
    bench: &Bench,
    far: usize,
    near: impl Fn() -> Option<f64> + Sync,
    other: impl Fn() -> Option<f64> + Sync,
) -> Result<f64> {
    let two = Bench { processors: vec![bench.processors[0], bench.processors[far]], ..bench.clone() };
    let times = two.together(2, |core, _| if core == 0 { near() } else { other() })?;
    let times: Option<Vec<f64>> = times.into_iter().collect();
    let broken = || Error::new("a channel broke between two threads", "this is a bug: report it");
    times.and_then(|times| times.first().copied()).ok_or_else(broken)
}

/// Half of there and back.
fn ping_pong(bench: &Bench, far: usize) -> Result<f64> {
    let rounds = bench.operations(5_000);
    let (there, back) = (ChannelPage::new(), ChannelPage::new());
    let near = || {
        let (mut ask, mut hear) = (Sender::new(&there), Receiver::new(&back));
        let begun = Instant::now();
        for number in 0..rounds {
            ask.try_send(&[number, 0, 0, 0, 0, 0, 0]).ok()?;
            while hear.try_receive().ok()?.is_none() {
                hint::spin_loop();
            }
        }
        Some(begun.elapsed().as_nanos() as f64 / rounds as f64 / 2.0)
    };
    let other = || {
        let (mut hear, mut answer) = (Receiver::new(&there), Sender::new(&back));
        for _ in 0..rounds {
            let message = loop {
                match hear.try_receive().ok()? {
                    Some(message) => break message,
                    None => hint::spin_loop(),
                }
            };
            answer.try_send(&message).ok()?;
        }
        Some(0.0)
    };
    pair(bench, far, near, other)
}

/// As many as there is room for, one way; of one.
fn stream(bench: &Bench, far: usize) -> Result<f64> {
    let count = bench.operations(20_000);
    let there = ChannelPage::new();
    let near = || {
        let mut sender = Sender::new(&there);
        let begun = Instant::now();
        for number in 0..count {
            while let Err(error) = sender.try_send(&[number, 0, 0, 0, 0, 0, 0]) {
                if error == SendError::PeerBroken {
                    return None;
                }
                hint::spin_loop();
            }
        }
        Some(begun.elapsed().as_nanos() as f64 / count as f64)
    };
    let other = || {
        let (mut receiver, mut left) = (Receiver::new(&there), count);
        while left > 0 {
            match receiver.try_receive().ok()? {
                Some(_) => left -= 1,
                None => hint::spin_loop(),
            }
        }
        Some(0.0)
    };
    pair(bench, far, near, other)
}

fn judge(panels: &[Panel]) -> Vec<Verdict> {
    let find = |title: &str| panels.iter().find(|panel| panel.title == title);
    let points = |title: &str| {
        find(title).and_then(|panel| panel.series.first()).map_or(&[][..], |series| &series.points)
    };
    let (latency, throughput) = (points(LATENCY), points(THROUGHPUT));
    const FAR: &str = "latency grows with the distance";
    const MANY: &str = "messages under way together cost less each than one by one";
    let first = |points: &[(f64, f64)]| points.first().map(|point| point.1);
    let far = match (latency.first(), latency.last()) {
        (Some(near), Some(far)) if latency.len() > 1 => {
            Verdict::at_least(FAR, Some(far.1), 1.2, Some(near.1), "the farthest pair against the nearest")
        }
        _ => Verdict::cannot(FAR, format!("{} distances here, and it takes 2 to see", latency.len())),
    };
    let one = first(throughput).map(|rate| 1e3 / rate);
    vec![far, Verdict::at_least(MANY, first(latency), 1.5, one, "ns of one alone against one of many")]
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
