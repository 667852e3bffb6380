//! Counters: one that all cores share, and one that is sloppy, after Boyd-Wickizer and others, *An Analysis of Linux
//! Scalability to Many Cores* (OSDI 2010).
//!
//! A sloppy counter keeps a part of the sum with each core and brings it home when it is enough. Whoever reads the sum in
//! between reads a little less than there is.

use alloc::vec::Vec;

use super::Padded;
use super::sync::{AtomicU64, Ordering};

/// A counter for a fixed number of cores.
pub trait Counter: Send + Sync {
    /// One more, from `core`.
    fn add(&self, core: usize);

    /// The sum, as it is known.
    fn read(&self) -> u64;
}

/// All cores write one word.
#[derive(Debug, Default)]
pub struct Shared(Padded<AtomicU64>);

impl Counter for Shared {
    fn add(&self, _: usize) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

/// Each core writes its own word, and the common one once in a while.
#[derive(Debug)]
pub struct Sloppy {
    common: Padded<AtomicU64>,
    own: Vec<Padded<AtomicU64>>,
    threshold: u64,
}

impl Sloppy {
    /// For so many cores; each brings its part home when it is `threshold`.
    pub fn new(cores: usize, threshold: u64) -> Self {
        Self { common: Padded::default(), own: (0..cores).map(|_| Padded::default()).collect(), threshold }
    }

    /// How much less than the sum a reader may read.
    pub fn slack(&self) -> u64 {
        self.own.len() as u64 * self.threshold.saturating_sub(1)
    }
}

impl Counter for Sloppy {
    fn add(&self, core: usize) {
        let own = &self.own[core].0;
        // Nobody else writes it.
        let part = own.load(Ordering::Relaxed) + 1;
        if part < self.threshold {
            own.store(part, Ordering::Relaxed);
        } else {
            own.store(0, Ordering::Relaxed);
            self.common.0.fetch_add(part, Ordering::Relaxed);
        }
    }

    fn read(&self) -> u64 {
        self.common.0.load(Ordering::Relaxed)
    }
}
