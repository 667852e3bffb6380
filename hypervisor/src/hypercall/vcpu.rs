//! `vcpu_op`: the virtual CPUs of the caller's domain.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::GuestVirt;
use abi::control::hypercall::DomainState;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall::vcpu as op;
use abi::xen::sched::reason;
use abi::xen::vcpu::HvmContext;

use super::{arguments, vcpu_time};
use crate::checks::start::Start;
use crate::core::Core;
use crate::core::face::FACES;
use crate::core::guest_state::CR4_ALLOWED;
use crate::core::message::Request;

#[inline]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, vcpu, argument, ..] = arguments(core);
    // A number of 32 bits, as Xen takes it.
    let vcpu = vcpu as u32 as usize;
    let on = core.domain()?.core_of(vcpu).ok_or(Errno::ENOENT)?;
    match operation {
        op::IS_UP => Ok(FACES[on].up.load(Relaxed).into()),
        op::SET_SINGLESHOT_TIMER => vcpu_time::set_singleshot(core, on, argument),
        other => rare(core, other, vcpu, on, argument),
    }
}

#[inline(never)]
fn rare(core: &mut Core, operation: u64, vcpu: usize, on: usize, argument: u64) -> HypercallResult {
    match operation {
        op::INITIALISE => {
            let context: HvmContext = core.guest_memory()?.read(GuestVirt::new(argument))?;
            if FACES[on].up.load(Relaxed) != 0 {
                return Err(Errno::EEXIST);
            }
            let start = Start::from_guest(&context, CR4_ALLOWED)?;
            core.ask(on, Request::Initialise { start: &raw const start as u64 })
        }
        op::UP => core.ask(on, Request::Up),
        op::DOWN => down(core, vcpu, on),
        op::SEND_NMI if argument != 0 => Err(Errno::EINVAL),
        op::SEND_NMI => core.ask(on, Request::Nmi),
        other => vcpu_time::handle(core, other, vcpu, on, argument),
    }
}

/// When the last virtual CPU that is up goes down the domain is off.
fn down(core: &mut Core, vcpu: usize, on: usize) -> HypercallResult {
    let up = |core: &u8| FACES[usize::from(*core)].up.load(Relaxed) != 0;
    let others = core.domain()?.cores.iter().enumerate().any(|(other, core)| other != vcpu && up(core));
    if others {
        return core.ask(on, Request::Down);
    }
    core.stop_domain(DomainState::Shutdown, reason::POWEROFF);
    Ok(0)
}
