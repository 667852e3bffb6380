//! Two-phase commit: one operation at a time, and many.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use guest_kernel::{
    agreement::Topology,
    knowledge::Knowledge,
    labs::members::{self, Member},
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
    name: "two-phase",
    title: "An operation in two phases among all members, one at a time and pipelined",
    paper: Paper {
        citation: "Baumann et al., The Multikernel, SOSP 2009, Fig. 8",
        says: "An operation that is agreed on in two phases takes longer with each core, in steps with the packages; with \
               many under way at a time each costs a fraction of that.",
        shape,
    },
    note: "Whole members of the multikernel do it: mesh, kernel, monitor, replica; on the host as threads, in a virtual machine \
           as guests.",
    on_host: Ok(measure),
    in_vm: Ok(|guests| vm::measure(guests, &vm::TWO_PHASE, &vm::MEMBERS)),
    judge,
};

const TITLE: &str = "An operation";
/// Operations under way at a time.
pub const DEPTH: u64 = 16;

fn shape() -> Vec<Panel> {
    let cores = [2.0, 4.0, 8.0, 16.0, 32.0];
    let series = vec![
        Series::drawn("single", &cores, |n| 4.0 + n / 2.0),
        Series::drawn("pipelined", &cores, |n| 0.5 + n / 6.0),
    ];
    vec![super::drawn(TITLE, "members", series)]
}

fn measure(bench: &Bench) -> Result<Vec<Panel>> {
    let tree = Topology::of(&Knowledge::of_machine(&host::topology()?));
    let (mut single, mut pipelined) = (Vec::new(), Vec::new());
    for members in 2..=bench.cores() {
        single.push((members as f64, bench.least(|| run(bench, members, &tree, 1))?));
        pipelined.push((members as f64, bench.least(|| run(bench, members, &tree, DEPTH))?));
    }
    let series = vec![Series::new("single", single), Series::new("pipelined", pipelined)];
    Ok(vec![hosted(bench, TITLE, "members", "ns", series)])
}

/// Nanoseconds for an operation among so many members on as many cores.
fn run(bench: &Bench, count: usize, tree: &Topology, depth: u64) -> Result<f64> {
    let broken = || Error::new("members on threads do not agree", "this is a bug: report it");
    let operations = bench.operations(2_000);
    let all = members::gather(count, tree).ok_or_else(broken)?;
    // Each is taken by the thread of its core.
    let all: Vec<_> = all.into_iter().map(|member| std::sync::Mutex::new(Some(member))).collect();
    // The others work until the first is done, however long that takes.
    let done = AtomicBool::new(false);
    let times = bench.together(count, |core, _| {
        let mut member: Member = all[core].lock().ok()?.take()?.begin()?;
        if core != 0 {
            while !done.load(Ordering::Relaxed) {
                member.turn();
            }
            return Some(0.0);
        }
        while member.members() < count as u32 {
            member.turn();
        }
        let begun = Instant::now();
        let all_done = member.operate(2, operations, depth);
        let took = begun.elapsed();
        done.store(true, Ordering::Relaxed);
        all_done.then(|| took.as_nanos() as f64 / operations as f64)
    });
    let times: Option<Vec<f64>> = times?.into_iter().collect();
    times.and_then(|times| times.first().copied()).ok_or_else(broken)
}

fn judge(panels: &[Panel]) -> Vec<Verdict> {
    const FRACTION: &str = "with many under way each costs a fraction";
    const GROWS: &str = "an operation takes longer with more members";
    let mut verdicts = Vec::new();
    for panel in panels {
        let most = panel.most();
        if panel.title == TITLE {
            verdicts.push(at_every_point(FRACTION, panel, 1.5));
            verdicts.push(Verdict::with_cores(GROWS, most, 3, || {
                let what = format!("{most} members against 2");
                Verdict::at_least(GROWS, panel.at("single", most), 1.1, panel.at("single", 2.0), &what)
            }));
        } else if panel.title == vm::TICKS {
            verdicts.push(at_every_point(FRACTION, panel, 1.2));
            verdicts.push(Verdict::with_cores(GROWS, most, 3, || {
                let what = format!("{most} members against 2, ticks");
                Verdict::at_least(GROWS, panel.at("single", most), 1.1, panel.at("single", 2.0), &what)
            }));
        }
    }
    verdicts
}

/// Judges the number of members with which many at a time save least.
fn at_every_point(claim: &'static str, panel: &Panel, factor: f64) -> Verdict {
    let single = panel.series("single").map_or(&[][..], |series| &series.points);
    let both = single.iter().filter_map(|&(x, one)| Some((x, one, panel.at("pipelined", x)?)));
    let least = both.min_by(|a, b| (a.1 * b.2).total_cmp(&(b.1 * a.2)));
    let Some((members, one, many)) = least else {
        return Verdict::cannot(claim, "there are no figures".to_owned());
    };
    let what = format!("at {members} members, where it saves least, one at a time against {DEPTH}");
    Verdict::at_least(claim, Some(one), factor, Some(many), &what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::result::Outcome::{self, CannotBeJudged, DoesNot, Holds};

    fn outcomes(panels: &[Panel]) -> Vec<Outcome> {
        judge(panels).into_iter().map(|verdict| verdict.outcome).collect()
    }

    #[test]
    fn judged_by_the_figures() {
        let panel = |single: Vec<(f64, f64)>, pipelined: Vec<(f64, f64)>| {
            let series = vec![Series::new("single", single), Series::new("pipelined", pipelined)];
            [super::super::drawn(TITLE, "members", series)]
        };
        assert_eq!(outcomes(&panel(vec![(2.0, 900.0)], vec![(2.0, 300.0)])), [Holds, CannotBeJudged]);
        let flat = panel(vec![(2.0, 900.0), (8.0, 910.0)], vec![(8.0, 800.0)]);
        assert_eq!(outcomes(&flat), [DoesNot, DoesNot]);
        assert_eq!(outcomes(&shape()), [Holds, Holds]);
    }

    #[test]
    fn a_machine_is_judged_by_ticks() {
        let panels = |single: [f64; 2], few: f64, pipelined: f64| {
            let at = |[two, seven]: [f64; 2]| vec![(2.0, two), (7.0, seven)];
            let series =
                vec![Series::new("single", at(single)), Series::new("pipelined", at([few, pipelined]))];
            [super::super::drawn(vm::TICKS, "members", series)]
        };
        assert_eq!(outcomes(&panels([20.0, 30.0], 1.0, 20.0)), [Holds, Holds]);
        assert_eq!(outcomes(&panels([20.0, 20.0], 1.0, 18.0)), [DoesNot, DoesNot]);
        // With two members it saves nothing, whatever it saves with seven.
        assert_eq!(outcomes(&panels([20.0, 30.0], 20.0, 20.0)), [DoesNot, Holds]);
    }
}
