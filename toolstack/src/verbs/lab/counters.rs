//! A sloppy counter against one that all cores share.

use guest_kernel::labs::counters::{Counter, Shared, Sloppy};

use super::{
    Lab, Paper, hosted,
    result::{Panel, Series, Verdict},
    stopwatch::{Bench, each},
};
use crate::error::Result;

/// See the module.
pub const LAB: Lab = Lab {
    name: "counters",
    title: "What it costs to count: one counter for all, and a sloppy one",
    paper: Paper {
        citation: "Boyd-Wickizer et al., An Analysis of Linux Scalability to Many Cores, OSDI 2010",
        says: "A counter that all cores write is a cache line that goes round: an increment costs more with each core. A sloppy \
               one, of which each core keeps a part, costs the same on one core and on 48; whoever reads it reads a little less.",
        shape,
    },
    note: "A sloppy counter takes more instructions than a shared one; what it saves is cache lines that move.",
    on_host: Ok(measure),
    in_vm: Err(super::NO_CACHES),
    judge,
};

const TITLE: &str = "An increment";
/// As much as a core keeps before it brings it home.
const THRESHOLDS: [u64; 2] = [16, 1024];

fn shape() -> Vec<Panel> {
    let cores = [1.0, 2.0, 4.0, 8.0, 16.0, 48.0];
    vec![super::drawn(
        TITLE,
        "cores",
        vec![Series::drawn("shared", &cores, |n| n), Series::drawn("sloppy 1024", &cores, |_| 1.0)],
    )]
}

fn measure(bench: &Bench) -> Result<Vec<Panel>> {
    let run = |name: String, make: &dyn Fn(usize) -> Box<dyn Counter>| -> Result<Series> {
        let mut points = Vec::new();
        for cores in 1..=bench.cores() {
            let counter = make(cores);
            points.push((cores as f64, each(&bench.rates(cores, |core| counter.add(core))?)));
        }
        Ok(Series::new(name, points))
    };
    let mut series = vec![run("shared".to_owned(), &|_| Box::<Shared>::default())?];
    for threshold in THRESHOLDS {
        series.push(run(format!("sloppy {threshold}"), &|cores| Box::new(Sloppy::new(cores, threshold)))?);
    }
    Ok(vec![hosted(bench, TITLE, "cores", "ns each", series)])
}

fn judge(panels: &[Panel]) -> Vec<Verdict> {
    let Some(panel) = panels.first() else { return Vec::new() };
    let (most, at) = (panel.most(), |name: &str, x: f64| panel.at(name, x));
    const GROWS: &str = "a shared counter costs more with more cores";
    const FLAT: &str = "a sloppy counter costs the same";
    const CHEAPER: &str = "so with more cores it is cheaper";
    let what = format!("{most} cores against 1");
    vec![
        Verdict::with_cores(GROWS, most, 2, || {
            Verdict::at_least(GROWS, at("shared", most), 1.5, at("shared", 1.0), &what)
        }),
        Verdict::with_cores(FLAT, most, 2, || {
            Verdict::at_least(
                FLAT,
                at("sloppy 1024", 1.0),
                0.6,
                at("sloppy 1024", most),
                "1 core against all",
            )
        }),
        Verdict::with_cores(CHEAPER, most, 2, || {
            let what = format!("{most} cores, shared against sloppy");
            Verdict::at_least(CHEAPER, at("shared", most), 2.0, at("sloppy 1024", most), &what)
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::result::Outcome::{self, CannotBeJudged, DoesNot, Holds};

    fn outcomes(most: f64, shared: f64, sloppy: f64) -> Vec<Outcome> {
        let two = |name: &str, first, last| Series::new(name, vec![(1.0, first), (most, last)]);
        let series = vec![two("shared", 5.0, shared), two("sloppy 1024", 2.0, sloppy)];
        let panel = super::super::drawn(TITLE, "cores", series);
        judge(&[panel]).into_iter().map(|verdict| verdict.outcome).collect()
    }

    #[test]
    fn judged_by_the_figures() {
        assert_eq!(outcomes(2.0, 40.0, 2.1), [Holds; 3]);
        assert_eq!(outcomes(2.0, 6.0, 4.0), [DoesNot; 3]);
        assert_eq!(outcomes(1.0, 5.0, 2.0), [CannotBeJudged; 3]);
    }
}
