//! Frames whose owner gave them up while others had them mapped, and which nobody has any more: on their way to core 0.
//!
//! Whoever drops the last share is in the middle of something else, so it does not ask core 0 to take the frame: it strings
//! it to a list, by the frame's own first word. Core 0 takes all of the list when it looks for free frames or is asked how
//! many there are.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::address::HostPhys;

use super::frame_table::words;
use super::physical::pointer;

/// The first of them; 0: there is none.
static FIRST: AtomicU64 = AtomicU64::new(0);

/// Drops a share of a frame.
#[inline]
pub fn drop_share(frame: HostPhys) {
    if words().unshare(frame) {
        put(frame);
    }
}

#[cold]
fn put(frame: HostPhys) {
    let mut first = FIRST.load(Ordering::Relaxed);
    loop {
        // SAFETY: nobody owns the frame and nobody has it mapped: it is ours until it is on the list.
        unsafe { pointer::<u64>(frame).write(first) };
        match FIRST.compare_exchange_weak(first, frame.as_u64(), Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(other) => first = other,
        }
    }
}

/// Takes all of them: core 0 alone does.
pub fn take_all(mut each: impl FnMut(HostPhys)) {
    if FIRST.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut next = FIRST.swap(0, Ordering::Acquire);
    while next != 0 {
        let frame = HostPhys::new(next);
        // SAFETY: it was on the list, which is ours now.
        next = unsafe { pointer::<u64>(frame).read() };
        each(frame);
    }
}
