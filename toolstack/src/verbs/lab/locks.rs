//! Spin locks: throughput and fairness.

use guest_kernel::labs::{Padded, locks::ALL};

use super::{
    Guests, Lab, Paper, crew, hosted,
    result::{Panel, Series, Verdict},
    stopwatch::{Bench, fairness, throughput},
};
use crate::error::Result;

/// See the module.
pub const LAB: Lab = Lab {
    name: "locks",
    title: "Spin locks: how often they change hands, and how evenly",
    paper: Paper {
        citation: "Anderson, The Performance of Spin Lock Alternatives, 1990; Mellor-Crummey and Scott, 1991",
        says: "Test-and-set collapses as cores are added, since each that waits disturbs the one that holds it; backing off \
               helps; with a queue (Anderson's array, MCS) each waits on a line of its own, and the cost hardly grows. A queue \
               costs more than test-and-set where nobody waits, and is fair.",
        shape,
    },
    note: "A thread that spins beyond the cores there are would only wait for the system to run the one that holds the lock, so \
           no more threads run than there are cores. In a virtual machine the virtual CPUs of one guest do it: how many instructions \
           a lock takes, and in which order it lets them in; what those who wait cost the one that holds it is a matter of caches.",
    on_host: Ok(measure),
    in_vm: Ok(in_vm),
    judge,
};

const RATE: &str = "Acquisitions a microsecond, all cores";
const THOUSAND: &str = "Acquisitions in 1,000 ticks, all cores";
const FAIR: &str = "Fairness (Jain): 1 is even, 1/n is one for all";

fn shape() -> Vec<Panel> {
    let cores = [1.0, 2.0, 4.0, 8.0, 16.0];
    let line =
        |name: &str, rate: &dyn Fn(f64) -> f64| Series::new(name, cores.map(|n| (n, rate(n))).to_vec());
    let series = vec![
        line("test-and-set", &|n| 10.0 / (n * n)),
        line("backoff", &|n| 9.0 / n.sqrt()),
        line("ticket", &|n| 8.0 / n),
        line("mcs", &|n| if n > 1.0 { 4.0 } else { 6.0 }),
    ];
    vec![super::drawn(RATE, "cores", series)]
}

fn measure(bench: &Bench) -> Result<Vec<Panel>> {
    let (mut rates, mut evenness) = (Vec::new(), Vec::new());
    for (name, make) in ALL {
        let (mut rate, mut even) = (Vec::new(), Vec::new());
        for cores in 1..=bench.cores() {
            let lock = make(cores);
            // What it guards: a line that goes from holder to holder, as it would.
            let guarded = Padded(std::sync::atomic::AtomicU64::new(0));
            let run = bench.rates(cores, |core| {
                use std::sync::atomic::Ordering::Relaxed;
                let token = lock.acquire(core);
                guarded.0.store(guarded.0.load(Relaxed) + 1, Relaxed);
                lock.release(core, token);
            })?;
            rate.push((cores as f64, throughput(&run)));
            let counts: Vec<u64> = run.iter().map(|(count, _)| *count).collect();
            even.push((cores as f64, fairness(&counts)));
        }
        rates.push(Series::new(name, rate));
        evenness.push(Series::new(name, even));
    }
    Ok(vec![
        hosted(bench, RATE, "cores", "acquisitions", rates),
        hosted(bench, FAIR, "cores", "index", evenness),
    ])
}

/// One guest, with a virtual CPU on each core from 1 on.
pub fn in_vm(guests: &Guests<'_>) -> Result<Vec<Panel>> {
    let cores = guests.client.machine()?.cores;
    let lines = crew::run(guests.client, "locks", (1..cores).collect())?;
    let (mut rates, mut evenness) = (Vec::new(), Vec::new());
    for (name, _) in ALL {
        let (mut rate, mut even) = (Vec::new(), Vec::new());
        for line in lines.of(name) {
            let [ticks, counts @ ..] = line else { continue };
            let cores = counts.len() as f64;
            rate.push((cores, counts.iter().sum::<u64>() as f64 * 1e3 / *ticks as f64));
            even.push((cores, fairness(counts)));
        }
        rates.push(Series::new(name, rate));
        evenness.push(Series::new(name, even));
    }
    let panel = |title: &str, y: &str, series| Panel {
        title: title.to_owned(),
        x: "cores",
        y: y.to_owned(),
        label: guests.label,
        machine: guests.machine.clone(),
        series,
    };
    Ok(vec![panel(THOUSAND, "acquisitions", rates), panel(FAIR, "index", evenness)])
}

fn judge(panels: &[Panel]) -> Vec<Verdict> {
    let [rates, evenness] = panels else { return Vec::new() };
    let most = rates.most();
    let rate = |name: &str, x: f64| rates.at(name, x);
    const QUEUE: &str = "with many cores a queue (MCS) is faster than test-and-set";
    const ALONE: &str = "where nobody waits, test-and-set is no slower than MCS";
    const EVEN: &str = "locks with an order (ticket, Anderson, MCS) are fair";
    let least_even =
        ["ticket", "anderson", "mcs"].iter().filter_map(|name| evenness.at(name, most)).reduce(f64::min);
    vec![
        Verdict::at_least(
            ALONE,
            rate("test-and-set", 1.0),
            1.0,
            rate("mcs", 1.0),
            "acquisitions of one core",
        ),
        Verdict::with_cores(EVEN, most, 2, || {
            Verdict::at_least(EVEN, least_even, 0.9, Some(1.0), "the least even of the three against 1")
        }),
        Verdict::with_cores(QUEUE, most, 4, || {
            if rates.label == "emulated" {
                return Verdict::cannot(QUEUE, super::NO_CACHES.to_owned());
            }
            Verdict::at_least(
                QUEUE,
                rate("mcs", most),
                1.0,
                rate("test-and-set", most),
                &format!("{most} cores"),
            )
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::result::Outcome::{self, CannotBeJudged, DoesNot, Holds};

    fn outcomes(most: f64, mcs: f64, even: f64) -> Vec<Outcome> {
        let two = |name: &str, first, last| Series::new(name, vec![(1.0, first), (most, last)]);
        let rates = vec![two("test-and-set", 10.0, 3.0), two("mcs", 6.0, mcs)];
        let evenness = ["ticket", "anderson", "mcs"].map(|name| two(name, 1.0, even)).to_vec();
        let panels =
            [super::super::drawn(RATE, "cores", rates), super::super::drawn(FAIR, "cores", evenness)];
        judge(&panels).into_iter().map(|verdict| verdict.outcome).collect()
    }

    #[test]
    fn judged_by_the_figures() {
        assert_eq!(outcomes(2.0, 5.0, 0.99), [Holds, Holds, CannotBeJudged]);
        assert_eq!(outcomes(8.0, 5.0, 0.6), [Holds, DoesNot, Holds]);
        assert_eq!(outcomes(8.0, 2.0, 1.0), [Holds, Holds, DoesNot]);
    }

    #[test]
    fn a_quick_run_measures_every_lock() {
        let panels = measure(&Bench::host(true)).unwrap();
        assert!(panels.iter().all(|panel| panel.series.len() == ALL.len()));
        assert!(panels[0].series.iter().all(|series| series.points.iter().all(|point| point.1 > 0.0)));
    }
}
