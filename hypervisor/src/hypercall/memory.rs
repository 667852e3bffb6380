//! `memory_op`: where a domain sees its `shared_info` page.

use abi::address::GuestVirt;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::{DOMID_SELF, memory as op};

use super::arguments;
use crate::core::Core;
use crate::core::message::Request;

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
    let domain = core.domain()?;
    if add.domid != DOMID_SELF && add.domid != domain.id {
        return Err(Errno::EPERM);
    }
    if (add.space, add.idx) != (op::space::SHARED_INFO, 0) {
        return Err(Errno::EINVAL);
    }
    if core.ask(domain.home(), Request::PlaceSharedInfo { gfn: add.gpfn })? != 0 {
        core.forget_everywhere();
    }
    Ok(0)
}
