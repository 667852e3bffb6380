//! The hypervisor's only heap: room for the tables that the instruction decoder makes when it is first used, at boot
//! ([`crate::devices::decode::prepare`]). What is given out is never taken back.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

const BYTES: usize = 512 << 10;

/// Memory that is given out from its start to its end.
#[derive(Debug)]
pub struct Arena {
    memory: UnsafeCell<[u128; BYTES / 16]>,
    used: AtomicUsize,
}

// SAFETY: each piece of the memory is given to one caller.
unsafe impl Sync for Arena {}

impl Arena {
    /// All of it free.
    pub const fn new() -> Self {
        Self { memory: UnsafeCell::new([0; BYTES / 16]), used: AtomicUsize::new(0) }
    }

    /// A piece; null where there is no room.
    pub fn take(&self, layout: Layout) -> *mut u8 {
        let start = self.memory.get().cast::<u8>();
        let place = |used: usize| {
            let at = (start as usize + used).next_multiple_of(layout.align()) - start as usize;
            at.checked_add(layout.size()).filter(|&end| end <= BYTES).map(|end| (at, end))
        };
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(place(used)?.1));
        taken.ok().and_then(place).map_or(core::ptr::null_mut(), |(at, _)| start.wrapping_add(at))
    }

    /// Bytes that are given out.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_gives_each_byte_once() {
        static HEAP: Arena = Arena::new();
        let take = |size, align| HEAP.take(Layout::from_size_align(size, align).unwrap()) as usize;
        let (one, other) = (take(3, 1), take(64, 64));
        assert!(one != 0 && other >= one + 3 && other % 64 == 0);
        assert_eq!(take(BYTES, 1), 0);
        assert!(take(BYTES - 256, 1) != 0);
    }
}
