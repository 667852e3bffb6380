//! The kernel's own end.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::xen::sched::reason;

use super::{console, hypercall};

/// How long the last words may take to be read.
const LAST_WORDS_TICKS: u64 = 100_000_000;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    // A panic while telling of a panic tells nothing.
    if !PANICKED.swap(true, Ordering::Relaxed) {
        match info.location() {
            Some(place) => console::Printer::line(format_args!(
                "panic: {} ({}:{})",
                info.message(),
                place.file(),
                place.line()
            )),
            None => console::Printer::line(format_args!("panic: {}", info.message())),
        }
        console::drain(LAST_WORDS_TICKS);
    }
    hypercall::shutdown(reason::CRASH)
}
