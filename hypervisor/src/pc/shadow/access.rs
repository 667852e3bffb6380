//! Accesses to a guest's memory on its behalf, by its own page tables and with its own rights.

use abi::address::{GuestPhys, GuestVirt, HostPhys, PAGE_SIZE};
use ept::Access;
use ept::guest_walk::{Privilege, Refusal, Request, walk};
use vmx::field;

use super::{ALIGNMENT_CHECK, flush, is_user, shadows};
use crate::core::Core;
use crate::domain::shadows::Shadows;
use crate::memory::physical::pointer;
use crate::pc::mmio::Refused;

/// Where a linear address is in the guest's memory, and how much of that lies in one page.
fn find(core: &mut Core, at: GuestVirt, access: Access) -> Result<(GuestPhys, HostPhys, u64), Refused> {
    let privilege = if is_user(core) {
        Privilege::User
    } else {
        let alignment_check = core.vmcs.get(field::GUEST_RFLAGS) & ALIGNMENT_CHECK != 0;
        Privilege::Supervisor { alignment_check }
    };
    let Shadows { tables, space, .. } = shadows(core).ok_or(Refused::Unknown)?;
    let found = match walk(space, tables.paging(), at, Request { access, privilege }) {
        Ok(found) => found,
        Err(Refusal::Fault(code)) => return Err(Refused::Fault(at, code)),
        Err(_) => return Err(Refused::Unknown),
    };
    let host = space.host(found.gpa).ok_or(Refused::Unknown)?;
    Ok((found.gpa, host, PAGE_SIZE - found.gpa.page_offset(PAGE_SIZE)))
}

/// Reads from linear addresses: data, or instructions to carry out.
pub fn read(core: &mut Core, from: GuestVirt, into: &mut [u8], access: Access) -> Result<(), Refused> {
    let mut done = 0;
    while done < into.len() {
        let at = from.checked_add(done as u64).ok_or(Refused::Unknown)?;
        let (_, host, left) = find(core, at, access)?;
        let piece = &mut into[done..];
        let bytes = piece.len().min(left as usize);
        // SAFETY: the guest's own memory, within one page. It may write there meanwhile: then this is any mixture.
        unsafe { core::ptr::copy_nonoverlapping(pointer::<u8>(host), piece.as_mut_ptr(), bytes) };
        done += bytes;
    }
    Ok(())
}

/// Whether the byte there may be written.
pub fn check_writable(core: &mut Core, to: GuestVirt) -> Result<(), Refused> {
    find(core, to, Access::Write).map(|_| ())
}

/// Writes to linear addresses.
pub fn write(core: &mut Core, to: GuestVirt, from: &[u8]) -> Result<(), Refused> {
    let mut done = 0;
    while done < from.len() {
        let at = to.checked_add(done as u64).ok_or(Refused::Unknown)?;
        let (gpa, _, left) = find(core, at, Access::Write)?;
        let bytes = (from.len() - done).min(left as usize);
        write_physical(core, gpa, &from[done..done + bytes]);
        done += bytes;
    }
    Ok(())
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
