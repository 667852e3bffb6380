//! Samples and what is said of them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Samples that count, of each row.
pub const SAMPLES: usize = 1000;
/// Samples before them, that do not.
pub const WARM_UP: usize = 100;

/// Samples of one row.
pub struct Row {
    name: &'static str,
    samples: Vec<u64>,
    wanted: usize,
    to_skip: usize,
}

impl Row {
    /// A row without samples.
    pub fn new(name: &'static str) -> Self {
        Self::of(name, SAMPLES, WARM_UP)
    }

    /// A row of so many samples, after so many that do not count: for what takes long.
    pub fn of(name: &'static str, samples: usize, warm_up: usize) -> Self {
        Self { name, samples: Vec::with_capacity(samples), wanted: samples, to_skip: warm_up }
    }

    /// Whether it has all its samples.
    pub fn is_complete(&self) -> bool {
        self.samples.len() >= self.wanted
    }

    /// Adds a sample: `ticks` for `operations` of them.
    pub fn add(&mut self, ticks: u64, operations: u64) {
        if self.to_skip > 0 {
            self.to_skip -= 1;
        } else if !self.is_complete() {
            self.samples.push((ticks + operations / 2) / operations.max(1));
        }
    }

    /// The row as the toolstack reads it, or nothing where it has no sample.
    pub fn line(mut self) -> Option<String> {
        let count = self.samples.len();
        self.samples.sort_unstable();
        let median = self.samples.get(count / 2)?;
        Some(format!(
            r#"bench: {{"name":"{}","median":{median},"unit":"instructions","samples":{count}}}"#,
            self.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_what_came_after_warming_up() {
        let mut row = Row::new("x");
        for _ in 0..WARM_UP {
            row.add(1_000_000, 1);
        }
        for sample in 0..SAMPLES as u64 {
            row.add(sample * 10 + 4, 10);
        }
        assert!(row.is_complete());
        row.add(1, 1);
        assert_eq!(
            row.line().unwrap(),
            r#"bench: {"name":"x","median":500,"unit":"instructions","samples":1000}"#
        );
    }

    #[test]
    fn no_sample_no_row() {
        assert_eq!(Row::new("x").line(), None);
    }
}
