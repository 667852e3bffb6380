//! `vm_assist`: what a guest switches on for itself.

use core::sync::atomic::Ordering::Relaxed;

use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall::assist;

use super::arguments;
use crate::core::Core;

pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [command, kind, ..] = arguments(core);
    // All other types are for guests without page tables of their own.
    if kind as u32 != assist::RUNSTATE_UPDATE_FLAG {
        return Err(Errno::EINVAL);
    }
    let assists = &core.domain()?.assists;
    match command as u32 {
        assist::ENABLE => assists.fetch_or(1 << assist::RUNSTATE_UPDATE_FLAG, Relaxed),
        assist::DISABLE => assists.fetch_and(!(1 << assist::RUNSTATE_UPDATE_FLAG), Relaxed),
        _ => return Err(Errno::ENOSYS),
    };
    Ok(0)
}
