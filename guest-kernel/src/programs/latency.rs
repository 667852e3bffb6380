//! How long answers take: counts by size, a sixteenth of a power of two apart, so that any number of them has room.

use alloc::vec;
use alloc::vec::Vec;

/// Sizes within a power of two, as a power of two.
const STEP_BITS: u32 = 4;
const STEPS: usize = 1 << STEP_BITS;

/// Times, in ticks.
#[derive(Clone, Debug)]
pub struct Latency {
    counts: Vec<u64>,
    number: u64,
    most: u64,
}

impl Latency {
    /// None yet.
    pub fn new() -> Self {
        Self { counts: vec![0; STEPS * 64], number: 0, most: 0 }
    }

    /// One more.
    pub fn add(&mut self, ticks: u64) {
        if let Some(count) = self.counts.get_mut(index(ticks)) {
            *count += 1;
        }
        self.number += 1;
        self.most = self.most.max(ticks);
    }

    /// How many there are.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The longest.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// What so many hundredths of them take at most, up to a sixteenth too much.
    pub fn hundredths(&self, hundredths: u64) -> u64 {
        let wanted = (self.number * hundredths).div_ceil(100);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(self.most, |index| upper(index).min(self.most))
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

fn index(ticks: u64) -> usize {
    let octave = ticks.max(1).ilog2().saturating_sub(STEP_BITS);
    octave as usize * STEPS + (ticks >> octave) as usize
}

/// The largest that has this index.
fn upper(index: usize) -> u64 {
    if index < 2 * STEPS {
        return index as u64;
    }
    let octave = index / STEPS - 1;
    (((index % STEPS + STEPS) as u64 + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hundred() {
        let mut latency = Latency::new();
        (1..=100).for_each(|ticks| latency.add(ticks));
        assert_eq!((latency.number(), latency.most()), (100, 100));
        assert_eq!((latency.hundredths(10), latency.hundredths(100)), (10, 100));
        assert!((50..54).contains(&latency.hundredths(50)));
    }

    proptest! {
        #[test]
        fn what_is_told_is_hardly_too_much(ticks in 0u64..1 << 60) {
            let told = upper(index(ticks));
            prop_assert!(told >= ticks && told - ticks <= ticks / 16);
        }
    }
}
