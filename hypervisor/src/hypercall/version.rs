//! `xen_version`: what the hypervisor says of itself.

use abi::address::GuestVirt;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::version::{self as op, CompileInfo, FeatureInfo, feature};

use super::arguments;
use crate::core::Core;

/// What every guest is offered.
const FEATURES: u32 = feature::WRITABLE_PAGE_TABLES
    | feature::AUTO_TRANSLATED_PHYSMAP
    | feature::HVM_CALLBACK_VECTOR
    | feature::HVM_SAFE_PVCLOCK
    | feature::MEMORY_OP_VNODE_SUPPORTED
    | feature::NOT_DIRECT_MAPPED;

/// From here on a guest without page tables of its own may use nothing. Ours have them; it is Xen's number.
const HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;

#[inline]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    // The operation is an `int`.
    match u64::from(operation as u32) {
        op::VERSION => Ok(op::INTERFACE_VERSION),
        operation => rare(core, operation, GuestVirt::new(argument)),
    }
}

#[inline(never)]
fn rare(core: &mut Core, operation: u64, at: GuestVirt) -> HypercallResult {
    let (domain, memory) = (core.domain()?, core.guest_memory()?);
    match operation {
        op::EXTRAVERSION => memory.write(at, &text::<16>(".0-atoll"))?,
        op::COMPILE_INFO => memory.write(
            at,
            &CompileInfo {
                compiler: text("rustc"),
                compile_by: text("atoll"),
                compile_domain: text(""),
                compile_date: text(""),
            },
        )?,
        op::CAPABILITIES => memory.write(at, &text::<{ op::CAPABILITIES_BYTES }>("hvm-3.0-x86_64 "))?,
        op::CHANGESET => memory.write(at, &text::<{ op::CHANGESET_BYTES }>(env!("CARGO_PKG_VERSION")))?,
        op::PLATFORM_PARAMETERS => memory.write(at, &HYPERVISOR_VIRT_START)?,
        op::GET_FEATURES => memory.update(at, |info: &mut FeatureInfo| {
            if info.submap_idx != 0 {
                return Err(Errno::EINVAL);
            }
            info.submap = FEATURES | if domain.is_privileged { feature::DOM0 } else { 0 };
            Ok(())
        })?,
        op::PAGESIZE if at.as_u64() != 0 => return Err(Errno::EINVAL),
        op::PAGESIZE => return Ok(abi::address::PAGE_SIZE),
        op::GUEST_HANDLE => memory.write(at, &op::guest_handle(domain.id, core.machine.boot_tsc))?,
        // Options are the loader's; the hypervisor keeps no copy of the line.
        op::COMMANDLINE if domain.is_privileged => {
            memory.write(at, &text::<{ op::COMMANDLINE_BYTES }>(""))?;
        }
        op::COMMANDLINE => memory.write_bytes(at, op::DENIED)?,
        op::BUILD_ID if !domain.is_privileged => return Err(Errno::EPERM),
        op::BUILD_ID => return Err(Errno::ENODATA),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// A text in a field of `WIDTH` bytes, the rest zeroes.
const fn text<const WIDTH: usize>(text: &str) -> [u8; WIDTH] {
    let mut field = [0; WIDTH];
    let mut at = 0;
    while at < text.len() && at + 1 < WIDTH {
        field[at] = text.as_bytes()[at];
        at += 1;
    }
    field
}
