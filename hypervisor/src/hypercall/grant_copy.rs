//! `GNTTABOP_copy`: bytes from one page to another, each the caller's own or granted to it.
//!
//! Either page is in use, and counted so, while it is copied; nothing is mapped and nobody is asked.

use abi::address::{GuestVirt, HostPhys, PAGE_SIZE};
use abi::xen::errno::HypercallResult;
use abi::xen::grant_table::{Copy, CopySide, copy_flag, status};
use abi::xen::{DOMID_SELF, DomId};
use ept::Access;

use super::grant_table::each;
use crate::core::Core;
use crate::core::grants::Granter;
use crate::domain::{Domain, physmap};
use crate::grants::access::{Granted, acquire, release};
use crate::grants::entry::Wish;
use crate::memory::frame_table::{Owner, words};
use crate::memory::orphans;
use crate::memory::physical::{Identity, copy_bytes, pointer};

pub(super) fn copy(core: &mut Core, list: GuestVirt, count: u32) -> HypercallResult {
    each(core, list, count, |core, op: &mut Copy| {
        let own = core.domain()?;
        op.status = one(core, own, op).map_or_else(|status| status, |()| status::OKAY);
        Ok(())
    })
}

/// One of the two pages.
struct Side {
    frame: HostPhys,
    /// First byte that may be used.
    start: u32,
    /// Bytes.
    length: u32,
    /// The grants in use for it: the one that was named, and the one that leads on to.
    uses: [Option<Use>; 2],
}

#[derive(Clone, Copy)]
struct Use {
    granter: Granter,
    reference: u32,
    user: DomId,
    write: bool,
}

impl Use {
    fn end(self) {
        release(self.granter.grants, self.reference, self.user, self.write);
    }
}

impl Drop for Side {
    #[inline]
    fn drop(&mut self) {
        if self.uses[0].is_some() {
            orphans::drop_share(self.frame);
        }
        for one in self.uses.into_iter().flatten() {
            one.end();
        }
    }
}

/// Who has it. `None`: the caller itself, as memory.
fn granter(core: &Core, own: &Domain, side: &CopySide, is_grant: bool) -> Result<Option<Granter>, i16> {
    if !is_grant {
        return if side.domid == DOMID_SELF { Ok(None) } else { Err(status::PERMISSION_DENIED) };
    }
    let id = if side.domid == DOMID_SELF { own.id } else { side.domid };
    core.granter(id).ok_or(status::BAD_DOMAIN).map(Some)
}

#[inline]
fn one(core: &Core, own: &'static Domain, op: &Copy) -> Result<(), i16> {
    let source = granter(core, own, &op.source, op.flags & copy_flag::SOURCE_GREF != 0)?;
    let dest = granter(core, own, &op.dest, op.flags & copy_flag::DEST_GREF != 0)?;
    let source = claim(core, own, source, op.source.page, false)?;
    let dest = claim(core, own, dest, op.dest.page, true)?;
    let (from, to, bytes) = (u32::from(op.source.offset), u32::from(op.dest.offset), u32::from(op.len));
    if from + bytes > PAGE_SIZE as u32 || to + bytes > PAGE_SIZE as u32 {
        return Err(status::BAD_COPY_ARG);
    }
    if !source.allows(from, bytes) || !dest.allows(to, bytes) {
        return Err(status::GENERAL_ERROR);
    }
    let from = pointer::<u8>(source.frame).wrapping_add(from as usize);
    let to = pointer::<u8>(dest.frame).wrapping_add(to as usize);
    // SAFETY: within two frames of memory that guests may read and write, and that stay theirs while they are claimed.
    unsafe { copy_bytes(from, to, bytes as usize) };
    Ok(())
}

impl Side {
    fn allows(&self, offset: u32, bytes: u32) -> bool {
        offset >= self.start && offset + bytes <= self.start + self.length
    }
}

/// Begins to use a page.
#[inline]
fn claim(core: &Core, own: &Domain, granter: Option<Granter>, place: u64, write: bool) -> Result<Side, i16> {
    let Some(granter) = granter else {
        let frame = own_frame(own, place, write).ok_or(status::BAD_PAGE)?;
        return Ok(Side { frame, start: 0, length: PAGE_SIZE as u32, uses: [None; 2] });
    };
    let reference = place as u32;
    let wish = Wish { domain: own.id, write, mapping: false };
    let used = Use { granter, reference, user: own.id, write };
    match acquire(granter.grants, reference, wish, &granter)? {
        Granted::Bytes { frame, start, length } => {
            Ok(Side { frame, start, length, uses: [Some(used), None] })
        }
        Granted::Through { domain, reference } => {
            let led = through(core, used, domain, reference);
            if led.is_err() {
                used.end();
            }
            led
        }
    }
}

/// Begins to use what another domain grants to the granter: one step, and no more.
#[cold]
fn through(core: &Core, first: Use, domain: DomId, reference: u32) -> Result<Side, i16> {
    let user = first.granter.domain.id;
    if domain == user {
        return Err(status::GENERAL_ERROR);
    }
    let granter = core.granter(domain).ok_or(status::GENERAL_ERROR)?;
    let wish = Wish { domain: user, write: first.write, mapping: false };
    let second = Use { granter, reference, user, write: first.write };
    match acquire(granter.grants, reference, wish, &granter)? {
        Granted::Bytes { frame, start, length } => {
            Ok(Side { frame, start, length, uses: [Some(first), Some(second)] })
        }
        Granted::Through { .. } => {
            second.end();
            Err(status::GENERAL_ERROR)
        }
    }
}

/// A frame of the caller's own memory. It stays that until this core answers its siblings.
fn own_frame(own: &Domain, gfn: u64, write: bool) -> Option<HostPhys> {
    let access = if write { Access::Write } else { Access::Read };
    let found = own.view.translate(&Identity, physmap::address(gfn).ok()?, access)?;
    let is_own = found.hpa != own.shared_info && words().owner(found.hpa) == Owner::Domain(own.id);
    is_own.then_some(found.hpa)
}
