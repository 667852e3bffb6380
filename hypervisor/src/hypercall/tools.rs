//! The calls of Xen's tools, and others that are refused: what was passed is read, as Xen reads it, and the answer is
//! `checks::tools`'s.

use abi::address::GuestVirt;
use abi::xen::DomId;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall as number;
use zerocopy::{FromBytes, IntoBytes};

use super::{arguments, caller, exists};
use crate::checks::tools;
use crate::core::Core;

/// `xen_sysctl` and `xen_platform_op`: operation, version, and as much as there may be.
#[derive(FromBytes, IntoBytes)]
#[repr(C)]
struct Order {
    operation: u32,
    version: u32,
    domain: DomId,
    pad: [u16; 3],
    rest: [u64; 14],
}

/// Buffers that one `dm_op` may have.
const DM_BUFFERS: u32 = 2;

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [first, second, third, fourth, _] = arguments(core);
    let caller = caller(core)?;
    match core.frame.registers.rax {
        number::MMUEXT_OP => tools::mmuext(caller, fourth as DomId, exists),
        number::XENPMU_OP => Err(Errno::EOPNOTSUPP),
        number::DM_OP => {
            let buffers = second as u32;
            if buffers > DM_BUFFERS {
                return Err(Errno::E2BIG);
            }
            if buffers == 0 {
                return Err(Errno::ENODATA);
            }
            let mut list = [0u8; 16 * DM_BUFFERS as usize];
            let bytes = &mut list[..16 * buffers as usize];
            core.guest_memory()?.read_bytes(GuestVirt::new(third), bytes)?;
            caller.other(first as DomId, exists)?;
            Err(Errno::EOPNOTSUPP)
        }
        number::HYPFS_OP if caller.is_privileged => Err(Errno::ENOSYS),
        number::HYPFS_OP => Err(Errno::EPERM),
        other => {
            let order: Order = core.guest_memory()?.read(GuestVirt::new(first))?;
            let Order { operation, version, domain, .. } = order;
            match other {
                number::SYSCTL => tools::sysctl(caller, version),
                number::PLATFORM_OP => tools::platform_op(caller, version),
                number::DOMCTL => tools::domctl(caller, operation, version, domain, exists),
                _ => tools::domctl_goes_on(caller, operation, version, domain, exists),
            }
        }
    }
}
