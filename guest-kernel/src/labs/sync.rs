//! The atomics: core's, or loom's when a model explores every ordering.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A turn of a loop that waits.
#[inline]
pub fn pause() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// As many turns; one, under a model that has no time.
#[inline]
pub(super) fn pauses(count: usize) {
    let count = if cfg!(loom) { count.min(1) } else { count };
    for _ in 0..count {
        pause();
    }
}
