//! `event_channel_op`: ports of the caller's domain, and, for domain 0, of domains it builds.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::GuestVirt;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::event_channel::{self as op, status};
use abi::xen::{DOMID_SELF, DomId};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::arguments;
use crate::core::Core;
use crate::core::face::FACES;
use crate::core::message::Request;
use crate::domain::Domain;
use crate::events;
use crate::ports::Port;
use crate::registry::core_of;

#[inline]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    let at = GuestVirt::new(argument);
    match operation {
        op::SEND => {
            let send: op::OnePort = core.guest_memory()?.read(at)?;
            raise(core, send.port)
        }
        op::UNMASK => {
            let unmask: op::OnePort = core.guest_memory()?.read(at)?;
            let domain = core.domain.as_ref().ok_or(Errno::ESRCH)?;
            domain.ports.get(unmask.port)?;
            events::unmask(core, unmask.port);
            Ok(0)
        }
        op::CLOSE => {
            let close: op::OnePort = core.guest_memory()?.read(at)?;
            core.close_port(close.port)
        }
        op::ALLOC_UNBOUND => answer(core, at, alloc_unbound),
        op::BIND_INTERDOMAIN => answer(core, at, bind_interdomain),
        op::BIND_VIRQ => answer(core, at, bind_virq),
        op::BIND_IPI => answer(core, at, bind_ipi),
        op::BIND_VCPU => Ok(0),
        op::STATUS => answer(core, at, port_status),
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

#[inline]
fn raise(core: &mut Core, port: op::Port) -> HypercallResult {
    let domain = core.domain.as_ref().ok_or(Errno::ESRCH)?;
    match domain.ports.get(port)? {
        Port::Interdomain { core: remote, port, .. } => events::raise(core, remote.into(), port.into()),
        Port::Ipi => events::raise(core, core.index, port),
        // As in Xen: nobody is there yet, and that is not the sender's fault.
        Port::Unbound(_) => {}
        Port::Closed | Port::Virq(_) => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// The domain a call is about: the caller's, or for domain 0 one that it is building.
fn subject(core: &mut Core, id: DomId) -> Result<&mut Domain, Errno> {
    let own = core.domain.as_mut().ok_or(Errno::ESRCH)?;
    if id == DOMID_SELF || id == own.id {
        return Ok(own);
    }
    if !own.is_privileged {
        return Err(Errno::EPERM);
    }
    let registry = core.registry.as_mut().ok_or(Errno::EPERM)?;
    let at = registry.core_of(id).ok_or(Errno::ESRCH)?;
    registry.building(at).ok_or(Errno::EBUSY)
}

fn alloc_unbound(core: &mut Core, argument: &mut op::AllocUnbound) -> Result<(), Errno> {
    let own = core.domain.as_ref().ok_or(Errno::ESRCH)?.id;
    let remote = if argument.remote_dom == DOMID_SELF { own } else { argument.remote_dom };
    let remote_core = core_of(remote).ok_or(Errno::ESRCH)?;
    let subject = subject(core, argument.dom)?;
    argument.port = subject.ports.allocate(Port::Unbound(remote))?;
    if let Some(on) = core_of(subject.id) {
        FACES[on].invited.fetch_or(1 << remote_core, Relaxed);
    }
    Ok(())
}

fn bind_interdomain(core: &mut Core, argument: &mut op::BindInterdomain) -> Result<(), Errno> {
    let domain = core.domain.as_mut().ok_or(Errno::ESRCH)?;
    let own = domain.id;
    let remote = if argument.remote_dom == DOMID_SELF { own } else { argument.remote_dom };
    let remote_core = core_of(remote).ok_or(Errno::ESRCH)?;
    // A domain that has no port for this one is not to be disturbed with the question.
    if FACES[remote_core].invited.load(Relaxed) & 1 << core.index == 0 {
        return Err(Errno::EINVAL);
    }
    let remote_port = u16::try_from(argument.remote_port).map_err(|_| Errno::EINVAL)?;
    let end = Port::Interdomain { domain: remote, core: remote_core as u8, port: remote_port };
    let local = domain.ports.allocate(end)?;
    let join = Request::Join { port: argument.remote_port, domain: own, of: remote, remote_port: local };
    let joined = match building(core, remote, remote_core) {
        Some(theirs) => theirs.ports.join(argument.remote_port, own, core.index as u8, local).map(|()| 0),
        None => core.ask(remote_core, join),
    };
    if let Err(error) = joined {
        if let Some(domain) = core.domain.as_mut() {
            // Just allocated: closing it tells nobody.
            let _ = domain.ports.close(local);
        }
        return Err(error);
    }
    argument.local_port = local;
    // As Xen does: events that were sent before anyone listened are not lost.
    events::raise(core, core.index, local);
    Ok(())
}

/// The remote domain where domain 0 is still building it: then no core has it that could be asked.
fn building(core: &mut Core, id: DomId, at: usize) -> Option<&'static mut Domain> {
    core.registry.as_mut()?.building(at).filter(|domain| domain.id == id)
}

fn bind_virq(core: &mut Core, argument: &mut op::BindVirq) -> Result<(), Errno> {
    if argument.vcpu != 0 {
        return Err(Errno::ENOENT);
    }
    argument.port = core.domain.as_mut().ok_or(Errno::ESRCH)?.ports.bind_virq(argument.virq)?;
    if core.index == 0 && argument.virq == op::virq::DOM_EXC {
        events::set_control_port(argument.port);
    }
    Ok(())
}

fn bind_ipi(core: &mut Core, argument: &mut op::BindIpi) -> Result<(), Errno> {
    if argument.vcpu != 0 {
        return Err(Errno::ENOENT);
    }
    argument.port = core.domain.as_mut().ok_or(Errno::ESRCH)?.ports.allocate(Port::Ipi)?;
    Ok(())
}

fn port_status(core: &mut Core, argument: &mut op::Status) -> Result<(), Errno> {
    let port = subject(core, argument.dom)?.ports.get(argument.port)?;
    (argument.vcpu, argument.dom_or_virq, argument.remote_port) = (0, 0, 0);
    argument.status = match port {
        Port::Closed => status::CLOSED,
        Port::Unbound(domain) => {
            argument.dom_or_virq = domain.into();
            status::UNBOUND
        }
        Port::Interdomain { domain, port, .. } => {
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
