//! One kernel after another in the same domain: domain 0's calls, and what a successor may call before it has taken over.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use abi::address::{GuestPhys, GuestVirt};
use abi::control::hypercall as control;
use abi::control::hypercall::DomainState;
use abi::control::succession::{HANDED_OVER, Stage, Succession};
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::memory::{self, AddToPhysmap, space};
use abi::xen::{event_channel, hvm, hypercall as number, sched};

use super::{arguments, dispatch_one};
use crate::core::Core;
use crate::core::message::Request;
use crate::core::succession::{Exchange, How};
use crate::domain::successor::Successor;
use crate::domain::{Domain, NO_CODE, physmap};
use crate::events;

/// Makes the successor's memory.
pub(super) fn create(core: &mut Core, domain: &'static Domain) -> HypercallResult {
    let registry = core.registry.as_deref_mut().ok_or(Errno::EPERM)?;
    let home = domain.home();
    let is_started = registry.records[home].is_some_and(|record| record.started);
    if domain.is_full || domain.cores.len() != 1 || !is_started {
        return Err(Errno::EINVAL);
    }
    if registry.successors[home].is_some() {
        return Err(Errno::EEXIST);
    }
    let successor = Successor::new(&mut registry.frames, domain, registry.ept)?;
    registry.successors[home] = Some(successor);
    domain.set_succession(Succession { stage: Stage::Prepared, bytes: 0 });
    Ok(0)
}

/// Starts it.
pub(super) fn start(
    core: &mut Core,
    domain: &'static Domain,
    entry: u64,
    start_info: u64,
    package: GuestPhys,
) -> HypercallResult {
    let face = domain.face();
    settle(core, domain);
    let waits = domain.state() == DomainState::Shutdown && face.reason() == HANDED_OVER;
    if !waits || !Core::has_processors(domain) {
        return Err(Errno::EINVAL);
    }
    // Nobody interrupts the new kernel by the old one's vector.
    let called = face.silence();
    core.fence(face.acquainted.load(SeqCst));
    let started = exchange(core, domain, How::Forth { entry, start_info, package });
    match started {
        Ok(bytes) => {
            if let Some(other) = successor(core, domain)? {
                other.called = called;
            }
            face.set_state(DomainState::Running);
            core.let_follow(domain)?;
            Ok(bytes)
        }
        Err(error) => {
            face.call_again(called);
            Err(error)
        }
    }
}

/// Lets the old kernel go on.
pub(super) fn failed(core: &mut Core, domain: &'static Domain, why: u64) -> HypercallResult {
    settle(core, domain);
    let (face, stage) = (domain.face(), domain.succession().stage);
    let waits = match stage {
        Stage::Offered => domain.state() == DomainState::Shutdown && face.reason() == HANDED_OVER,
        Stage::Trial => !matches!(domain.state(), DomainState::Running | DomainState::Building),
        Stage::None | Stage::Prepared | Stage::Committed => false,
    };
    if !waits || !Core::has_processors(domain) {
        return Err(Errno::EINVAL);
    }
    let old = successor(core, domain)?.map(|other| other.called);
    let called = face.silence();
    let called = old.filter(|_| stage == Stage::Trial).unwrap_or(called);
    core.fence(face.acquainted.load(SeqCst));
    exchange(core, domain, How::Back(why))?;
    face.call_again(called);
    drop_memory(core, domain)?;
    domain.crash.lock().take();
    domain.shutdown_code.store(NO_CODE, Relaxed);
    face.set_state(DomainState::Running);
    // The successor may have taken some of its events.
    events::raise_all(core, domain);
    core.let_follow(domain)?;
    Ok(0)
}

/// Frees what nobody goes back to.
pub(super) fn end(core: &mut Core, domain: &'static Domain) -> HypercallResult {
    match domain.succession().stage {
        Stage::None => Err(Errno::ENOENT),
        Stage::Offered | Stage::Trial => Err(Errno::EBUSY),
        Stage::Prepared if !domain.leave_prepared(Succession::default()) => Err(Errno::EBUSY),
        Stage::Prepared | Stage::Committed => drop_memory(core, domain),
    }
}

/// How far it is.
pub(super) fn look(domain: &Domain) -> HypercallResult {
    Ok(domain.succession().to_word())
}

/// Whatever the guest's core is doing is done: a kernel that has handed over has stopped too.
fn settle(core: &mut Core, domain: &Domain) {
    core.fence(1 << domain.home());
}

fn successor<'core>(core: &'core mut Core, domain: &Domain) -> Result<Option<&'core mut Successor>, Errno> {
    let registry = core.registry.as_deref_mut().ok_or(Errno::EPERM)?;
    Ok(registry.successors.get_mut(domain.home()).and_then(Option::as_mut))
}

/// Has home exchange memory and virtual CPU. The books have no other memory of the domain's meanwhile.
fn exchange(core: &mut Core, domain: &Domain, how: How) -> HypercallResult {
    let registry = core.registry.as_deref_mut().ok_or(Errno::EPERM)?;
    let place = registry.successors.get_mut(domain.home()).ok_or(Errno::EINVAL)?;
    let mut other = place.take().ok_or(Errno::EINVAL)?;
    let mut order = Exchange { other: &mut other, how };
    let exchanged = core.ask(domain.home(), Request::Exchange { order: &raw mut order as u64 });
    if let Some(place) =
        core.registry.as_deref_mut().and_then(|registry| registry.successors.get_mut(domain.home()))
    {
        *place = Some(other);
    }
    exchanged
}

fn drop_memory(core: &mut Core, domain: &Domain) -> HypercallResult {
    domain.set_succession(Succession::default());
    // Somebody may be copying from there, by a grant, who looked it up before.
    core.fence(domain.face().acquainted.load(SeqCst));
    let registry = core.registry.as_deref_mut().ok_or(Errno::EPERM)?;
    if let Some(other) = registry.successors.get_mut(domain.home()).and_then(Option::take) {
        other.release(&mut registry.frames, domain.id);
    }
    Ok(0)
}

/// A hypercall of a successor that has not taken over: what it needs to start, to speak and to end.
#[cold]
#[inline(never)]
pub(super) fn on_trial(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    let allowed = match core.frame.registers.rax {
        number::XEN_VERSION | number::CONSOLE_IO => true,
        number::HVM_OP => matches!(operation, hvm::GET_PARAM | hvm::SET_EVTCHN_UPCALL_VECTOR),
        number::EVENT_CHANNEL_OP => operation == event_channel::SEND,
        number::SCHED_OP => {
            matches!(u64::from(operation as u32), sched::YIELD | sched::BLOCK | sched::POLL | sched::SHUTDOWN)
        }
        number::MEMORY_OP => match operation {
            memory::MEMORY_MAP => true,
            memory::ADD_TO_PHYSMAP if stays(core, GuestVirt::new(argument))? => return Ok(0),
            _ => false,
        },
        number::ATOLL_CONTROL => operation == control::TAKE_OVER,
        _ => false,
    };
    if allowed { dispatch_one(core) } else { Err(Errno::EPERM) }
}

/// Whether the `shared_info` page is to be where it is.
fn stays(core: &mut Core, at: GuestVirt) -> Result<bool, Errno> {
    let wanted: AddToPhysmap = core.guest_memory()?.read(at)?;
    let (_, home) = core.at_home()?;
    let at = physmap::address(wanted.gpfn)?;
    Ok(wanted.space == space::SHARED_INFO && home.shared_info_at == Some(at))
}
