//! Rings between two pinned threads: how long one message takes, and how many go through in a second.
//!
//! ```text
//! cargo bench -p io-rings             a table
//! cargo bench -p io-rings -- --json   rows for a machine to read
//! ```
//!
//! Every candidate gets the same two cores, the same pause while it waits, and a message of one cache line: 64
//! aligned bytes for the libraries and for Xen's ring, seven words and a sequence number for URPC. Candidates take
//! turns within a round, so that whatever else the machine does meets all of them. A run in which the system took
//! a core away is not counted, and a figure is the median of the runs that are. The figures are of this machine
//! and this hour; the ratios are what is worth quoting.
//!
//! The limit is a bare cache line: a number that two threads hand to and fro, with no ring around it.

mod candidates;
mod machine;
mod measure;
mod report;

use std::time::Duration;

use candidates::CANDIDATES;
use measure::Run;
use report::Figures;

/// How much work it is: short runs, so that enough of them are left alone on a busy machine.
struct Effort {
    /// Undisturbed runs wanted of each kind.
    runs: usize,
    /// Runs tried at most.
    rounds: usize,
    round_trips: u64,
    messages: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    // `cargo bench` says so; anything else (`cargo test --benches`) only wants to see it run.
    let effort = if has("--bench") {
        Effort { runs: 101, rounds: 500, round_trips: 2_000, messages: 40_000 }
    } else {
        Effort { runs: 1, rounds: 1, round_trips: 200, messages: 2_000 }
    };
    let Some(cores) = machine::two_cores() else {
        eprintln!("rings: this process may use one core only; two threads on it would measure the scheduler");
        return;
    };
    let figures = run(&effort, cores);
    if has("--json") {
        println!("{}", report::json(&figures, &machine::description(cores)));
    } else {
        println!("{}", machine::description(cores));
        println!("{}", report::table(&figures));
    }
}

fn run(effort: &Effort, cores: [usize; 2]) -> Vec<Figures> {
    let mut samples = CANDIDATES.map(|_| (Samples::default(), Samples::default()));
    for _ in 0..effort.rounds {
        for (candidate, (latencies, streams)) in CANDIDATES.iter().zip(&mut samples) {
            latencies.add(effort.runs, || (candidate.latency)(cores, effort.round_trips));
            if let Some(stream) = candidate.stream {
                streams.add(effort.runs, || stream(cores, effort.messages));
            }
        }
    }
    let figures = CANDIDATES.iter().zip(samples).map(|(candidate, (latencies, streams))| Figures {
        name: candidate.name,
        library: candidate.library,
        one_way_ns: latencies.median().as_secs_f64() * 1e9 / (2.0 * effort.round_trips as f64),
        per_second: candidate.stream.map(|_| effort.messages as f64 / streams.median().as_secs_f64()),
    });
    figures.collect()
}

/// The times of one kind of run.
#[derive(Default)]
struct Samples {
    clean: Vec<Duration>,
    disturbed: Vec<Duration>,
}

impl Samples {
    fn add(&mut self, wanted: usize, run: impl FnOnce() -> Run) {
        if self.clean.len() < wanted {
            let Run { time, disturbed } = run();
            if disturbed { &mut self.disturbed } else { &mut self.clean }.push(time);
        }
    }

    /// Of the clean runs; of all where the machine was too busy for a single clean one.
    fn median(self) -> Duration {
        let mut times = if self.clean.is_empty() { self.disturbed } else { self.clean };
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}
