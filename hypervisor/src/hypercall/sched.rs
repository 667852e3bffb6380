//! `sched_op`: a core has one domain, so there is nobody to yield to.

use abi::address::GuestVirt;
use abi::control::hypercall::DomainState;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::sched;

use super::arguments;
use crate::core::Core;

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    match operation {
        sched::YIELD => Ok(0),
        sched::SHUTDOWN => {
            let shutdown: sched::Shutdown = core.guest_memory()?.read(GuestVirt::new(argument))?;
            match shutdown.reason {
                sched::reason::POWEROFF..=sched::reason::CRASH => {
                    core.stop_domain(DomainState::Shutdown, shutdown.reason);
                    Ok(0)
                }
                _ => Err(Errno::EINVAL),
            }
        }
        _ => Err(Errno::ENOSYS),
    }
}
