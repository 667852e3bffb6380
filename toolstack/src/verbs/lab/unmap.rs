//! Telling all cores to unmap: one phase, in four ways.

use std::time::Instant;

use guest_kernel::{
    agreement::Topology,
    knowledge::Knowledge,
    labs::shootdown::{Broadcast, Node, Pages},
};

use super::{
    Lab, Paper, hosted,
    result::{Panel, Series, Verdict},
    stopwatch::Bench,
    vm,
};
use crate::{
    error::{Error, Result},
    verbs::topology::host,
};

/// See the module.
pub const LAB: Lab = Lab {
    name: "unmap",
    title: "One core tells all others to unmap, and waits for them",
    paper: Paper {
        citation: "Baumann et al., The Multikernel, SOSP 2009, Fig. 6",
        says: "On eight packages of four cores: one line that all poll (broadcast) and a message to each (unicast) grow \
               with every core; a message to each package that is handed on there (multicast) grows with the packages; sent \
               to the farthest first, from memory of the receiver's node (NUMA-aware), it is the cheapest.",
        shape,
    },
    note: "With two cores all four are one message there and one back. In a virtual machine whole monitors do it, each member \
           sent to by itself (unicast) or along the tree (multicast).",
    on_host: Ok(measure),
    in_vm: Ok(|guests| vm::measure(guests, &vm::UNMAP, &vm::MEMBERS)),
    judge,
};

const TITLE: &str = "From telling to the last answer";
const WAYS: [&str; 4] = ["broadcast", "unicast", "multicast", "NUMA-aware"];

fn shape() -> Vec<Panel> {
    let cores = [2.0, 4.0, 8.0, 16.0, 32.0];
    let series = vec![
        Series::drawn("broadcast", &cores, |n| 1.5 * n),
        Series::drawn("unicast", &cores, |n| n),
        Series::drawn("multicast", &cores, |n| 2.0 + n / 3.0),
        Series::drawn("NUMA-aware", &cores, |n| 2.0 + n / 4.0),
    ];
    vec![super::drawn(TITLE, "cores", series)]
}

fn measure(bench: &Bench) -> Result<Vec<Panel>> {
    let knowledge = Knowledge::of_machine(&host::topology()?);
    let along = Topology::of(&knowledge);
    let distance = |core: usize| knowledge.distance(0, core as u32).unwrap_or(0);
    let mut series = WAYS.map(|name| Series::new(name, Vec::new()));
    for cores in 2..=bench.cores() {
        let [broadcast, unicast, multicast, aware] = &mut series;
        let x = cores as f64;
        broadcast.points.push((x, bench.least(|| by_line(bench, cores))?));
        unicast
            .points
            .push((x, bench.least(|| by_message(bench, cores, &Topology::flat(), |core| core as u64))?));
        multicast.points.push((x, bench.least(|| by_message(bench, cores, &along, |core| core as u64))?));
        aware
            .points
            .push((x, bench.least(|| by_message(bench, cores, &along, |core| u64::MAX - distance(core)))?));
    }
    Ok(vec![hosted(bench, TITLE, "cores", "ns", series.to_vec())])
}

fn rounds(bench: &Bench) -> u64 {
    bench.operations(5_000)
}

fn by_line(bench: &Bench, cores: usize) -> Result<f64> {
    let (rounds, broadcast) = (rounds(bench), Broadcast::new(cores));
    let times = bench.together(cores, |core, _| {
        let begun = Instant::now();
        for round in 1..=rounds {
            if core == 0 {
                broadcast.tell(round);
            } else {
                broadcast.hear(core, round);
            }
        }
        begun.elapsed().as_nanos() as f64 / rounds as f64
    })?;
    Ok(times.first().copied().unwrap_or(0.0))
}

fn by_message(
    bench: &Bench,
    cores: usize,
    tree: &Topology,
    first: impl Fn(usize) -> u64 + Sync,
) -> Result<f64> {
    let (rounds, pages) = (rounds(bench), Pages::new(cores));
    let times = bench.together(cores, |core, _| {
        // Made where it is used, so that its memory is near.
        let mut node = Node::new(&pages, tree, core, &first);
        let begun = Instant::now();
        let sound = (1..=rounds).all(|round| if core == 0 { node.tell(round) } else { node.hear(round) });
        sound.then(|| begun.elapsed().as_nanos() as f64 / rounds as f64)
    })?;
    let times: Option<Vec<f64>> = times.into_iter().collect();
    let broken = || Error::new("a channel broke between two threads", "this is a bug: report it");
    times.and_then(|times| times.first().copied()).ok_or_else(broken)
}

fn judge(panels: &[Panel]) -> Vec<Verdict> {
    const TREE: &str = "multicast is cheaper than unicast";
    const LINE: &str = "broadcast is no cheaper than multicast";
    const LINEAR: &str = "a member more costs the initiator the same each time (unicast)";
    let mut verdicts = Vec::new();
    for panel in panels {
        if panel.title == TITLE {
            let most = panel.most();
            let at = |name: &str| panel.at(name, most);
            let what = format!("{most} cores");
            verdicts.push(Verdict::with_cores(LINE, most, 8, || {
                Verdict::at_least(LINE, at("broadcast"), 1.0, at("multicast"), &what)
            }));
            verdicts.push(Verdict::with_cores(TREE, most, 8, || {
                Verdict::at_least(TREE, at("unicast"), 1.0, at("multicast"), &what)
            }));
        } else if panel.title == vm::INITIATOR {
            verdicts.push(vm::linear(LINEAR, panel, "unicast"));
            let most = panel.most();
            const LESS: &str = "along a tree the initiator does less";
            verdicts.push(Verdict::with_cores(LESS, most, 4, || {
                let (unicast, multicast) = (panel.at("unicast", most), panel.at("multicast", most));
                Verdict::at_least(LESS, unicast, 1.05, multicast, &format!("{most} members, instructions"))
            }));
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::result::Outcome::{self, CannotBeJudged, DoesNot, Holds};

    fn outcomes(panel: Panel) -> Vec<Outcome> {
        judge(&[panel]).into_iter().map(|verdict| verdict.outcome).collect()
    }

    #[test]
    fn judged_by_the_figures() {
        let panel = |most: f64, costs: [f64; 4]| {
            let series =
                WAYS.iter().zip(costs).map(|(name, cost)| Series::new(*name, vec![(most, cost)])).collect();
            super::super::drawn(TITLE, "cores", series)
        };
        assert_eq!(outcomes(panel(2.0, [1.0; 4])), [CannotBeJudged; 2]);
        assert_eq!(outcomes(panel(16.0, [20.0, 16.0, 7.0, 6.0])), [Holds; 2]);
        assert_eq!(outcomes(panel(16.0, [5.0, 6.0, 7.0, 6.0])), [DoesNot; 2]);
        assert_eq!(outcomes(shape().remove(0)), [Holds; 2]);
    }

    #[test]
    fn members_of_a_machine_are_judged_apart() {
        let panel = |multicast: f64| {
            let flat = Series::new("unicast", vec![(2.0, 100.0), (3.0, 150.0), (4.0, 201.0)]);
            let tree = Series::new("multicast", vec![(2.0, 100.0), (3.0, 150.0), (4.0, multicast)]);
            super::super::drawn(vm::INITIATOR, "members", vec![flat, tree])
        };
        assert_eq!(outcomes(panel(150.0)), [Holds, Holds]);
        assert_eq!(outcomes(panel(200.0)), [Holds, DoesNot]);
    }

    #[test]
    fn a_quick_run_has_every_way() {
        let bench = Bench::host(true);
        let panels = measure(&bench).unwrap();
        let points = |series: &Series| {
            series.points.len() == bench.cores() - 1 && series.points.iter().all(|p| p.1 > 0.0)
        };
        assert_eq!(panels[0].series.len(), WAYS.len());
        assert!(panels[0].series.iter().all(points));
    }
}
