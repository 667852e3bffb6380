//! Making a domain's memory and taking it apart: core 0's work, with its [`Registry`].

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use abi::address::{GuestPhys, HostPhys, PAGE_SIZE, PageCount};
use abi::control::hypercall::{DomainState, MAX_VCPUS, NO_DOMAIN, create};
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::hvm::param::TRIPLE_FAULT_REASON;
use abi::xen::shared_info::{VCPU_INFO, VCPU_INFO_SIZE};
use arrayvec::ArrayVec;
use ept::guest_walk::Features;
use ept::{Ept, Frames, MapError, Mapping, MemoryType, Permissions, Tables, View};

use super::shadows::Shadows;
use super::{Domain, Home, Place};
use crate::checks::sched::Watchdogs;
use crate::core::face::FACES;
use crate::core::succession::Handing;
use crate::devices::local_apic;
use crate::memory::frame_table::{CHUNK_FRAMES, FrameTable, Owner};
use crate::memory::physical::{Identity, Pool, copy_bytes, pointer, scrub};
use crate::registry::{Record, Registry, events_from, events_to};

/// Frames for page tables that a running domain may use without asking.
const POOL_FRAMES: usize = 8;

/// Page-table frames straight from the frame table.
pub(super) struct FromTable<'a, 'b>(pub(super) &'a mut FrameTable<'b>);

impl Tables for FromTable<'_, '_> {
    fn read(&self, table: HostPhys, index: usize) -> u64 {
        Identity.read(table, index)
    }
}

impl Frames for FromTable<'_, '_> {
    fn allocate(&mut self) -> Option<HostPhys> {
        let (frame, clean) = self.0.take_frame(Owner::Tables)?;
        if !clean {
            // SAFETY: the frame was free and is ours now.
            unsafe { scrub(frame, PAGE_SIZE) };
        }
        Some(frame)
    }

    fn free(&mut self, frame: HostPhys) {
        self.0.give_back(frame, false);
    }

    fn write(&mut self, table: HostPhys, index: usize, entry: u64) {
        // The pool's way of writing is the one way.
        Pool::new().write(table, index, entry);
    }

    fn swap(&mut self, table: HostPhys, index: usize, entry: u64) -> u64 {
        Pool::new().swap(table, index, entry)
    }
}

pub(super) fn errno(error: MapError) -> Errno {
    match error {
        MapError::AlreadyMapped(_) => Errno::EEXIST,
        MapError::OutOfFrames => Errno::ENOMEM,
        MapError::Misaligned | MapError::OutOfRange | MapError::Permissions(_) => Errno::EINVAL,
    }
}

/// What a new domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Domain 0.
    Control,
    /// A guest that knows Xen's interface.
    Para,
    /// A guest that believes that it owns a PC.
    Full,
    /// The same whose local APICs the processors keep up, where they can.
    FullAssisted,
    /// The same on shadow page tables.
    Shadowed,
}

impl Kind {
    /// By the flags of `DOMAIN_CREATE`.
    pub fn from_flags(flags: u64) -> Result<Self, Errno> {
        const FULL_EMULATED: u64 = create::FULL | create::EMULATED_APIC;
        const SHADOWED: u64 = create::FULL | create::SHADOW;
        const SHADOWED_EMULATED: u64 = SHADOWED | create::EMULATED_APIC;
        match flags {
            0 => Ok(Self::Para),
            create::FULL => Ok(Self::FullAssisted),
            FULL_EMULATED => Ok(Self::Full),
            SHADOWED | SHADOWED_EMULATED => Ok(Self::Shadowed),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Makes a domain for these cores, a bit each, with `pages` of memory from guest-physical 0 on: zeroes, but for domain
/// 0's (`Content`). All or nothing.
pub fn create(
    registry: &mut Registry,
    places: &[&'static Place],
    cores: u64,
    pages: PageCount,
    kind: Kind,
) -> Result<DomId, Errno> {
    let cores = pick(registry, cores)?;
    let home = *cores.first().ok_or(Errno::EINVAL)?;
    let place = *places.get(usize::from(home)).ok_or(Errno::ENODEV)?;
    if pages == PageCount::new(0) || kind == Kind::Shadowed && cores.len() > 1 {
        return Err(Errno::EINVAL);
    }
    registry.frames.collect();
    if pages.get() > registry.frames.free() {
        return Err(Errno::ENOMEM);
    }
    let id = registry.new_id();
    let ept = Ept::new(&mut FromTable(&mut registry.frames), registry.ept).map_err(errno)?;
    let (shared_info, clean) = match registry.frames.take_frame(Owner::Domain(id)) {
        Some(taken) => taken,
        None => {
            let _ = ept.destroy(&mut FromTable(&mut registry.frames));
            return Err(Errno::ENOMEM);
        }
    };
    if !clean {
        // SAFETY: the frame was free and is this domain's now, which does not run yet.
        unsafe { scrub(shared_info, PAGE_SIZE) };
    }
    let domain = Domain {
        id,
        is_privileged: kind == Kind::Control,
        is_full: matches!(kind, Kind::Full | Kind::FullAssisted | Kind::Shadowed),
        is_shadowed: kind == Kind::Shadowed,
        cores,
        view: ept.view(),
        eptp: ept.eptp(),
        pages: AtomicU64::new(pages.get()),
        max_pages: AtomicU64::new(pages.get()),
        shared_info,
        place,
        params: [const { AtomicU64::new(0) }; abi::xen::hvm::param::COUNT_WITH_OWN as usize],
        shutdown_code: AtomicU32::new(super::NO_CODE),
        assists: AtomicU32::new(0),
        succession: AtomicU64::new(0),
        memory_map: spin::Mutex::new(ArrayVec::new()),
        crash: spin::Mutex::new(None),
    };
    // A reason that is seen, until domain 0 says otherwise.
    domain.params[TRIPLE_FAULT_REASON as usize].store(abi::xen::sched::reason::CRASH.into(), Relaxed);
    let home_part = Home {
        ept,
        pool: Pool::new(),
        shared_info_at: None,
        pinned: ArrayVec::new(),
        tables_added: 0,
        watchdogs: Watchdogs::default(),
        start: None,
        handing: Handing::default(),
        board: None,
        shadows: None,
    };
    let slot = registry.slots[usize::from(home)];
    // SAFETY: the slots are core 0's, as there is no record of a domain there.
    let (domain, home_part): (&Domain, _) =
        unsafe { ((*slot.domain).write(domain), (*slot.home).write(home_part)) };
    let built = populate(&mut registry.frames, domain, home_part)
        .and_then(|()| lend_first_grants(&mut registry.frames, domain))
        .and_then(|()| add_shadows(&mut registry.frames, domain, home_part, registry.paging))
        .and_then(|()| match kind {
            Kind::FullAssisted if registry.virtualizes_apic => {
                add_apic_page(&mut registry.frames, domain, home_part)
            }
            _ => Ok(()),
        });
    if let Err(error) = built {
        take_apart(&mut registry.frames, domain, home_part);
        return Err(error);
    }
    let mask = domain.cores.iter().fold(0, |mask, &core| mask | 1 << core);
    for (vcpu, &core) in domain.cores.iter().enumerate() {
        let face = &FACES[usize::from(core)];
        face.reset_exits();
        face.shared_info.store(shared_info.as_u64(), Relaxed);
        face.vcpu_info.store(shared_info.as_u64() + (VCPU_INFO + vcpu * VCPU_INFO_SIZE) as u64, Relaxed);
        face.cores.store(mask, Relaxed);
        face.acquainted.store(0, Relaxed);
        face.set_state(DomainState::Building);
        face.domain.store(id.into(), Relaxed);
    }
    let all = |count: fn(usize) -> u64| domain.cores.iter().map(|&core| count(core.into())).sum();
    let (events_in_before, events_out_before) = (all(events_to), all(events_from));
    registry.records[usize::from(home)] =
        Some(Record { id, started: false, events_in_before, events_out_before });
    place.grants.open(id, domain);
    Ok(id)
}

/// The cores of a mask, lowest first, where all of them are there and idle.
fn pick(registry: &Registry, mut mask: u64) -> Result<ArrayVec<u8, MAX_VCPUS>, Errno> {
    let mut cores = ArrayVec::new();
    while mask != 0 {
        let core = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        if core >= registry.records.len() {
            return Err(Errno::ENODEV);
        }
        if FACES[core].domain.load(Relaxed) != NO_DOMAIN || FACES[core].is_off() {
            return Err(Errno::EBUSY);
        }
        cores.try_push(core as u8).map_err(|_| Errno::EINVAL)?;
    }
    Ok(cores)
}

/// Gives the domain its memory, and a few frames for page tables.
fn populate(frames: &mut FrameTable, domain: &Domain, home: &mut Home) -> Result<(), Errno> {
    let content = if domain.is_privileged { Content::Any } else { Content::Zeroes };
    fill(frames, domain.id, &mut home.ept, domain.pages.load(Relaxed), content)?;
    while home.pool.count() < POOL_FRAMES {
        let (frame, _) = frames.take_frame(Owner::Tables).ok_or(Errno::ENOMEM)?;
        if let Err(frame) = home.pool.add(frame) {
            frames.give_back(frame, false);
            break;
        }
    }
    Ok(())
}

/// What a domain finds in its memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Zeroes, whosever it was.
    Zeroes,
    /// What firmware and loader left there: domain 0, which comes first, and may see anything.
    Any,
}

/// Maps so many pages from address 0 on, a domain's from now on, in chunks of 2 MiB as long as there are whole ones.
pub(super) fn fill(
    frames: &mut FrameTable,
    domain: DomId,
    ept: &mut Ept,
    all_pages: u64,
    content: Content,
) -> Result<(), Errno> {
    let mut done = 0;
    while done < all_pages {
        let left = all_pages - done;
        let owner = Owner::Domain(domain);
        let chunk = if left >= CHUNK_FRAMES as u64 { frames.take_chunk(owner) } else { None };
        let (start, clean, pages) = match chunk {
            Some((start, clean)) => (start, clean, CHUNK_FRAMES as u64),
            None => {
                let (start, clean) = frames.take_frame(owner).ok_or(Errno::ENOMEM)?;
                (start, clean, 1)
            }
        };
        if !clean && content == Content::Zeroes {
            // SAFETY: free until now, this domain's from now on, and nobody can reach it yet.
            unsafe { scrub(start, pages * PAGE_SIZE) };
        }
        let (gpa, all) = (GuestPhys::new(done * PAGE_SIZE), Permissions::all());
        let mapped =
            ept.map(&mut FromTable(frames), gpa, start, PageCount::new(pages), all, MemoryType::WriteBack);
        if let Err(error) = mapped {
            for page in 0..pages {
                frames.give_back(HostPhys::new(start.as_u64() + page * PAGE_SIZE), true);
            }
            return Err(errno(error));
        }
        done += pages;
    }
    Ok(())
}

/// What translates the memory of a guest without EPT.
fn add_shadows(
    frames: &mut FrameTable,
    domain: &Domain,
    home: &mut Home,
    features: Features,
) -> Result<(), Errno> {
    if domain.is_shadowed {
        let pages = domain.pages.load(Relaxed);
        home.shadows = Some(Shadows::new(frames, domain.view, pages, features)?);
    }
    Ok(())
}

/// Memory where a PC's local APIC has its registers, for processors to know an access to them by.
fn add_apic_page(frames: &mut FrameTable, domain: &Domain, home: &mut Home) -> Result<(), Errno> {
    let at = GuestPhys::new(local_apic::ADDRESS);
    if domain.pages.load(Relaxed) * PAGE_SIZE > at.as_u64() {
        // It has memory there, and finds no local APIC.
        return Ok(());
    }
    let (frame, clean) = frames.take_frame(Owner::Domain(domain.id)).ok_or(Errno::ENOMEM)?;
    if !clean {
        // SAFETY: free until now, this domain's from now on, and it does not run yet.
        unsafe { scrub(frame, PAGE_SIZE) };
    }
    let (one, all) = (PageCount::new(1), Permissions::all());
    let mapped = home.ept.map(&mut FromTable(frames), at, frame, one, all, MemoryType::WriteBack);
    mapped.map_err(|error| {
        frames.give_back(frame, true);
        errno(error)
    })?;
    // Memory of its own, as the audit will find.
    domain.pages.fetch_add(1, Relaxed);
    domain.max_pages.fetch_add(1, Relaxed);
    Ok(())
}

/// A grant table has a frame from the start.
fn lend_first_grants(frames: &mut FrameTable, domain: &Domain) -> Result<(), Errno> {
    let (frame, clean) = frames.take_frame(Owner::Lent(domain.id)).ok_or(Errno::ENOMEM)?;
    if !clean {
        // SAFETY: the frame was free, and the domain does not have it yet.
        unsafe { scrub(frame, PAGE_SIZE) };
    }
    let grants = &domain.place.grants;
    if grants.shared(0).is_some_and(|lent| lent.put(frame)) {
        grants.has_frames(1);
    } else {
        frames.give_back(frame, true);
    }
    Ok(())
}

/// Ends a domain that no core has any more: memory scrubbed and free, shares returned.
pub fn destroy(registry: &mut Registry, core: usize) {
    if registry.records.get_mut(core).and_then(Option::take).is_none() {
        return;
    }
    let slot = registry.slots[core];
    // SAFETY: there was a record, so the slots are initialised, and by the caller its cores have let go of them.
    let (domain, home) = unsafe { ((*slot.domain).assume_init_ref(), (*slot.home).assume_init_mut()) };
    let cores = domain.cores.clone();
    if let Some(successor) = registry.successors[core].take() {
        successor.release(&mut registry.frames, domain.id);
    }
    take_apart(&mut registry.frames, domain, home);
    for core in cores {
        let face = &FACES[usize::from(core)];
        face.cores.store(0, Relaxed);
        face.domain.store(NO_DOMAIN, Relaxed);
    }
}

fn take_apart(frames: &mut FrameTable, domain: &Domain, home: &mut Home) {
    let id = domain.id;
    let shared_info = domain.shared_info;
    // Pages by others' grants first: the domain may have granted some to itself, and a page goes back unshared.
    home.ept.for_each_mapping(&Identity, |mapping| {
        for frame in frames_of(&mapping) {
            let is_own =
                matches!(frames.owner(frame), Owner::Domain(owner) | Owner::Lent(owner) if owner == id);
            let is_grant = !is_own || !mapping.permissions.contains(Permissions::EXECUTE);
            if is_grant && frames.words().unshare(frame) {
                give_back_scrubbed(frames, frame);
            }
        }
    });
    home.ept.for_each_mapping(&Identity, |mapping| {
        for frame in frames_of(&mapping) {
            if frames.owner(frame) == Owner::Domain(id) && frame != shared_info {
                give_back_scrubbed(frames, frame);
            }
        }
    });
    if let Some(shadows) = home.shadows.take() {
        shadows.destroy(frames);
    }
    domain.place.grants.reset(|frame| give_back_scrubbed(frames, frame));
    give_back_scrubbed(frames, shared_info);
    while let Some(frame) = home.pool.remove() {
        frames.give_back(frame, false);
    }
    // SAFETY: the domain is at its end, and nobody looks at its tables after this.
    let ept = unsafe { core::ptr::read(&raw const home.ept) };
    // The cores that ran it have dropped its translations when they let go.
    let _ = ept.destroy(&mut FromTable(frames));
}

pub(super) fn frames_of(mapping: &Mapping) -> impl Iterator<Item = HostPhys> + use<> {
    let start = mapping.hpa.as_u64();
    (0..mapping.size.bytes()).step_by(PAGE_SIZE as usize).map(move |offset| HostPhys::new(start + offset))
}

/// A frame of a domain that runs no more. What others have mapped by a grant stays until they let go.
pub(super) fn give_back_scrubbed(frames: &mut FrameTable, frame: HostPhys) {
    if frames.owner(frame) == Owner::Orphan || frames.disown(frame) {
        // SAFETY: nobody owns it any more, and nobody has it mapped.
        unsafe { scrub(frame, PAGE_SIZE) };
        frames.give_back(frame, true);
    }
}

/// Copies bytes into a domain that is being built. `EFAULT` where it has no memory.
pub fn write(domain: &Domain, to: GuestPhys, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: a slice is memory, as long as it is.
    unsafe { write_from(domain.view, to, bytes.as_ptr(), bytes.len()) }
}

/// Fills a part of its memory with zeroes. `EFAULT` where it has none.
pub fn clear(domain: &Domain, mut from: GuestPhys, mut bytes: u64) -> Result<(), Errno> {
    while bytes != 0 {
        let found = domain.view.translate(&Identity, from, ept::Access::Write).ok_or(Errno::EFAULT)?;
        let count = bytes.min(found.bytes_left);
        // SAFETY: by its EPT the memory of a domain that does not run yet.
        unsafe { scrub(found.hpa, count) };
        bytes -= count;
        from = from.checked_add(count).ok_or(Errno::EFAULT)?;
    }
    Ok(())
}

/// What [`write`] does, into memory that no virtual CPU uses, from memory that somebody may write to meanwhile: then what is copied is any
/// mixture.
///
/// # Safety
/// `from` is memory, `bytes` long; `memory` is a domain's that does not run, or one that it does not use.
pub unsafe fn write_from(
    memory: View,
    mut to: GuestPhys,
    mut from: *const u8,
    mut bytes: usize,
) -> Result<(), Errno> {
    while bytes != 0 {
        let found = memory.translate(&Identity, to, ept::Access::Write).ok_or(Errno::EFAULT)?;
        let count = bytes.min(found.bytes_left as usize);
        // SAFETY: the one by the caller; the other is by its EPT a domain's memory that nobody uses.
        unsafe { copy_bytes(from, pointer(found.hpa), count) };
        (from, bytes) = (from.wrapping_add(count), bytes - count);
        to = to.checked_add(count as u64).ok_or(Errno::EFAULT)?;
    }
    Ok(())
}

/// Moves a domain's own pages to the end of the first 4 GiB, where it can not write to them. All or nothing.
pub fn move_firmware(
    frames: &mut FrameTable,
    home: &mut Home,
    from: GuestPhys,
    pages: PageCount,
) -> Result<(), Errno> {
    const END: u64 = 1 << 32;
    let bytes = pages.checked_bytes().filter(|&bytes| bytes <= END).ok_or(Errno::EINVAL)?;
    let rights = Permissions::READ | Permissions::EXECUTE;
    let at = |start: u64, page: u64| GuestPhys::new(start + page * PAGE_SIZE);
    from.checked_add(bytes).ok_or(Errno::EINVAL)?;
    for page in 0..pages.get() {
        let moved =
            home.ept.lookup(&Identity, at(from.as_u64(), page)).ok_or(Errno::EFAULT).and_then(|found| {
                let (to, one) = (at(END - bytes, page), PageCount::new(1));
                home.ept
                    .map(&mut FromTable(frames), to, found.hpa, one, rights, MemoryType::WriteBack)
                    .map_err(errno)
            });
        if let Err(error) = moved {
            // Never translated yet, since the domain has not run.
            let _ = home.ept.unmap(&mut FromTable(frames), at(END - bytes, 0), PageCount::new(page));
            return Err(error);
        }
    }
    home.ept.unmap(&mut FromTable(frames), from, pages).map(drop).map_err(errno)
}

/// Shares `pages` of `owner`'s memory, from `from` on, with a domain that is being built, at `to`. All or nothing.
pub fn share(
    frames: &mut FrameTable,
    owner: &Domain,
    from: GuestPhys,
    home: &mut Home,
    to: GuestPhys,
    pages: PageCount,
) -> Result<(), Errno> {
    let step = |start: GuestPhys, page: u64| start.checked_add(page * PAGE_SIZE).ok_or(Errno::EINVAL);
    let end = pages.checked_bytes().and_then(|bytes| from.checked_add(bytes).and(to.checked_add(bytes)));
    if !from.is_aligned(PAGE_SIZE) || !to.is_aligned(PAGE_SIZE) || end.is_none() {
        return Err(Errno::EINVAL);
    }
    for page in 0..pages.get() {
        let shared = share_page(frames, owner, step(from, page)?, home, step(to, page)?);
        if let Err(error) = shared {
            for undo in 0..page {
                unshare_page(frames, home, step(to, undo)?);
            }
            return Err(error);
        }
    }
    Ok(())
}

fn share_page(
    frames: &mut FrameTable,
    owner: &Domain,
    from: GuestPhys,
    home: &mut Home,
    to: GuestPhys,
) -> Result<(), Errno> {
    let found = owner.view.translate(&Identity, from, ept::Access::Write).ok_or(Errno::EFAULT)?;
    if found.hpa == owner.shared_info || !frames.words().share(found.hpa, owner.id) {
        return Err(Errno::EFAULT);
    }
    let (one, rights) = (PageCount::new(1), Permissions::READ | Permissions::WRITE);
    let mapped = home.ept.map(&mut FromTable(frames), to, found.hpa, one, rights, MemoryType::WriteBack);
    if mapped.is_err() {
        drop_share(frames, found.hpa);
    }
    mapped.map_err(errno)
}

fn unshare_page(frames: &mut FrameTable, home: &mut Home, at: GuestPhys) {
    if let Some(found) = home.ept.lookup(&Identity, at) {
        // Never translated yet, since the domain has not run.
        let _ = home.ept.unmap(&mut FromTable(frames), at, PageCount::new(1));
        drop_share(frames, found.hpa);
    }
}

fn drop_share(frames: &mut FrameTable, frame: HostPhys) {
    if frames.words().unshare(frame) {
        frames.give_back(frame, false);
    }
}
