//! `grant_table_op`: the table itself, its size and version. Mappings are in [`super::grant_map`], copies in
//! [`super::grant_copy`].
//!
//! Which error comes first is as on Xen 4.17 (`xen/common/grant_table.c`). A list of operations stops behind one where
//! another core wants this core: the rest of the list is a new call, which the guest makes without knowing.

use abi::address::{GuestVirt, HostPhys, PAGE_SIZE};
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::grant_table::{self as op, status};
use abi::xen::memory::INVALID_GFN;
use abi::xen::{DOMID_SELF, DomId};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{arguments, caller, grant_copy, grant_map, places};
use crate::core::Core;
use crate::core::grants::Granter;
use crate::core::message::Request;
use crate::domain::Domain;
use crate::grants::{Grants, Lent, MAX_FRAMES, MAX_STATUS_FRAMES, entry, frames_of_status, status_frames};
use crate::memory::physical::scrub;

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, list, count, ..] = arguments(core);
    let (operation, count) = (u64::from(operation as u32), count as u32);
    let list = GuestVirt::new(list);
    if count as i32 <= -1 {
        return Err(Errno::EINVAL);
    }
    match operation {
        op::MAP_GRANT_REF => grant_map::map(core, list, count),
        op::UNMAP_GRANT_REF => grant_map::unmap(core, list, count),
        op::COPY => grant_copy::copy(core, list, count),
        op::SETUP_TABLE => setup_table(core, list, count),
        op::QUERY_SIZE => query_size(core, list, count),
        op::SET_VERSION => set_version(core, list),
        op::GET_VERSION => get_version(core, list),
        op::GET_STATUS_FRAMES => get_status_frames(core, list, count),
        op::SWAP_GRANT_REF => each(core, list, count, |core, op: &mut op::SwapGrantRef| {
            op.status = swap(&core.domain()?.place.grants, op.ref_a, op.ref_b);
            Ok(())
        }),
        // Transfers, replacements, flushes and the rest are for guests without page tables of their own.
        _ => Err(Errno::ENOSYS),
    }
}

/// The rest of a list, of which `done` are done, as the guest's next call.
#[cold]
pub(super) fn again(core: &mut Core, done: u32, bytes: usize) -> HypercallResult {
    let registers = &mut core.frame.registers;
    registers.rsi = registers.rsi.wrapping_add(u64::from(done) * bytes as u64);
    registers.rdx = u64::from(registers.rdx as u32 - done);
    Err(Errno::ERESTART)
}

/// Where an element of a list is.
#[inline]
pub(super) fn element(list: GuestVirt, index: u32, bytes: usize) -> GuestVirt {
    GuestVirt::new(list.as_u64().wrapping_add(u64::from(index) * bytes as u64))
}

/// Does each operation of a list, in one walk of the guest's page tables each. `work` asks no other core.
#[inline]
pub(super) fn each<T: FromBytes + IntoBytes + Immutable>(
    core: &mut Core,
    list: GuestVirt,
    count: u32,
    mut work: impl FnMut(&mut Core, &mut T) -> Result<(), Errno>,
) -> HypercallResult {
    for index in 0..count {
        if index > 0 && core.frame.is_kicked() {
            return again(core, index, size_of::<T>());
        }
        core.guest_memory()?.update(element(list, index, size_of::<T>()), |op| work(core, op))?;
    }
    Ok(0)
}

/// The domain whose table a call is about.
fn subject(core: &Core, named: DomId) -> Result<Granter, i16> {
    let own = caller(core).map_err(|_| status::GENERAL_ERROR)?;
    let id = if named == DOMID_SELF { own.id } else { named };
    let found = core.granter(id).ok_or(status::BAD_DOMAIN)?;
    if id == own.id || own.is_privileged { Ok(found) } else { Err(status::PERMISSION_DENIED) }
}

fn only_one(count: u32) -> Result<(), Errno> {
    if count == 1 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn query_size(core: &mut Core, at: GuestVirt, count: u32) -> HypercallResult {
    only_one(count)?;
    core.guest_memory()?.update(at, |op: &mut op::QuerySize| {
        op.status = match subject(core, op.dom) {
            Ok(found) => {
                (op.nr_frames, op.max_nr_frames) = (found.grants.frames(), MAX_FRAMES);
                status::OKAY
            }
            Err(status) => status,
        };
        Ok(())
    })?;
    Ok(0)
}

fn setup_table(core: &mut Core, at: GuestVirt, count: u32) -> HypercallResult {
    only_one(count)?;
    let mut op: op::SetupTable = core.guest_memory()?.read(at)?;
    op.status = match subject(core, op.dom) {
        Err(status) => status,
        Ok(_) if op.nr_frames > MAX_FRAMES => status::GENERAL_ERROR,
        Ok(found) => match grow(core, found.domain, op.nr_frames) {
            Err(_) => status::GENERAL_ERROR,
            Ok(()) => list_frames(core, op.frame_list, op.nr_frames, |index| found.grants.shared(index))?,
        },
    };
    core.guest_memory()?.write(at, &op)?;
    Ok(0)
}

fn get_status_frames(core: &mut Core, at: GuestVirt, count: u32) -> HypercallResult {
    only_one(count)?;
    let mut op: op::GetStatusFrames = core.guest_memory()?.read(at)?;
    op.status = match subject(core, op.dom) {
        Err(status) => status,
        Ok(found) if op.nr_frames > found.grants.status_frames() => status::GENERAL_ERROR,
        Ok(found) => list_frames(core, op.frame_list, op.nr_frames, |index| found.grants.status(index))?,
    };
    core.guest_memory()?.write(at, &op)?;
    Ok(0)
}

/// Writes where the frames are, as their domain sees them.
fn list_frames(
    core: &Core,
    list: u64,
    count: u32,
    lent: impl Fn(u32) -> Option<&'static Lent>,
) -> Result<i16, Errno> {
    let mut result = status::OKAY;
    for index in 0..count {
        let gfn = lent(index).and_then(Lent::gfn).unwrap_or(INVALID_GFN);
        if core.guest_memory()?.write(element(GuestVirt::new(list), index, 8), &gfn).is_err() {
            result = status::BAD_VIRT_ADDR;
        }
    }
    Ok(result)
}

/// Sees that a table has so many frames, and status words for them where it is of version 2.
fn grow(core: &mut Core, domain: &'static Domain, frames: u32) -> Result<(), Errno> {
    let grants = &domain.place.grants;
    let wanted = frames.clamp(grants.frames(), MAX_FRAMES);
    for index in grants.frames()..wanted {
        lend(core, domain, grants.shared(index).ok_or(Errno::EINVAL)?)?;
    }
    if grants.version() == 2 {
        add_status(core, domain, status_frames(wanted))?;
    }
    grants.has_frames(wanted);
    Ok(())
}

fn add_status(core: &mut Core, domain: &'static Domain, wanted: u32) -> Result<(), Errno> {
    let grants = &domain.place.grants;
    for index in grants.status_frames()..wanted.min(MAX_STATUS_FRAMES) {
        let lent = grants.status(index).ok_or(Errno::EINVAL)?;
        lend(core, domain, lent)?;
        // It may be one that an earlier version 2 has left.
        if let Some(frame) = lent.frame() {
            entry::clear(frame);
        }
    }
    grants.has_status_frames(wanted);
    Ok(())
}

/// Puts a frame of the hypervisor's into a place where there is none.
fn lend(core: &mut Core, domain: &Domain, lent: &Lent) -> Result<(), Errno> {
    if lent.frame().is_some() {
        return Ok(());
    }
    let taken = core.ask(0, Request::LendFrame { domain: domain.id.into() })?;
    let frame = HostPhys::new(taken & !(PAGE_SIZE - 1));
    if taken == frame.as_u64() {
        // SAFETY: it was free, and nobody has it yet.
        unsafe { scrub(frame, PAGE_SIZE) };
    }
    if !lent.put(frame) {
        core.ask(0, Request::GiveBack { frame: frame.as_u64() })?;
    }
    Ok(())
}

/// `XENMAPSPACE_grant_table`: lets a frame of the domain's table, by its index there, appear at a place. The table grows
/// to have it.
pub(super) fn place(core: &mut Core, domain: &'static Domain, index: u64, gfn: u64) -> Result<(), Errno> {
    let grants = &domain.place.grants;
    let of_status = grants.version() == 2 && index & op::STATUS_INDEX != 0;
    let number = u32::try_from(if of_status { index & !op::STATUS_INDEX } else { index });
    let number = number.map_err(|_| Errno::EINVAL)?;
    if number >= if of_status { MAX_STATUS_FRAMES } else { MAX_FRAMES } {
        return Err(Errno::EINVAL);
    }
    let (lent, frames) = if of_status {
        (grants.status(number), frames_of_status(number + 1))
    } else {
        (grants.shared(number), number + 1)
    };
    grow(core, domain, frames).map_err(|_| Errno::EINVAL)?;
    places::lent(core, domain, lent.ok_or(Errno::EINVAL)?, gfn)
}

fn get_version(core: &mut Core, at: GuestVirt) -> HypercallResult {
    core.guest_memory()?.update(at, |op: &mut op::GetVersion| {
        op.version = match subject(core, op.dom) {
            Ok(found) => found.grants.version(),
            Err(status::BAD_DOMAIN) => return Err(Errno::ESRCH),
            Err(_) => return Err(Errno::EPERM),
        };
        Ok(())
    })?;
    Ok(0)
}

fn set_version(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let asked: op::SetVersion = core.guest_memory()?.read(at)?;
    let domain = core.domain()?;
    let changed = change_version(core, domain, asked.version);
    core.guest_memory()?.write(at, &op::SetVersion { version: domain.place.grants.version() })?;
    changed.map(|()| 0)
}

fn change_version(core: &mut Core, domain: &'static Domain, version: u32) -> Result<(), Errno> {
    let grants = &domain.place.grants;
    if version != 1 && version != 2 {
        return Err(Errno::EINVAL);
    }
    if version == grants.version() {
        return Ok(());
    }
    if grants.is_in_use() {
        return Err(Errno::EBUSY);
    }
    if version == 2 {
        add_status(core, domain, status_frames(grants.frames()))?;
    }
    grants.change_version(version).ok_or(Errno::ERANGE)?;
    if version == 1 {
        for lent in (0..MAX_STATUS_FRAMES).filter_map(|index| grants.status(index)) {
            places::withdraw(core, domain, lent)?;
        }
    }
    Ok(())
}

fn swap(grants: &Grants, a: u32, b: u32) -> i16 {
    let (Some((entry_a, pin_a)), Some((entry_b, pin_b))) = (grants.entry(a), grants.entry(b)) else {
        return status::BAD_GNTREF;
    };
    if a == b {
        return status::OKAY;
    }
    // The lower one first, as everybody who latches two would.
    let (first, second) = if a < b { (pin_a, pin_b) } else { (pin_b, pin_a) };
    let first = first.latch();
    let second = second.latch();
    if first.state().is_used() || second.state().is_used() {
        return status::EAGAIN;
    }
    entry_a.swap(&entry_b);
    status::OKAY
}
