//! Which of a core's tasks can go on: one word, which whoever wakes a task may write from anywhere.
//!
//! A bit stands for a task. To wake one is one atomic instruction, from the core's own tasks as from an interrupt or
//! another thread, and none waits for another: there is no lock and no queue that could fill. Who runs the tasks takes
//! all bits at once, and a task that is woken while it runs is found again the next time.

use crate::sync::{AtomicU64, Ordering, const_unless_loom};

/// The most tasks there are: the bits of the word.
pub const TASKS: usize = 64;

/// The tasks that can go on.
#[derive(Debug)]
pub struct ReadySet(AtomicU64);

impl ReadySet {
    const_unless_loom! {
        /// None of them.
        pub fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Task `task` can go on; one that there cannot be is nobody's.
    #[inline]
    pub fn wake(&self, task: usize) {
        let bit = u32::try_from(task).ok().and_then(|task| 1_u64.checked_shl(task)).unwrap_or(0);
        // Release: what the task was woken for happens before it looks.
        self.0.fetch_or(bit, Ordering::Release);
    }

    /// Those that can go on, a bit each; from now on none, until they are woken again. To be called before they run.
    #[inline]
    pub fn take(&self) -> u64 {
        // A load first: whoever looks again and again writes nothing.
        if self.is_empty() { 0 } else { self.0.swap(0, Ordering::Acquire) }
    }

    /// Whether none can go on.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Default for ReadySet {
    fn default() -> Self {
        Self::new()
    }
}
