//! `grant_table_op`: pages that domains let each other use.
//!
//! A use takes two leaf requests: to the granter's home core, which reads and marks its entry, and to core 0, which sees
//! that the page is the granter's to grant and counts its users. The core that makes the call does the steps in order and
//! undoes them in order. Results are Xen's `GNTST_*`, one in each argument of a batch.

use abi::address::{GuestVirt, HostPhys, PAGE_SIZE};
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::grant_table::{self as op, copy_flag, map_flag, status};
use abi::xen::{DOMID_IO, DOMID_SELF, DOMID_XEN, DomId};
use ept::Access;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{arguments, caller, exists, places};
use crate::core::Core;
use crate::core::message::Request;
use crate::domain::{Domain, physmap};
use crate::grants::entry::{Window, Wish};
use crate::grants::maptrack::Mapping;
use crate::grants::{MAX_FRAMES, Use};
use crate::memory::physical::{Identity, pointer};
use crate::registry::core_of;

/// A `GNTST_*` that is an error.
type Refused = i16;

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, count, ..] = arguments(core);
    let count = u32::try_from(count & 0xffff_ffff).ok().filter(|&count| count <= i32::MAX as u32);
    let count = count.ok_or(Errno::EINVAL)?;
    let at = GuestVirt::new(argument);
    match operation {
        op::MAP_GRANT_REF => batch(core, at, count, map),
        op::UNMAP_GRANT_REF => batch(core, at, count, unmap),
        op::COPY => batch(core, at, count, copy),
        op::SWAP_GRANT_REF => batch(core, at, count, swap),
        op::SETUP_TABLE => one(core, at, count, setup_table),
        op::QUERY_SIZE => one(core, at, count, query_size),
        op::GET_STATUS_FRAMES => one(core, at, count, get_status_frames),
        op::SET_VERSION => one(core, at, 1, set_version),
        op::GET_VERSION => one(core, at, 1, get_version),
        // Transfers, replacements and the rest are for guests without page tables of their own.
        _ => Err(Errno::ENOSYS),
    }
}

/// Does `work` on each argument; behind any of them the rest may be left for the guest's next call.
fn batch<T: FromBytes + IntoBytes + Immutable>(
    core: &mut Core,
    at: GuestVirt,
    count: u32,
    work: fn(&mut Core, &mut T) -> Result<(), Errno>,
) -> HypercallResult {
    let size = size_of::<T>() as u64;
    for index in 0..count {
        let here = GuestVirt::new(at.as_u64().wrapping_add(u64::from(index) * size));
        if index > 0 && core.frame.is_kicked() {
            core.frame.registers.rsi = here.as_u64();
            core.frame.registers.rdx = (count - index).into();
            return Err(Errno::ERESTART);
        }
        let mut argument: T = core.guest_memory()?.read(here)?;
        work(core, &mut argument)?;
        core.guest_memory()?.write(here, &argument)?;
    }
    Ok(0)
}

/// As [`batch`], for operations that take one argument and no more.
fn one<T: FromBytes + IntoBytes + Immutable>(
    core: &mut Core,
    at: GuestVirt,
    count: u32,
    work: fn(&mut Core, &mut T) -> Result<(), Errno>,
) -> HypercallResult {
    if count == 1 { batch(core, at, 1, work) } else { Err(Errno::EINVAL) }
}

/// A grant that is in use: the page, and the part of it that may be used.
struct Granted {
    owner: DomId,
    reference: op::GrantRef,
    write: bool,
    frame: HostPhys,
    window: Window,
}

/// Takes a grant into use.
fn acquire(core: &mut Core, owner: DomId, reference: op::GrantRef, wish: Wish) -> Result<Granted, Refused> {
    let home = core_of(owner).ok_or(status::BAD_DOMAIN)?;
    let mut asked = Use { owner, reference, wish, found: Err(status::BAD_DOMAIN) };
    let address = &raw mut asked as u64;
    core.ask(home, Request::Acquire { wanted: address }).map_err(|_| status::BAD_DOMAIN)?;
    let (frame, window) = asked.found?;
    let granted = Granted { owner, reference, write: wish.write, frame, window };
    let share = Request::Share { domain: owner.into(), frame: frame.as_u64() };
    if core.ask(0, share).is_err() {
        release_entry(core, &granted);
        return Err(status::BAD_PAGE);
    }
    Ok(granted)
}

fn release(core: &mut Core, granted: &Granted) {
    // Core 0 does it, whatever it finds.
    let _ = core.ask(0, Request::Unshare { frame: granted.frame.as_u64() });
    release_entry(core, granted);
}

fn release_entry(core: &mut Core, granted: &Granted) {
    core.release_grant(granted.owner, granted.reference, granted.write);
}

fn map(core: &mut Core, map: &mut op::MapGrantRef) -> Result<(), Errno> {
    let domain = core.domain()?;
    map.status = match try_map(core, domain, map) {
        Ok(handle) => {
            (map.handle, map.dev_bus_addr) = (handle, map.host_addr);
            status::OKAY
        }
        Err(refused) => refused,
    };
    Ok(())
}

fn try_map(
    core: &mut Core,
    domain: &'static Domain,
    map: &op::MapGrantRef,
) -> Result<op::GrantHandle, Refused> {
    if map.flags & (map_flag::DEVICE_MAP | map_flag::HOST_MAP) == 0 {
        return Err(status::BAD_GNTREF);
    }
    if map.flags & !map_flag::READONLY != map_flag::HOST_MAP {
        return Err(status::GENERAL_ERROR);
    }
    let gfn = map.host_addr / PAGE_SIZE;
    physmap::address(gfn).map_err(|_| status::GENERAL_ERROR)?;
    let write = map.flags & map_flag::READONLY == 0;
    let granted = acquire(core, map.dom, map.reference, Wish { from: domain.id, write, whole: true })?;
    let (owner, reference, frame) = (granted.owner, granted.reference, granted.frame);
    let mapping = Mapping { owner, reference, write, gfn, frame };
    match places::place_granted(core, domain, &mapping) {
        Ok(handle) => Ok(handle as op::GrantHandle),
        Err(error) => {
            release(core, &granted);
            Err(if error == Errno::ENOSPC { status::NO_SPACE } else { status::GENERAL_ERROR })
        }
    }
}

fn unmap(core: &mut Core, unmap: &mut op::UnmapGrantRef) -> Result<(), Errno> {
    let domain = core.domain()?;
    unmap.status = match places::take_granted(core, domain, unmap.handle, unmap.host_addr / PAGE_SIZE) {
        Ok(mapping) => {
            let Mapping { owner, reference, write, frame, .. } = mapping;
            release(core, &Granted { owner, reference, write, frame, window: Window::default() });
            status::OKAY
        }
        Err(Errno::ENOENT) => status::BAD_HANDLE,
        Err(_) => status::GENERAL_ERROR,
    };
    Ok(())
}

/// One side of a copy.
enum Side {
    Granted(Granted),
    /// A page of the caller's own.
    Own(u64),
}

fn copy(core: &mut Core, copy: &mut op::Copy) -> Result<(), Errno> {
    let domain = core.domain()?;
    copy.status = match try_copy(core, domain, copy) {
        Ok(()) => status::OKAY,
        Err(refused) => refused,
    };
    Ok(())
}

fn try_copy(core: &mut Core, domain: &'static Domain, copy: &op::Copy) -> Result<(), Refused> {
    let is_grant = |flag: u16| copy.flags & flag != 0;
    let (from, to) = (is_grant(copy_flag::SOURCE_GREF), is_grant(copy_flag::DEST_GREF));
    for (side, granted) in [(&copy.source, from), (&copy.dest, to)] {
        if !granted && side.domid != DOMID_SELF && side.domid != domain.id {
            return Err(status::PERMISSION_DENIED);
        }
        if granted && side.domid != DOMID_SELF && !exists(side.domid) {
            return Err(status::BAD_DOMAIN);
        }
        if u64::from(side.offset) + u64::from(copy.len) > PAGE_SIZE {
            return Err(status::BAD_COPY_ARG);
        }
    }
    let source = side(core, domain, &copy.source, from, copy.len, false)?;
    let dest = match side(core, domain, &copy.dest, to, copy.len, true) {
        Ok(dest) => dest,
        Err(refused) => {
            let_go(core, &source);
            return Err(refused);
        }
    };
    let copied = move_bytes(domain, copy, &source, &dest);
    let_go(core, &dest);
    let_go(core, &source);
    copied
}

fn side(
    core: &mut Core,
    domain: &'static Domain,
    side: &op::CopySide,
    granted: bool,
    length: u16,
    write: bool,
) -> Result<Side, Refused> {
    if !granted {
        return Ok(Side::Own(side.page));
    }
    let owner = if side.domid == DOMID_SELF { domain.id } else { side.domid };
    let wish = Wish { from: domain.id, write, whole: false };
    let granted = acquire(core, owner, side.page as op::GrantRef, wish)?;
    let Window { start, length: most, .. } = granted.window;
    let end = u32::from(start) + u32::from(most);
    if side.offset < start || u32::from(side.offset) + u32::from(length) > end {
        release(core, &granted);
        return Err(status::GENERAL_ERROR);
    }
    Ok(Side::Granted(granted))
}

fn let_go(core: &mut Core, side: &Side) {
    if let Side::Granted(granted) = side {
        release(core, granted);
    }
}

/// The copy itself. Nobody is asked between the look at one's own page tables and the last byte.
fn move_bytes(domain: &Domain, copy: &op::Copy, source: &Side, dest: &Side) -> Result<(), Refused> {
    let place = |side: &Side, access: Access| -> Result<HostPhys, Refused> {
        match side {
            Side::Granted(granted) => Ok(granted.frame),
            Side::Own(gfn) => {
                let at = physmap::address(*gfn).map_err(|_| status::BAD_PAGE)?;
                let found = domain.view.translate(&Identity, at, access).ok_or(status::BAD_PAGE)?;
                Ok(HostPhys::new(found.hpa.as_u64() & !(PAGE_SIZE - 1)))
            }
        }
    };
    let (from, to) = (place(source, Access::Read)?, place(dest, Access::Write)?);
    let (first, last) = (usize::from(copy.source.offset), usize::from(copy.dest.offset));
    // SAFETY: both lie within their pages, as was checked; a granted page stays until it is let go, an own one until this
    // core answers another's request. Guests may write there meanwhile, and see what they make of it.
    unsafe {
        core::ptr::copy(pointer::<u8>(from).add(first), pointer::<u8>(to).add(last), copy.len.into());
    }
    Ok(())
}

fn swap(core: &mut Core, swap: &mut op::SwapGrantRef) -> Result<(), Errno> {
    let home = core.domain()?.home();
    let request = Request::SwapGrants { one: swap.ref_a, other: swap.ref_b };
    swap.status = core.ask(home, request)? as i16;
    Ok(())
}

/// Whose table a call is about: one's own, or for domain 0 anybody's, of which it may see the size.
fn subject(core: &Core, named: DomId) -> Result<DomId, Refused> {
    let caller = caller(core).map_err(|_| status::BAD_DOMAIN)?;
    match caller.subject(named, exists) {
        Ok(id) => Ok(id),
        Err(Errno::ESRCH) => Err(status::BAD_DOMAIN),
        Err(_) => Err(status::PERMISSION_DENIED),
    }
}

fn setup_table(core: &mut Core, setup: &mut op::SetupTable) -> Result<(), Errno> {
    let domain = core.domain()?;
    setup.status = match subject(core, setup.dom) {
        Ok(id) if id != domain.id => status::PERMISSION_DENIED,
        Ok(_) if setup.nr_frames as usize > MAX_FRAMES => status::GENERAL_ERROR,
        Ok(_) => {
            if setup.nr_frames > 0 && grow(core, domain, setup.nr_frames - 1).is_err() {
                setup.status = status::GENERAL_ERROR;
                return Ok(());
            }
            write_frames(core, domain, setup.frame_list, setup.nr_frames, false)?;
            status::OKAY
        }
        Err(refused) => refused,
    };
    Ok(())
}

fn get_status_frames(core: &mut Core, get: &mut op::GetStatusFrames) -> Result<(), Errno> {
    let domain = core.domain()?;
    get.status = match subject(core, get.dom) {
        Ok(id) if id != domain.id => status::PERMISSION_DENIED,
        Ok(_) if get.nr_frames > domain.place.grants.status_count() => status::GENERAL_ERROR,
        Ok(_) => {
            write_frames(core, domain, get.frame_list, get.nr_frames, true)?;
            status::OKAY
        }
        Err(refused) => refused,
    };
    Ok(())
}

/// Where a table's frames are in the guest; all ones: nowhere.
fn write_frames(core: &mut Core, domain: &Domain, list: u64, count: u32, marks: bool) -> Result<(), Errno> {
    for index in 0..count {
        let place = core.ask(domain.home(), Request::TableAt { index, marks })?;
        let at = GuestVirt::new(list.wrapping_add(u64::from(index) * 8));
        core.guest_memory()?.write(at, &place)?;
    }
    Ok(())
}

fn query_size(core: &mut Core, query: &mut op::QuerySize) -> Result<(), Errno> {
    let domain = core.domain()?;
    query.status = match subject(core, query.dom) {
        Ok(id) if id != domain.id => status::PERMISSION_DENIED,
        Ok(_) => {
            (query.nr_frames, query.max_nr_frames) = (domain.place.grants.count(), MAX_FRAMES as u32);
            status::OKAY
        }
        Err(refused) => refused,
    };
    Ok(())
}

fn set_version(core: &mut Core, set: &mut op::SetVersion) -> Result<(), Errno> {
    let domain = core.domain()?;
    if !matches!(set.version, 1 | 2) {
        return Err(Errno::EINVAL);
    }
    if set.version == 2 {
        add_status(core, domain, domain.place.grants.count())?;
    }
    core.ask(domain.home(), Request::SetGrantVersion { version: set.version })?;
    set.version = domain.place.grants.version();
    Ok(())
}

fn get_version(core: &mut Core, get: &mut op::GetVersion) -> Result<(), Errno> {
    let domain = core.domain()?;
    if caller(core)?.subject(get.dom, exists)? != domain.id {
        return Err(Errno::EPERM);
    }
    get.version = domain.place.grants.version();
    Ok(())
}

/// Lets the table have a frame with this index. `EINVAL`: it is beyond what a table may have.
pub(super) fn grow(core: &mut Core, domain: &'static Domain, index: u32) -> Result<(), Errno> {
    if index as usize >= MAX_FRAMES {
        return Err(Errno::EINVAL);
    }
    let table = &domain.place.grants;
    while table.count() <= index {
        if table.version() == 2 {
            add_status(core, domain, table.count() + 1)?;
        }
        let frame = take(core, DOMID_IO)?;
        let pins = match take(core, DOMID_XEN) {
            Ok(pins) => pins,
            Err(error) => {
                core.ask(0, Request::GiveBack { frame })?;
                return Err(error);
            }
        };
        if let Err(error) = core.ask(domain.home(), Request::GrowGrants { frame, pins }) {
            core.ask(0, Request::GiveBack { frame })?;
            core.ask(0, Request::GiveBack { frame: pins })?;
            return Err(error);
        }
    }
    Ok(())
}

/// Lets the table have as many status frames as `frames` frames of version 2 need.
fn add_status(core: &mut Core, domain: &'static Domain, frames: u32) -> Result<(), Errno> {
    for index in 0..frames.div_ceil(8) {
        if domain.place.grants.status_frame(index).is_none() {
            let frame = take(core, DOMID_IO)?;
            if let Err(error) = core.ask(domain.home(), Request::GrowMarks { frame }) {
                core.ask(0, Request::GiveBack { frame })?;
                return Err(error);
            }
        }
    }
    Ok(())
}

fn take(core: &mut Core, owner: DomId) -> HypercallResult {
    Ok(core.ask(0, Request::TakeFrame { domain: owner.into() })? & !(PAGE_SIZE - 1))
}
