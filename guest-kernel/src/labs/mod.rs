//! What the labs measure: the algorithms of the papers that `atoll lab` replays, in safe code over atomics.
//!
//! Here is what is run, not who runs or times it: [`locks`] and [`counters`] are shared memory as the papers have it,
//! [`messages`] go between two cores, [`shootdown`] tells all of them of something over the rings or by one shared line, and, on the host, [`members`] are
//! whole monitors on threads. The toolstack pins threads, measures and judges.

pub mod counters;
pub mod locks;
#[cfg(any(test, feature = "hosted"))]
pub mod members;
pub mod messages;
pub mod shootdown;
mod sync;

use sync::Ordering;
pub use sync::pause;

/// A value on cache lines of its own: two, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

/// Shared lines that several cores update without a lock, as in Fig. 3 of the multikernel paper: each update reads and
/// writes a word of each of the first `lines`.
#[derive(Debug, Default)]
pub struct SharedLines([Padded<sync::AtomicU64>; SharedLines::MOST]);

impl SharedLines {
    /// The most lines.
    pub const MOST: usize = 8;

    /// One update. Others' updates may be lost, which is not the point.
    pub fn update(&self, lines: usize) {
        for Padded(word) in self.0.iter().take(lines) {
            let value = word.load(Ordering::Relaxed);
            word.store(value.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// The words.
    pub fn values(&self) -> [u64; Self::MOST] {
        core::array::from_fn(|line| self.0[line].0.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
