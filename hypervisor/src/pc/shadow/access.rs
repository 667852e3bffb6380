//! Accesses to a guest's memory on its behalf, by its own page tables and with its own rights.

use abi::address::{GuestPhys, GuestVirt, PAGE_SIZE};
use ept::guest_walk::{Request, walk};

use super::{flush, shadows};
use crate::core::Core;
use crate::domain::shadows::Shadows;
use crate::memory::physical::pointer;
use crate::pc::linear::{Found, refused};
use crate::pc::mmio::Refused;

/// Where a linear address is, for this request.
pub fn find(core: &mut Core, at: GuestVirt, request: Request) -> Result<Found, Refused> {
    let Shadows { tables, space, .. } = shadows(core).ok_or(Refused::Unknown)?;
    let found = walk(space, tables.paging(), at, request).map_err(|refusal| refused(at, refusal))?;
    let host = space.host(found.gpa).ok_or(Refused::Unknown)?;
    Ok(Found { gpa: found.gpa, host, left: PAGE_SIZE - found.gpa.page_offset(PAGE_SIZE) })
}

/// Reads memory within one page; all ones where there is none.
pub fn read_physical(core: &mut Core, at: GuestPhys, bytes: u8) -> u64 {
    let Some(host) = shadows(core).and_then(|shadows| shadows.space.host(at)) else { return u64::MAX };
    // SAFETY: the guest's own memory, and by the caller within one page. It may write there meanwhile: then this is any
    // mixture.
    unsafe {
        match bytes {
            8 => pointer::<u64>(host).read_unaligned(),
            4 => pointer::<u32>(host).read_unaligned().into(),
            2 => pointer::<u16>(host).read_unaligned().into(),
            _ => pointer::<u8>(host).read().into(),
        }
    }
}

/// Writes to memory within one page, whose shadows follow. Where there is no memory nothing happens.
pub fn write_physical(core: &mut Core, at: GuestPhys, from: &[u8]) {
    let Some(Shadows { tables, space, .. }) = shadows(core) else { return };
    let Some(host) = space.host(at) else { return };
    let to = pointer::<u8>(host);
    // SAFETY: the guest's own memory, and by the caller within one page. What is written at once, as an instruction does,
    // is aligned where that instruction's operand is.
    unsafe {
        match *from {
            [a, b, c, d, e, f, g, h] => {
                to.cast::<u64>().write_unaligned(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
            }
            [a, b, c, d] => to.cast::<u32>().write_unaligned(u32::from_le_bytes([a, b, c, d])),
            _ => core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()),
        }
    }
    if tables.is_table(at) {
        let dropped = tables.written(space, at, from.len() as u64);
        flush(core, dropped);
    }
}
