//! `hvm_op`: parameters of a domain, and the vector of its upcalls.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::GuestVirt;
use abi::control::hypercall::DomainState;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::{DOMID_SELF, hvm};

use super::arguments;
use crate::core::Core;
use crate::core::face::FACES;
use crate::events;

#[inline]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    let at = GuestVirt::new(argument);
    match operation {
        hvm::GET_PARAM => get_param(core, at),
        hvm::SET_PARAM => set_param(core, at),
        hvm::SET_EVTCHN_UPCALL_VECTOR => set_upcall_vector(core, at),
        _ => Err(Errno::ENOSYS),
    }
}

#[inline]
fn get_param(core: &Core, at: GuestVirt) -> HypercallResult {
    let domain = core.domain()?;
    core.guest_memory()?.update(at, |param: &mut hvm::Param| {
        if param.domid != DOMID_SELF && param.domid != domain.id {
            return Err(if domain.is_privileged { Errno::ESRCH } else { Errno::EPERM });
        }
        param.value = domain.params.get(param.index as usize).ok_or(Errno::EINVAL)?.load(Relaxed);
        Ok(())
    })?;
    Ok(0)
}

/// A guest's parameters are set by domain 0, before the guest starts.
fn set_param(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let param: hvm::Param = core.guest_memory()?.read(at)?;
    let registry = core.registry.as_mut().ok_or(Errno::EPERM)?;
    let domain = registry.core_of(param.domid).and_then(|on| registry.domain(on)).ok_or(Errno::ESRCH)?;
    if domain.state() != DomainState::Building {
        return Err(Errno::EBUSY);
    }
    domain.params.get(param.index as usize).ok_or(Errno::EINVAL)?.store(param.value, Relaxed);
    Ok(0)
}

fn set_upcall_vector(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let upcall: hvm::UpcallVector = core.guest_memory()?.read(at)?;
    let on = core.domain()?.core_of(upcall.vcpu as usize).ok_or(Errno::ENOENT)?;
    if upcall.vector < 16 {
        return Err(Errno::EINVAL);
    }
    FACES[on].vector.store(upcall.vector.into(), Relaxed);
    events::redeliver(core, on);
    Ok(0)
}
