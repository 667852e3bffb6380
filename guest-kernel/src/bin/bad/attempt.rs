//! Instructions that may fault: the fault is counted, and the program goes on behind them.

use core::sync::atomic::{AtomicU64, Ordering};

use boot::descriptors::InterruptFrame;
use guest_kernel::platform::atoll::interrupts;

/// Where to go on after a fault; 0: a fault is not expected. Set by [`attempt!`].
pub static RESUME: AtomicU64 = AtomicU64::new(0);
/// Faults taken so far.
static FAULTS: AtomicU64 = AtomicU64::new(0);

/// A vector that this program interrupts itself with, though it is an exception's: nothing is to be mended then.
pub const STRAY: u64 = 0x10;

/// Runs assembly that may fault: instructions, a semicolon, operands. After a fault it goes on behind the last of them,
/// with whatever the registers held.
macro_rules! attempt {
    ($($line:literal),+ ; $($operands:tt)*) => {
        core::arch::asm!(
            "lea {attempt_resume}, [rip + 2f]",
            "mov [rip + {attempt_slot}], {attempt_resume}",
            $($line,)+
            "2:",
            "mov qword ptr [rip + {attempt_slot}], 0",
            attempt_resume = out(reg) _,
            attempt_slot = sym $crate::attempt::RESUME,
            $($operands)*
        )
    };
}
pub(crate) use attempt;

/// From here on faults are expected.
pub fn install() {
    interrupts::on_exception(step_over);
}

/// Faults taken since the last call.
pub fn take_faults() -> u64 {
    FAULTS.swap(0, Ordering::Relaxed)
}

fn step_over(frame: &mut InterruptFrame) -> bool {
    let resume = RESUME.swap(0, Ordering::Relaxed);
    if resume == 0 {
        return frame.vector == STRAY;
    }
    FAULTS.fetch_add(1, Ordering::Relaxed);
    frame.rip = resume;
    true
}
