//! `sched_op`: waiting, and the end.
//!
//! A virtual CPU has its core for itself, so there is nobody to yield to, and to wait is to halt. Where interrupts are on,
//! the guest itself is halted, as by HLT, and whatever comes ends it without the hypervisor. Where they are off, nothing
//! would: then the hypervisor looks, for a while, and lets the guest make the call again, so that timers and other
//! cores get their turn.

use abi::address::GuestVirt;
use abi::control::hypercall::DomainState;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::sched as op;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering::Relaxed;
use vmx::field;

use super::{arguments, caller, exists};
use crate::core::Core;
use crate::core::message::Request;
use crate::domain::{Domain, NO_CODE};
use crate::events;
use crate::machine::Patience;

/// Looks before the guest makes its call again.
const LOOKS: u32 = 1000;

const INTERRUPTS_ON: u64 = 1 << 9;
/// GUEST_ACTIVITY: halted.
const HALTED: u32 = 1;

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    let at = GuestVirt::new(argument);
    match u64::from(operation as u32) {
        op::YIELD => Ok(0),
        op::BLOCK => block(core),
        op::POLL => poll(core, at),
        op::SHUTDOWN => {
            let shutdown: op::Shutdown = core.guest_memory()?.read(at)?;
            let reason = reason(core.domain()?, shutdown.reason);
            core.stop_domain(DomainState::Shutdown, reason);
            // It returns only where a suspension is over, with all that the domain had: what Xen calls cancelled.
            Ok(u64::from(reason == op::reason::SUSPEND))
        }
        op::SHUTDOWN_CODE => {
            let shutdown: op::Shutdown = core.guest_memory()?.read(at)?;
            reason(core.domain()?, shutdown.reason);
            Ok(0)
        }
        op::REMOTE_SHUTDOWN => remote_shutdown(core, at),
        op::WATCHDOG => {
            let op::Watchdog { id, timeout } = core.guest_memory()?.read(at)?;
            let home = core.domain()?.home();
            core.ask(home, Request::Watchdog { id, timeout })
        }
        op::PIN_OVERRIDE => pin_override(core, at),
        _ => Err(Errno::ENOSYS),
    }
}

/// The reason that a shutdown has: the first one that was named. Reasons are bytes, and any is taken.
fn reason(domain: &Domain, named: u32) -> u32 {
    let named = named & 0xff;
    domain.shutdown_code.compare_exchange(NO_CODE, named, Relaxed, Relaxed).map_or_else(|set| set, |_| named)
}

fn remote_shutdown(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let order: op::RemoteShutdown = core.guest_memory()?.read(at)?;
    let id = caller(core)?.other(order.domain_id, exists)?;
    let registry = core.registry.as_ref().ok_or(Errno::EPERM)?;
    let domain = registry.core_of(id).and_then(|on| registry.domain(on)).ok_or(Errno::ESRCH)?;
    let reason = reason(domain, order.reason);
    let stoppable = [DomainState::Running, DomainState::Paused];
    if domain.face().change_state(&stoppable, DomainState::Shutdown, reason) {
        core.let_follow(domain)?;
        events::tell_control(core);
    }
    Ok(0)
}

/// A virtual CPU is on its core, and on no other.
fn pin_override(core: &mut Core, at: GuestVirt) -> HypercallResult {
    if !core.domain()?.is_privileged {
        return Err(Errno::EPERM);
    }
    let order: op::PinOverride = core.guest_memory()?.read(at)?;
    if order.pcpu == core.index as i32 { Ok(0) } else { Err(Errno::EINVAL) }
}

/// Waits for an event.
fn block(core: &mut Core) -> HypercallResult {
    if events::is_upcall_pending(core) {
        return Ok(0);
    }
    let is_called = core.face.vector.load(Relaxed) | core.face.callback.load(Relaxed) != 0;
    if interrupts_on(core) && is_called {
        // What comes between the look and the halt is an interrupt, and ends it.
        core.vmcs.write(field::GUEST_ACTIVITY, HALTED);
        return Ok(0);
    }
    look(core, |core| events::is_upcall_pending(core) || core.registers.is_any_pending())
}

/// Waits until one of these ports is pending, or it is late.
fn poll(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let poll: op::Poll = core.guest_memory()?.read(at)?;
    if poll.nr_ports > op::MAX_POLL_PORTS {
        return Err(Errno::EINVAL);
    }
    let takes_interrupts = interrupts_on(core);
    if takes_interrupts && events::is_upcall_pending(core) {
        return Ok(0);
    }
    let mut ports = ArrayVec::<u32, { op::MAX_POLL_PORTS as usize }>::new();
    for index in 0..u64::from(poll.nr_ports) {
        let port = core.guest_memory()?.read(GuestVirt::new(poll.ports.wrapping_add(index * 4)))?;
        if events::is_pending(core, port)? {
            return Ok(0);
        }
        ports.push(port);
    }
    look(core, |core| {
        // Xen's times are signed: what is negative is over.
        let late = poll.timeout != 0 && core.machine.system_time() as i64 >= poll.timeout as i64;
        // A port that was closed meanwhile is not waited for.
        late || ports.iter().any(|&port| events::is_pending(core, port).unwrap_or(true))
            || takes_interrupts && events::is_upcall_pending(core)
    })
}

/// Looks until it is so; after a while, or when another core wants this one, by way of the guest.
fn look(core: &mut Core, mut is_so: impl FnMut(&Core) -> bool) -> HypercallResult {
    let mut patience = Patience::default();
    for _ in 0..LOOKS {
        if is_so(core) {
            return Ok(0);
        }
        if core.frame.is_kicked() {
            break;
        }
        patience.wait();
    }
    // The timer counts down while the guest runs, and it hardly does.
    core.arm();
    Err(Errno::ERESTART)
}

fn interrupts_on(core: &Core) -> bool {
    core.vmcs.get(field::GUEST_RFLAGS) & INTERRUPTS_ON != 0
}
