//! Threads that are pinned to processors, and how long they take.

use std::{
    hint, panic,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    verbs::topology::host,
};

/// What a lab may use.
#[derive(Clone, Debug)]
pub struct Bench {
    /// Processors, by the system's numbers; never more threads than those.
    pub processors: Vec<usize>,
    /// Small sizes: the figures mean little.
    pub quick: bool,
    /// What it is called in findings.
    pub machine: String,
}

impl Bench {
    /// This computer.
    pub fn host(quick: bool) -> Self {
        Self { processors: host::processors(), quick, machine: host::description() }
    }

    /// How many threads may run at a time.
    pub fn cores(&self) -> usize {
        self.processors.len()
    }

    /// How long one run of a lab that runs for a while is.
    pub fn span(&self) -> Duration {
        Duration::from_millis(if self.quick { 1 } else { 4 })
    }

    /// How long to try for runs that nobody disturbs.
    fn patience(&self) -> Duration {
        if self.quick { Duration::ZERO } else { Duration::from_millis(800) }
    }

    /// How many runs count.
    pub fn runs(&self) -> usize {
        if self.quick { 1 } else { 9 }
    }

    /// So many operations in a lab that counts them.
    pub fn operations(&self, usual: u64) -> u64 {
        if self.quick { usual.div_ceil(100) } else { usual }
    }

    /// Keeps all processors busy for a while, so that the first lab finds them as the later ones do.
    pub fn warm_up(&self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < self.patience() {
            self.together(self.cores(), |_, stop| {
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            })?;
        }
        Ok(())
    }

    /// Runs `work` on each of the first `cores` processors at once, from a common start; what each returned. Whoever works
    /// for a while looks now and then whether it shall stop, which is said after [`Bench::span`]. `work` of core 0 may
    /// say so earlier.
    pub fn together<T: Send>(
        &self,
        cores: usize,
        work: impl Fn(usize, &AtomicBool) -> T + Sync,
    ) -> Result<Vec<T>> {
        let cores = cores.min(self.cores());
        let (ready, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let run = |core: usize| {
            let pinned = host::pin(self.processors[core]);
            ready.fetch_add(1, Ordering::AcqRel);
            while ready.load(Ordering::Acquire) < cores {
                hint::spin_loop();
            }
            pinned.then(|| work(core, &stop))
        };
        let returned: Vec<Option<T>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || run(core))).collect();
            while ready.load(Ordering::Acquire) < cores {
                thread::yield_now();
            }
            let begun = Instant::now();
            while begun.elapsed() < self.span() && !stop.load(Ordering::Relaxed) {
                thread::sleep(self.span() / 4);
            }
            stop.store(true, Ordering::Relaxed);
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|lost| panic::resume_unwind(lost)))
                .collect()
        });
        returned.into_iter().collect::<Option<_>>().ok_or_else(|| {
            Error::new(
                "a thread cannot be kept on a processor",
                "look at `taskset -p $$`: labs pin their threads",
            )
        })
    }

    /// Operations of each of `cores` that do nothing else for the span, and the time that each took. Of runs in which the
    /// system took no core away, or of all if there is none, the one in the middle by what was done. The very first does
    /// not count.
    pub fn rates(&self, cores: usize, operation: impl Fn(usize) + Sync) -> Result<Vec<(u64, Duration)>> {
        let (mut quiet, mut disturbed) = (Vec::new(), Vec::new());
        if !self.quick {
            self.together(cores, |core, stop| {
                while !stop.load(Ordering::Relaxed) {
                    operation(core);
                }
            })?;
        }
        let begun = Instant::now();
        while disturbed.is_empty() && quiet.is_empty() || begun.elapsed() < self.patience() {
            let run = self.together(cores, |core, stop| {
                let before = preemptions();
                let (begun, mut count) = (Instant::now(), 0u64);
                loop {
                    for _ in 0..64 {
                        operation(core);
                    }
                    count += 64;
                    if stop.load(Ordering::Relaxed) {
                        return ((count, begun.elapsed()), preemptions() == before);
                    }
                }
            })?;
            let (run, undisturbed): (Vec<_>, Vec<bool>) = run.into_iter().unzip();
            let runs = if undisturbed.into_iter().all(|quiet| quiet) { &mut quiet } else { &mut disturbed };
            runs.push(run);
            if quiet.len() == self.runs() {
                break;
            }
        }
        let mut runs = if quiet.is_empty() { disturbed } else { quiet };
        runs.sort_by(|one, other| throughput(one).total_cmp(&throughput(other)));
        let middle = runs.len() / 2;
        Ok(runs.into_iter().nth(middle).unwrap_or_default())
    }

    /// The least of several runs of something that says what it took.
    pub fn least(&self, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
        (0..self.runs() * 4).try_fold(f64::INFINITY, |least, _| Ok(run()?.min(least)))
    }
}

/// How often the system has taken the core from the calling thread; without `/proc`, always the same.
fn preemptions() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let count = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
    count.trim().parse().ok()
}

/// Operations of all in a microsecond.
pub fn throughput(run: &[(u64, Duration)]) -> f64 {
    run.iter().map(|(count, time)| *count as f64 / time.as_secs_f64().max(1e-9) / 1e6).sum()
}

/// What an operation took each, in nanoseconds, on average over all.
pub fn each(run: &[(u64, Duration)]) -> f64 {
    let count: u64 = run.iter().map(|(count, _)| count).sum();
    run.iter().map(|(_, time)| time.as_nanos() as f64).sum::<f64>() / count.max(1) as f64
}

/// How evenly they got their turn: 1 where all had as many, 1/n where one had all (Jain's index).
pub fn fairness(counts: &[u64]) -> f64 {
    let all = || counts.iter().map(|&count| count as f64);
    let (sum, squares) = (all().sum::<f64>(), all().map(|count| count * count).sum::<f64>());
    if squares > 0.0 { sum * sum / (squares * counts.len() as f64) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rates_say() {
        let second = Duration::from_secs(1);
        let run = [(3_000_000, second), (1_000_000, second)];
        assert_eq!((throughput(&run), each(&run)), (4.0, 500.0));
        assert_eq!(fairness(&[3, 1]), 0.8);
        assert_eq!(fairness(&[5, 0]), 0.5);
        assert_eq!(fairness(&[]), 1.0);
    }

    #[test]
    fn all_run_until_they_are_told() {
        let bench = Bench::host(true);
        let run = bench.rates(bench.cores(), |_| ()).unwrap();
        assert_eq!(run.len(), bench.cores());
        assert!(run.iter().all(|(count, _)| *count >= 64));
        let early = bench.together(1, |core, stop| {
            stop.store(true, Ordering::Relaxed);
            core
        });
        assert_eq!(early.unwrap(), [0]);
    }
}
