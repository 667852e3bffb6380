//! Shared memory against messages.

use std::{hint, time::Instant};

use guest_kernel::labs::SharedLines;
use io_rings::urpc::{ChannelPage, Receiver, Sender};

use super::{
    Lab, Paper, hosted,
    result::{Panel, Series, Verdict},
    stopwatch::{Bench, each},
};
use crate::error::{Error, Result};

/// See the module.
pub const LAB: Lab = Lab {
    name: "shared-memory",
    title: "What it costs to update shared cache lines, and to have one core do it by message",
    paper: Paper {
        citation: "Baumann et al., The Multikernel, SOSP 2009, Fig. 3",
        says: "On four packages of four cores: an update of shared lines costs more with each core that takes part and with \
               each line; a message to a core that does it costs nearly the same for one line and for eight. From some four \
               cores and four to eight lines on, messages are cheaper.",
        shape,
    },
    note: "Messages need a core for the server, \
           so with n cores there are n-1 clients.",
    on_host: Ok(measure),
    in_vm: Err(super::NO_CACHES),
    judge,
};

const LINES: [usize; 4] = [1, 2, 4, 8];
const TITLE: &str = "An update";

/// Costs in units of the cheapest; the slopes are drawn, not measured.
fn shape() -> Vec<Panel> {
    let cores = [1.0, 2.0, 4.0, 8.0, 16.0];
    let series = vec![
        Series::drawn("SHM1", &cores, |n| n),
        Series::drawn("SHM8", &cores, |n| 1.0 + 8.0 * (n - 1.0)),
        Series::drawn("MSG1", &cores, |n| 12.0 + n / 2.0),
        Series::drawn("MSG8", &cores, |n| 14.0 + n / 2.0),
    ];
    vec![super::drawn(TITLE, "cores", series)]
}

fn measure(bench: &Bench) -> Result<Vec<Panel>> {
    let mut series = Vec::new();
    for lines in LINES {
        let mut points = Vec::new();
        for cores in 1..=bench.cores() {
            let shared = SharedLines::default();
            points.push((cores as f64, each(&bench.rates(cores, |_| shared.update(lines))?)));
        }
        series.push(Series::new(format!("SHM{lines}"), points));
    }
    for lines in [1, 8] {
        let mut points = Vec::new();
        for cores in 2..=bench.cores() {
            points.push((cores as f64, bench.least(|| calls(bench, cores, lines))?));
        }
        series.push(Series::new(format!("MSG{lines}"), points));
    }
    Ok(vec![hosted(bench, TITLE, "cores", "ns each", series)])
}

/// What a call costs each of the clients, on cores from 1 on, of a server on core 0.
fn calls(bench: &Bench, cores: usize, lines: usize) -> Result<f64> {
    let calls = bench.operations(5_000);
    let pages: Vec<[ChannelPage; 2]> = (1..cores).map(|_| [ChannelPage::new(), ChannelPage::new()]).collect();
    let shared = SharedLines::default();
    let times = bench.together(cores, |core, _| {
        if core == 0 {
            return serve(&pages, &shared, lines, calls * pages.len() as u64).then_some(0.0);
        }
        let [there, back] = &pages[core - 1];
        let (mut ask, mut hear) = (Sender::new(there), Receiver::new(back));
        let begun = Instant::now();
        for number in 0..calls {
            ask.try_send(&[number, 0, 0, 0, 0, 0, 0]).ok()?;
            while hear.try_receive().ok()?.is_none() {
                hint::spin_loop();
            }
        }
        Some(begun.elapsed().as_nanos() as f64 / calls as f64)
    })?;
    let times: Option<Vec<f64>> = times.into_iter().collect();
    let times =
        times.ok_or_else(|| Error::new("a channel broke between two threads", "this is a bug: report it"))?;
    Ok(times.iter().sum::<f64>() / (cores - 1) as f64)
}

/// Updates the lines, and answers, so many times; false if a channel broke.
fn serve(pages: &[[ChannelPage; 2]], shared: &SharedLines, lines: usize, calls: u64) -> bool {
    let mut ends: Vec<_> =
        pages.iter().map(|[there, back]| (Receiver::new(there), Sender::new(back))).collect();
    let mut left = calls;
    while left > 0 {
        for (hear, answer) in &mut ends {
            match hear.try_receive() {
                Ok(Some(message)) => {
                    shared.update(lines);
                    if answer.try_send(&message).is_err() {
                        return false;
                    }
                    left -= 1;
                }
                Ok(None) => hint::spin_loop(),
                Err(_) => return false,
            }
        }
    }
    true
}

fn judge(panels: &[Panel]) -> Vec<Verdict> {
    let Some(panel) = panels.first() else { return Vec::new() };
    let most = panel.most();
    let at = |name: &str, x: f64| panel.at(name, x);
    vec![
        Verdict::with_cores("more cores make an update of shared lines dearer", most, 2, || {
            let what = format!("8 lines, {most} cores against 1");
            Verdict::at_least(
                "more cores make an update of shared lines dearer",
                at("SHM8", most),
                2.0,
                at("SHM8", 1.0),
                &what,
            )
        }),
        Verdict::with_cores("more lines make it dearer", most, 2, || {
            let what = format!("{most} cores, 8 lines against 1");
            Verdict::at_least("more lines make it dearer", at("SHM8", most), 2.0, at("SHM1", most), &what)
        }),
        Verdict::with_cores("a message costs nearly the same for 8 lines as for 1", most, 2, || {
            let what = format!("{most} cores, 1 line against 8");
            let claim = "a message costs nearly the same for 8 lines as for 1";
            Verdict::at_least(claim, at("MSG1", most), 0.7, at("MSG8", most), &what)
        }),
        Verdict::with_cores(
            "from four cores on a message is cheaper than eight shared lines",
            most,
            4,
            || {
                let claim = "from four cores on a message is cheaper than eight shared lines";
                Verdict::at_least(
                    claim,
                    at("SHM8", most),
                    1.0,
                    at("MSG8", most),
                    &format!("{most} cores, SHM8 against MSG8"),
                )
            },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::result::Outcome;

    fn panel(most: u32, shm8: f64, msg8: f64) -> Panel {
        let two = |name: &str, first: f64, last: f64| {
            Series::new(name, vec![(1.0, first), (f64::from(most), last)])
        };
        let series = vec![
            two("SHM1", 1.0, shm8 / 5.0),
            two("SHM8", 8.0, shm8),
            Series::new("MSG1", vec![(f64::from(most), msg8 * 0.9)]),
            Series::new("MSG8", vec![(f64::from(most), msg8)]),
        ];
        super::super::drawn(TITLE, "cores", series)
    }

    #[test]
    fn judged_by_the_figures() {
        let outcomes =
            |panel: Panel| judge(&[panel]).into_iter().map(|verdict| verdict.outcome).collect::<Vec<_>>();
        use Outcome::{CannotBeJudged, DoesNot, Holds};
        assert_eq!(outcomes(panel(2, 900.0, 300.0)), [Holds, Holds, Holds, CannotBeJudged]);
        assert_eq!(outcomes(panel(8, 900.0, 300.0)), [Holds; 4]);
        assert_eq!(outcomes(panel(8, 10.0, 300.0)), [DoesNot, Holds, Holds, DoesNot]);
        assert_eq!(
            judge(&shape()).into_iter().map(|verdict| verdict.outcome).collect::<Vec<_>>(),
            [Holds; 4]
        );
    }
}
