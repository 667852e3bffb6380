//! `hvm_op`: parameters of a domain, the vector of its upcalls, and what else a guest may ask.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestPhys, GuestVirt, PAGE_SIZE};
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hvm::{self, mem_type, param};
use abi::xen::{DOMID_SELF, DomId};
use ept::Access;

use super::{arguments, caller, exists};
use crate::checks::hvm as check;
use crate::core::Core;
use crate::core::face::FACES;
use crate::core::message::Gone;
use crate::domain::Domain;
use crate::events;
use crate::memory::physical::Identity;

#[inline]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    let at = GuestVirt::new(argument);
    match operation {
        hvm::GET_PARAM => get_param(core, at),
        rare => other(core, rare, at),
    }
}

#[inline(never)]
fn other(core: &mut Core, operation: u64, at: GuestVirt) -> HypercallResult {
    let no_argument = at.as_u64() == 0;
    match operation {
        hvm::SET_PARAM => set_param(core, at),
        hvm::SET_EVTCHN_UPCALL_VECTOR => set_upcall_vector(core, at),
        hvm::FLUSH_TLBS if no_argument => {
            core.forget_everywhere(Gone::Memory);
            Ok(0)
        }
        // Nobody watches guests, so there is nobody to be told.
        hvm::GUEST_REQUEST_VM_EVENT if no_argument => Ok(0),
        hvm::FLUSH_TLBS | hvm::GUEST_REQUEST_VM_EVENT => Err(Errno::EINVAL),
        hvm::GET_TIME => {
            core.guest_memory()?.write(at, &core.machine.system_time())?;
            Ok(0)
        }
        hvm::XENTRACE => check::trace(&core.guest_memory()?.read(at)?).map(|()| 0),
        hvm::GET_MEM_TYPE => get_mem_type(core, at),
        hvm::PAGETABLE_DYING => {
            // A hint for shadow page tables, which there are none of: said by the error, as Xen does with EPT.
            let dying: hvm::PagetableDying = core.guest_memory()?.read(at)?;
            let own = core.domain()?.id;
            match dying.domid {
                DOMID_SELF => Err(Errno::EINVAL),
                id if id == own => Err(Errno::EINVAL),
                id if exists(id) => Err(Errno::EOPNOTSUPP),
                _ => Err(Errno::ESRCH),
            }
        }
        hvm::ALTP2M => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOSYS),
    }
}

#[inline]
fn get_param(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let domain = core.domain()?;
    let memory = core.guest_memory()?;
    let mut others = None;
    memory.update(at, |param: &mut hvm::Param| {
        if param.index >= param::COUNT {
            return Err(Errno::EINVAL);
        }
        if param.domid != DOMID_SELF && param.domid != domain.id {
            others = Some(*param);
            return Ok(());
        }
        check::may_get(param.index, true)?;
        param.value = value(domain, param.index)?;
        Ok(())
    })?;
    match others {
        None => Ok(0),
        Some(param) => get_others_param(core, at, param),
    }
}

#[inline]
fn value(domain: &Domain, index: u32) -> Result<u64, Errno> {
    let (holder, bits) = check::held(index);
    Ok(domain.params.get(holder as usize).ok_or(Errno::EINVAL)?.load(Relaxed) & bits)
}

#[cold]
#[inline(never)]
fn get_others_param(core: &mut Core, at: GuestVirt, mut param: hvm::Param) -> HypercallResult {
    let (domain, own) = subject(core, param.domid)?;
    check::may_get(param.index, own)?;
    param.value = value(domain, param.index)?;
    core.guest_memory()?.write(at, &param)?;
    Ok(0)
}

/// The domain that a call is about, and whether it is the caller's. Only domain 0 gets at others; it is on core 0, which
/// has the books.
fn subject(core: &mut Core, named: DomId) -> Result<(&'static Domain, bool), Errno> {
    let own = core.domain()?;
    let id = caller(core)?.subject(named, exists)?;
    if id == own.id {
        return Ok((own, true));
    }
    let registry = core.registry.as_ref().ok_or(Errno::EPERM)?;
    let domain = registry.core_of(id).and_then(|on| registry.domain(on)).ok_or(Errno::ESRCH)?;
    Ok((domain, false))
}

fn set_param(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let param: hvm::Param = core.guest_memory()?.read(at)?;
    // To others than domain 0 there are those of Xen alone, whomever they name.
    let count = if core.registry.is_some() { param::COUNT_WITH_OWN } else { param::COUNT };
    if param.index >= count {
        return Err(Errno::EINVAL);
    }
    let (domain, own) = subject(core, param.domid)?;
    if own && param.index >= param::COUNT {
        return Err(Errno::EINVAL);
    }
    check::may_set(param.index, own)?;
    let (index, value) = check::taken(param.index, param.value)?;
    domain.params.get(index as usize).ok_or(Errno::EINVAL)?.store(value, Relaxed);
    if index == param::CALLBACK_IRQ {
        core.set_callback(domain, value);
    }
    Ok(0)
}

fn set_upcall_vector(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let upcall: hvm::UpcallVector = core.guest_memory()?.read(at)?;
    if upcall.vector < check::FIRST_VECTOR {
        return Err(Errno::EINVAL);
    }
    let on = core.domain()?.core_of(upcall.vcpu as usize).ok_or(Errno::ENOENT)?;
    FACES[on].vector.store(upcall.vector.into(), Relaxed);
    events::redeliver(core, on);
    Ok(0)
}

fn get_mem_type(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let mut asked: hvm::MemType = core.guest_memory()?.read(at)?;
    let (domain, _) = subject(core, asked.domid)?;
    let allowed = |access| {
        let page = asked.pfn.checked_mul(PAGE_SIZE).map(GuestPhys::new);
        page.is_some_and(|page| domain.view.translate(&Identity, page, access).is_some())
    };
    asked.mem_type = match (allowed(Access::Read), allowed(Access::Write)) {
        (_, true) => mem_type::RAM_RW,
        (true, false) => mem_type::RAM_RO,
        (false, false) => mem_type::MMIO_DM,
    };
    core.guest_memory()?.write(at, &asked)?;
    Ok(0)
}
