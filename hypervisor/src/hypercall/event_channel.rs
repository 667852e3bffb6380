//! `event_channel_op`: ports of the caller's domain, and, for domain 0, of any.
//!
//! The checks and their errors are Xen's (`common/event_channel.c`).

use core::sync::atomic::Ordering::Relaxed;

use abi::address::GuestVirt;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::event_channel::{self as op, status};
use abi::xen::{DOMID_SELF, DomId};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{arguments, event_fifo};
use crate::core::Core;
use crate::core::face::FACES;
use crate::domain::Domain;
use crate::events;
use crate::ports::{Binding, COUNT, End, Port, Target, is_global};
use crate::registry::core_of;

/// The priority of a port that none was given (`EVTCHN_FIFO_PRIORITY_DEFAULT`).
const PRIORITY: u8 = 7;

#[inline]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    let at = GuestVirt::new(argument);
    match operation {
        op::SEND => {
            let send: op::OnePort = core.guest_memory()?.read(at)?;
            events::send(core, send.port).map(|()| 0)
        }
        op::UNMASK => {
            let unmask: op::OnePort = core.guest_memory()?.read(at)?;
            events::unmask(core, unmask.port).map(|()| 0)
        }
        other => rare(core, other, at),
    }
}

#[inline(never)]
fn rare(core: &mut Core, operation: u64, at: GuestVirt) -> HypercallResult {
    match operation {
        op::CLOSE => {
            let close: op::OnePort = core.guest_memory()?.read(at)?;
            events::close(core, core.domain()?, close.port).map(|()| 0)
        }
        op::ALLOC_UNBOUND => answer(core, at, alloc_unbound),
        op::BIND_INTERDOMAIN => answer(core, at, bind_interdomain),
        op::BIND_VIRQ => answer(core, at, bind_virq),
        op::BIND_IPI => answer(core, at, bind_ipi),
        op::BIND_VCPU => {
            let bind: op::BindVcpu = core.guest_memory()?.read(at)?;
            let domain = core.domain()?;
            let on = domain.core_of(bind.vcpu as usize).ok_or(Errno::ENOENT)?;
            domain.ports().retarget(bind.port, bind.vcpu as u8, on as u8).map(|()| 0)
        }
        op::BIND_PIRQ => {
            // Number, flags, port. No guest has an interrupt of a device's.
            let _: [u32; 3] = core.guest_memory()?.read(at)?;
            Err(Errno::EINVAL)
        }
        op::STATUS => answer(core, at, port_status),
        op::RESET => {
            let reset: op::Reset = core.guest_memory()?.read(at)?;
            let domain = subject(core, reset.dom)?;
            events::close_all(core, domain);
            event_fifo::reset(core, domain);
            Ok(0)
        }
        op::INIT_CONTROL => answer(core, at, event_fifo::init_control),
        op::EXPAND_ARRAY => {
            let expand: op::ExpandArray = core.guest_memory()?.read(at)?;
            event_fifo::expand_array(core, expand).map(|()| 0)
        }
        op::SET_PRIORITY => {
            let set: op::SetPriority = core.guest_memory()?.read(at)?;
            event_fifo::set_priority(core, set).map(|()| 0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Reads the argument, lets `work` fill in its answer, writes it back.
fn answer<T: FromBytes + IntoBytes + Immutable>(
    core: &mut Core,
    at: GuestVirt,
    work: fn(&mut Core, &mut T) -> Result<(), Errno>,
) -> HypercallResult {
    let mut argument: T = core.guest_memory()?.read(at)?;
    work(core, &mut argument)?;
    core.guest_memory()?.write(at, &argument)?;
    Ok(0)
}

/// The domain a call is about: the caller's, or for domain 0 any.
fn subject(core: &mut Core, id: DomId) -> Result<&'static Domain, Errno> {
    let own = core.domain()?;
    if id == DOMID_SELF || id == own.id {
        return Ok(own);
    }
    if !own.is_privileged {
        return Err(if core_of(id).is_some() { Errno::EPERM } else { Errno::ESRCH });
    }
    let registry = core.registry.as_ref().ok_or(Errno::EPERM)?;
    registry.core_of(id).and_then(|on| registry.domain(on)).ok_or(Errno::ESRCH)
}

/// A virtual CPU of the caller's domain, as the target of a port. `ENOENT`: there is no such one.
fn target(domain: &Domain, vcpu: u32) -> Result<Target, Errno> {
    let core = domain.core_of(vcpu as usize).ok_or(Errno::ENOENT)?;
    Ok(Target { vcpu: vcpu as u8, core: core as u8, priority: PRIORITY })
}

fn alloc_unbound(core: &mut Core, argument: &mut op::AllocUnbound) -> Result<(), Errno> {
    let own = core.domain()?.id;
    let remote = if argument.remote_dom == DOMID_SELF { own } else { argument.remote_dom };
    let subject = subject(core, argument.dom)?;
    let binding = Binding { port: Port::Unbound(remote), target: target(subject, 0)? };
    argument.port = subject.ports().allocate(binding)?;
    Ok(())
}

fn bind_interdomain(core: &mut Core, argument: &mut op::BindInterdomain) -> Result<(), Errno> {
    let domain = core.domain()?;
    let remote = if argument.remote_dom == DOMID_SELF { domain.id } else { argument.remote_dom };
    let remote_home = core_of(remote).ok_or(Errno::ESRCH)?;
    if argument.remote_port >= COUNT {
        return Err(Errno::EINVAL);
    }
    let theirs = core.machine.places.get(remote_home).map(|place| &place.ports).ok_or(Errno::ESRCH)?;
    let end = End { domain: remote, home: remote_home as u8, port: argument.remote_port as u16 };
    let bound = Binding { port: Port::Interdomain(end), target: target(domain, 0)? };
    let local = domain.ports().allocate(bound)?;
    let own = End { domain: domain.id, home: domain.home() as u8, port: local as u16 };
    // Before the two are joined: whoever takes one of them apart later looks here, to wait for the cores of the other.
    let (face, peer) = (domain.face(), &FACES[remote_home]);
    face.acquainted.fetch_or(peer.cores.load(Relaxed), Relaxed);
    peer.acquainted.fetch_or(face.cores.load(Relaxed), Relaxed);
    if let Err(error) = theirs.join(argument.remote_port, own) {
        // Just allocated: closing it tells nobody.
        let _ = domain.ports().close(local);
        return Err(error);
    }
    // A sibling may have closed the port meanwhile.
    match domain.ports().get(local)?.port {
        Port::Interdomain(still) if still == end => {}
        _ => theirs.part(argument.remote_port, own),
    }
    argument.local_port = local;
    // As Xen does: events that were sent before anyone listened are not lost.
    events::raise(core, domain.home(), local, bound.target);
    Ok(())
}

fn bind_virq(core: &mut Core, argument: &mut op::BindVirq) -> Result<(), Errno> {
    if argument.virq >= op::virq::COUNT || is_global(argument.virq) && argument.vcpu != 0 {
        return Err(Errno::EINVAL);
    }
    let domain = core.domain()?;
    argument.port = domain.ports().bind_virq(argument.virq, target(domain, argument.vcpu)?)?;
    Ok(())
}

fn bind_ipi(core: &mut Core, argument: &mut op::BindIpi) -> Result<(), Errno> {
    let domain = core.domain()?;
    let binding = Binding { port: Port::Ipi, target: target(domain, argument.vcpu)? };
    argument.port = domain.ports().allocate(binding)?;
    Ok(())
}

fn port_status(core: &mut Core, argument: &mut op::Status) -> Result<(), Errno> {
    let binding = subject(core, argument.dom)?.ports().get(argument.port)?;
    (argument.vcpu, argument.dom_or_virq, argument.remote_port) = (binding.target.vcpu.into(), 0, 0);
    argument.status = match binding.port {
        Port::Closed => status::CLOSED,
        Port::Unbound(domain) => {
            argument.dom_or_virq = domain.into();
            status::UNBOUND
        }
        Port::Interdomain(End { domain, port, .. }) => {
            argument.dom_or_virq = domain.into();
            argument.remote_port = port.into();
            status::INTERDOMAIN
        }
        Port::Virq(virq) => {
            argument.dom_or_virq = virq.into();
            status::VIRQ
        }
        Port::Ipi => status::IPI,
    };
    Ok(())
}
