//! `memory_op`: where a domain sees its `shared_info` page.

use abi::address::{GuestPhys, GuestVirt, PAGE_SIZE, PageCount};
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::{DOMID_SELF, memory as op};
use ept::{Invalidation, MapError, MemoryType, Permissions};

use super::arguments;
use crate::core::{Core, guest_state};

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    match operation {
        op::ADD_TO_PHYSMAP => {
            let add: op::AddToPhysmap = core.guest_memory()?.read(GuestVirt::new(argument))?;
            add_to_physmap(core, add)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn add_to_physmap(core: &mut Core, add: op::AddToPhysmap) -> HypercallResult {
    let domain = core.domain.as_mut().ok_or(Errno::ESRCH)?;
    if add.domid != DOMID_SELF && add.domid != domain.id {
        return Err(Errno::EPERM);
    }
    if (add.space, add.idx) != (op::space::SHARED_INFO, 0) {
        return Err(Errno::EINVAL);
    }
    let at = GuestPhys::new(add.gpfn.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?);
    let (one, rights) = (PageCount::new(1), Permissions::READ | Permissions::WRITE);
    domain.ept.map(&mut domain.pool, at, domain.shared_info, one, rights, MemoryType::WriteBack).map_err(
        |error| match error {
            MapError::AlreadyMapped(_) => Errno::EEXIST,
            MapError::OutOfFrames => Errno::ENOMEM,
            _ => Errno::EINVAL,
        },
    )?;
    let Some(before) = domain.shared_info_at.replace(at) else { return Ok(0) };
    // The page moves: it is at one place at a time.
    let unmapped = domain.ept.unmap(&mut domain.pool, before, one).map_err(|_| Errno::ENOMEM)?;
    if unmapped == Invalidation::Needed {
        guest_state::forget_translations(core);
    }
    Ok(0)
}
