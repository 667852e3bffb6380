//! `memory_op`: how much memory a domain has, where what of it appears, and what it is told of it.
//!
//! Which error comes first is in `checks`; how a page comes and goes, in [`super::places`]. A call about many pages stops
//! behind one where another core wants this core, and goes on later.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestVirt, PAGE_SIZE};
use abi::xen::DomId;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::memory::{self as op, E820_RAM, E820Entry, EXTENT_SHIFT, OPERATION_MASK, space};
use zerocopy::IntoBytes;

use super::{arguments, caller, exists, grant_table, places};
use crate::checks::batch::{self, Extents};
use crate::checks::memory as check;
use crate::core::Core;
use crate::domain::{Domain, MAX_MAP_ENTRIES};

/// Entries that Xen takes for a memory map.
const MAX_E820: u32 = 1024;

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, argument, ..] = arguments(core);
    let at = GuestVirt::new(argument);
    match operation & OPERATION_MASK {
        op::INCREASE_RESERVATION | op::DECREASE_RESERVATION | op::POPULATE_PHYSMAP => {
            reserve(core, operation, at)
        }
        op::ADD_TO_PHYSMAP => add_to_physmap(core, operation, at),
        op::ADD_TO_PHYSMAP_BATCH => add_batch(core, operation, at),
        op::CURRENT_RESERVATION | op::MAXIMUM_RESERVATION | op::MAXIMUM_GPFN => {
            check::in_one_go(operation)?;
            let domid: DomId = core.guest_memory()?.read(at)?;
            let domain = subject(core, domid)?;
            Ok(match operation {
                op::CURRENT_RESERVATION => domain.pages.load(Relaxed),
                op::MAXIMUM_RESERVATION => domain.max_pages.load(Relaxed),
                _ => highest_frame(domain),
            })
        }
        op::MAXIMUM_RAM_PAGE => {
            check::in_one_go(operation)?;
            Ok(core.machine.ram_frames)
        }
        op::REMOVE_FROM_PHYSMAP => {
            check::in_one_go(operation)?;
            let remove: op::RemoveFromPhysmap = core.guest_memory()?.read(at)?;
            let domain = subject(core, remove.domid)?;
            places::give(own(core, domain)?, domain, remove.gpfn).map(|()| 0)
        }
        op::EXCHANGE => {
            check::in_one_go(operation)?;
            let exchange = core.guest_memory()?.read(at)?;
            check::exchange(caller(core)?, &exchange, exists)
        }
        op::CLAIM_PAGES => {
            check::in_one_go(operation)?;
            let claim: op::Reservation = core.guest_memory()?.read(at)?;
            check::claim(caller(core)?, &claim, exists)
        }
        op::GET_VNUMAINFO => {
            check::in_one_go(operation)?;
            let topology = core.guest_memory()?.read(at)?;
            check::vnuma(caller(core)?, &topology, exists)
        }
        op::RESERVED_DEVICE_MEMORY_MAP => {
            check::in_one_go(operation)?;
            core.guest_memory()?.update(at, check::reserved_by_devices).map(|()| 0)
        }
        op::ACCESS_OP => {
            let access = core.guest_memory()?.read(at)?;
            check::access(caller(core)?, &access, exists)
        }
        // The rest is never continued, so that other bits make it another operation.
        _ => match operation {
            op::MEMORY_MAP => memory_map(core, at),
            op::SET_MEMORY_MAP => set_memory_map(core, at),
            op::SET_POD_TARGET | op::GET_POD_TARGET => {
                let target: op::PodTarget = core.guest_memory()?.read(at)?;
                check::pod(caller(core)?, &target, exists)
            }
            op::GET_SHARING_FREED_PAGES | op::GET_SHARING_SHARED_PAGES => Ok(0),
            op::ACQUIRE_RESOURCE if !core.domain()?.is_privileged => Err(Errno::EACCES),
            _ => Err(Errno::ENOSYS),
        },
    }
}

/// The domain that a call is about. Only domain 0 gets at others; it is on core 0, which has the books.
fn subject(core: &mut Core, named: DomId) -> Result<&'static Domain, Errno> {
    let id = caller(core)?.subject(named, exists)?;
    find(core, id)
}

fn find(core: &mut Core, id: DomId) -> Result<&'static Domain, Errno> {
    let own = core.domain()?;
    if id == own.id {
        return Ok(own);
    }
    let registry = core.registry.as_ref().ok_or(Errno::EPERM)?;
    registry.core_of(id).and_then(|on| registry.domain(on)).ok_or(Errno::ESRCH)
}

/// The core, for a change of its own domain's memory. Domain 0 changes others' by control calls, while it builds them.
fn own<'core>(core: &'core mut Core, domain: &Domain) -> Result<&'core mut Core, Errno> {
    if core.domain()?.id == domain.id { Ok(core) } else { Err(Errno::EOPNOTSUPP) }
}

/// The operation's own bits, with `done` above them, as the guest's next call.
fn again(core: &mut Core, operation: u64, done: u64) -> HypercallResult {
    core.frame.registers.rdi = batch::again(operation, done);
    Err(Errno::ERESTART)
}

/// Increase, decrease and populate. They answer with how many extents are done, whatever goes wrong.
fn reserve(core: &mut Core, operation: u64, at: GuestVirt) -> HypercallResult {
    let done = operation >> EXTENT_SHIFT;
    let memory = core.guest_memory()?;
    let Ok(reservation) = memory.read::<op::Reservation>(at) else { return Ok(done) };
    let caller = caller(core)?;
    let Some(mut extents) = Extents::new(&reservation, done, caller.is_privileged) else { return Ok(done) };
    let Ok(domain) = subject(core, reservation.domid) else { return Ok(done) };
    let Ok(core) = own(core, domain) else { return Ok(done) };
    let work = match operation & OPERATION_MASK {
        op::DECREASE_RESERVATION => places::give,
        // A frame without a place is of no use to anyone. Xen gives some to guests that have not all their memory.
        op::INCREASE_RESERVATION => return Ok(done),
        _ if reservation.mem_flags & op::flags::POPULATE_ON_DEMAND != 0 => return Ok(done),
        _ => places::populate,
    };
    while let Some(next) = extents.next() {
        if extents.done != done && core.frame.is_kicked() {
            return again(core, operation, extents.done);
        }
        let Ok(first) = core.guest_memory()?.read::<u64>(GuestVirt::new(next)) else { break };
        for page in 0..extents.frames() {
            if work(core, domain, first.wrapping_add(page)).is_err() {
                return Ok(extents.done);
            }
        }
        extents.done += 1;
    }
    Ok(extents.done)
}

fn add_to_physmap(core: &mut Core, operation: u64, at: GuestVirt) -> HypercallResult {
    let done = check::done(operation)?;
    let add: op::AddToPhysmap = core.guest_memory()?.read(at)?;
    let found = check::add(caller(core)?, &add, done, exists)?;
    let domain = find(core, found.domain)?;
    for page in 0..found.count {
        if page > 0 && core.frame.is_kicked() {
            return again(core, operation, u64::from(done) + page);
        }
        add_one(core, domain, found.space, found.index + page, found.at + page)?;
    }
    Ok(0)
}

fn add_batch(core: &mut Core, operation: u64, at: GuestVirt) -> HypercallResult {
    let start = check::done(operation)?;
    let batch: op::AddToPhysmapBatch = core.guest_memory()?.read(at)?;
    let (domain, size) = check::add_batch(caller(core)?, &batch, start, exists)?;
    let domain = find(core, domain)?;
    for page in start..size {
        if page > start && core.frame.is_kicked() {
            return again(core, operation, page.into());
        }
        let offset = u64::from(page);
        let memory = core.guest_memory()?;
        let idx: u64 = memory.read(GuestVirt::new(batch.idxs.wrapping_add(offset * 8)))?;
        let gpfn: u64 = memory.read(GuestVirt::new(batch.gpfns.wrapping_add(offset * 8)))?;
        if gpfn == op::INVALID_GFN {
            return Err(Errno::EINVAL);
        }
        let added = match u32::from(batch.space) {
            space::GMFN_FOREIGN => Err(Errno::EPERM),
            space => add_one(core, domain, space, idx, gpfn),
        };
        let error = added.map_or_else(|error| -(error as i32), |()| 0);
        core.guest_memory()?.write(GuestVirt::new(batch.errs.wrapping_add(offset * 4)), &error)?;
    }
    Ok(0)
}

/// Lets one page appear at a place.
fn add_one(core: &mut Core, domain: &'static Domain, space: u32, index: u64, gfn: u64) -> Result<(), Errno> {
    let core = own(core, domain)?;
    match space {
        space::SHARED_INFO if index == 0 => places::shared_info(core, domain, gfn),
        space::GRANT_TABLE => grant_table::place(core, domain, index, gfn),
        space::GMFN => places::move_page(core, domain, index, gfn),
        _ => Err(Errno::EINVAL),
    }
}

/// The highest frame at which the domain has anything.
fn highest_frame(domain: &Domain) -> u64 {
    domain.view.highest(&crate::memory::physical::Identity).map_or(0, |last| last.as_u64() / PAGE_SIZE)
}

fn memory_map(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let memory = core.guest_memory()?;
    let mut map: op::MemoryMap = memory.read(at)?;
    let domain = core.domain()?;
    let entries = domain.memory_map.lock();
    let whole = [E820Entry { address: 0, size: domain.max_pages.load(Relaxed) * PAGE_SIZE, kind: E820_RAM }];
    let entries = if entries.is_empty() { &whole[..] } else { &entries[..] };
    let count = (map.nr_entries as usize).min(entries.len());
    memory.write_bytes(GuestVirt::new(map.buffer), entries[..count].as_bytes())?;
    map.nr_entries = count as u32;
    memory.write(at, &map)?;
    Ok(0)
}

fn set_memory_map(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let foreign: op::ForeignMemoryMap = core.guest_memory()?.read(at)?;
    if foreign.map.nr_entries > MAX_E820 {
        return Err(Errno::EINVAL);
    }
    let domain = subject(core, foreign.domid)?;
    let count = foreign.map.nr_entries as usize;
    let mut entries = [E820Entry::default(); MAX_MAP_ENTRIES];
    let entries = entries.get_mut(..count).ok_or(Errno::ENOMEM)?;
    core.guest_memory()?.read_bytes(GuestVirt::new(foreign.map.buffer), entries.as_mut_bytes())?;
    let mut map = domain.memory_map.lock();
    map.clear();
    map.extend(entries.iter().copied());
    Ok(0)
}
