//! Ends: `end=NAME` on the command line chooses one, instead of the checks.

use abi::xen::hypercall::SCHED_OP;
use abi::xen::sched::{self as op, Shutdown, Watchdog, reason};
use guest_kernel::platform::atoll::cpu;
use guest_kernel::say;

use crate::call::{call, with};

/// A reason for a shutdown that means nothing to anybody.
const OF_ITS_OWN: u32 = 77;

/// Comes to its end.
pub fn meet(end: &str) -> ! {
    say!("abi: {end}");
    match end {
        // Nobody feeds it, because nobody is awake.
        "watchdog" => {
            with(SCHED_OP, op::WATCHDOG, &mut Watchdog { id: 0, timeout: 1 });
        }
        // The same in the hypervisor's own waiting.
        "watchdog-blocked" => {
            with(SCHED_OP, op::WATCHDOG, &mut Watchdog { id: 0, timeout: 1 });
            loop {
                call(SCHED_OP, [op::BLOCK, 0, 0, 0, 0]);
            }
        }
        "code" => {
            with(SCHED_OP, op::SHUTDOWN_CODE, &mut Shutdown { reason: OF_ITS_OWN });
            with(SCHED_OP, op::SHUTDOWN_CODE, &mut Shutdown { reason: reason::CRASH });
            with(SCHED_OP, op::SHUTDOWN, &mut Shutdown { reason: reason::POWEROFF });
        }
        // A reason is a byte.
        "reason" => {
            with(SCHED_OP, op::SHUTDOWN, &mut Shutdown { reason: 0x100 | OF_ITS_OWN });
        }
        _ => say!("abi: no such end"),
    }
    cpu::halt_for_ever()
}
