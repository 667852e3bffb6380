//! Making a domain's memory and taking it apart: core 0's work, with its [`Registry`].

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestPhys, HostPhys, PAGE_SIZE, PageCount};
use abi::control::hypercall::DomainState;
use abi::xen::DomId;
use abi::xen::errno::Errno;
use ept::{Ept, Frames, MapError, MemoryType, Permissions, Tables};

use super::Domain;
use crate::core::face::FACES;
use crate::memory::frame_table::{CHUNK_FRAMES, FrameTable, Owner};
use crate::memory::physical::{Identity, Pool, scrub};
use crate::ports::Ports;
use crate::registry::{Record, Registry};

/// Frames for page tables that a running domain may use without asking.
const POOL_FRAMES: usize = 8;

/// Page-table frames straight from the frame table.
struct FromTable<'a, 'b>(&'a mut FrameTable<'b>);

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
}

fn errno(error: MapError) -> Errno {
    match error {
        MapError::AlreadyMapped(_) => Errno::EEXIST,
        MapError::OutOfFrames => Errno::ENOMEM,
        MapError::Misaligned | MapError::OutOfRange | MapError::Permissions(_) => Errno::EINVAL,
    }
}

/// Makes a domain for `core` with `pages` of zeroed memory from guest-physical 0 on. All or nothing.
pub fn create(
    registry: &mut Registry,
    core: usize,
    pages: PageCount,
    privileged: bool,
) -> Result<DomId, Errno> {
    if pages.get() == 0 {
        return Err(Errno::EINVAL);
    }
    match registry.records.get(core) {
        None => return Err(Errno::ENODEV),
        Some(Some(_)) => return Err(Errno::EBUSY),
        Some(None) => {}
    }
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
    // SAFETY: the place for the ports of this core's domain, which there is none of.
    let ports = unsafe { (*registry.ports[core]).write(Ports::new()) };
    let domain = Domain {
        id,
        is_privileged: privileged,
        ept,
        pool: Pool::new(),
        pages,
        shared_info,
        shared_info_at: None,
        ports,
        params: [0; abi::xen::hvm::param::COUNT as usize],
        entry: GuestPhys::new(0),
        start_info: GuestPhys::new(0),
        crash: None,
        apic_base: super::APIC_BASE_RESET,
        pat: super::PAT_RESET,
    };
    // SAFETY: the slot is core 0's, as there is no record of a domain there.
    let domain = unsafe { (*registry.slots[core]).write(domain) };
    if let Err(error) = populate(&mut registry.frames, domain) {
        take_apart(&mut registry.frames, domain);
        return Err(error);
    }
    let face = &FACES[core];
    face.reset_counts();
    face.invited.store(0, Relaxed);
    face.set_state(DomainState::Building);
    face.shared_info.store(shared_info.as_u64(), Relaxed);
    face.domain.store(id.into(), Relaxed);
    let events_in_before = crate::registry::events_to(core);
    registry.records[core] = Some(Record { id, pages, started: false, events_in_before });
    Ok(id)
}

/// Gives the domain its memory, in chunks of 2 MiB as long as there are whole ones.
fn populate(frames: &mut FrameTable, domain: &mut Domain) -> Result<(), Errno> {
    let mut done = 0;
    while done < domain.pages.get() {
        let left = domain.pages.get() - done;
        let owner = Owner::Domain(domain.id);
        let chunk = if left >= CHUNK_FRAMES as u64 { frames.take_chunk(owner) } else { None };
        let (start, clean, pages) = match chunk {
            Some((start, clean)) => (start, clean, CHUNK_FRAMES as u64),
            None => {
                let (start, clean) = frames.take_frame(owner).ok_or(Errno::ENOMEM)?;
                (start, clean, 1)
            }
        };
        if !clean {
            // SAFETY: free until now, this domain's from now on, and it does not run yet.
            unsafe { scrub(start, pages * PAGE_SIZE) };
        }
        let (gpa, all) = (GuestPhys::new(done * PAGE_SIZE), Permissions::all());
        let mapped = domain.ept.map(
            &mut FromTable(frames),
            gpa,
            start,
            PageCount::new(pages),
            all,
            MemoryType::WriteBack,
        );
        if let Err(error) = mapped {
            for page in 0..pages {
                frames.give_back(HostPhys::new(start.as_u64() + page * PAGE_SIZE), true);
            }
            return Err(errno(error));
        }
        done += pages;
    }
    while domain.pool.count() < POOL_FRAMES {
        let (frame, _) = frames.take_frame(Owner::Tables).ok_or(Errno::ENOMEM)?;
        if let Err(frame) = domain.pool.add(frame) {
            frames.give_back(frame, false);
            break;
        }
    }
    Ok(())
}

/// Ends a domain that no core has any more: memory scrubbed and free, shares returned.
pub fn destroy(registry: &mut Registry, core: usize) {
    if registry.records.get_mut(core).and_then(Option::take).is_none() {
        return;
    }
    // SAFETY: there was a record, so the slot is initialised, and by the caller its core has let go of it.
    let domain = unsafe { (*registry.slots[core]).assume_init_mut() };
    take_apart(&mut registry.frames, domain);
}

fn take_apart(frames: &mut FrameTable, domain: &mut Domain) {
    let id = domain.id;
    let shared_info = domain.shared_info;
    domain.ept.for_each_mapping(&Identity, |mapping| {
        for offset in (0..mapping.size.bytes()).step_by(PAGE_SIZE as usize) {
            let frame = HostPhys::new(mapping.hpa.as_u64() + offset);
            if frames.owner(frame) != Owner::Domain(id) {
                frames.unshare(frame);
            } else if frame != shared_info {
                give_back_scrubbed(frames, frame);
            }
        }
    });
    give_back_scrubbed(frames, shared_info);
    while let Some(frame) = domain.pool.remove() {
        frames.give_back(frame, false);
    }
    // SAFETY: the domain is at its end, and nobody looks at its tables after this.
    let ept = unsafe { core::ptr::read(&raw const domain.ept) };
    // The core that ran it has dropped its translations when it let go.
    let _ = ept.destroy(&mut FromTable(frames));
}

fn give_back_scrubbed(frames: &mut FrameTable, frame: HostPhys) {
    // SAFETY: the frame was the domain's, which runs no more and which nobody shares it with: only domain 0 shares its
    // memory, and domain 0 does not end.
    unsafe { scrub(frame, PAGE_SIZE) };
    frames.give_back(frame, true);
}

/// Copies bytes into a domain that is being built. `EFAULT` where it has no memory.
pub fn write(domain: &Domain, mut to: GuestPhys, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let found = domain.ept.translate(&Identity, to, ept::Access::Write).ok_or(Errno::EFAULT)?;
        let count = bytes.len().min(found.bytes_left as usize);
        let (now, later) = bytes.split_at(count);
        // SAFETY: by its EPT the domain's memory, and it does not run.
        unsafe {
            core::ptr::copy_nonoverlapping(now.as_ptr(), crate::memory::physical::pointer(found.hpa), count);
        }
        bytes = later;
        to = to.checked_add(count as u64).ok_or(Errno::EFAULT)?;
    }
    Ok(())
}

/// Shares `pages` of `owner`'s memory, from `from` on, with a domain that is being built, at `to`. All or nothing.
pub fn share(
    frames: &mut FrameTable,
    owner: &Domain,
    from: GuestPhys,
    domain: &mut Domain,
    to: GuestPhys,
    pages: PageCount,
) -> Result<(), Errno> {
    let step = |start: GuestPhys, page: u64| start.checked_add(page * PAGE_SIZE).ok_or(Errno::EINVAL);
    let end = pages.checked_bytes().and_then(|bytes| from.checked_add(bytes).and(to.checked_add(bytes)));
    if !from.is_aligned(PAGE_SIZE) || !to.is_aligned(PAGE_SIZE) || end.is_none() {
        return Err(Errno::EINVAL);
    }
    for page in 0..pages.get() {
        let shared = share_page(frames, owner, step(from, page)?, domain, step(to, page)?);
        if let Err(error) = shared {
            for undo in 0..page {
                unshare_page(frames, domain, step(to, undo)?);
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
    domain: &mut Domain,
    to: GuestPhys,
) -> Result<(), Errno> {
    let found = owner.ept.translate(&Identity, from, ept::Access::Write).ok_or(Errno::EFAULT)?;
    if frames.owner(found.hpa) != Owner::Domain(owner.id) || found.hpa == owner.shared_info {
        return Err(Errno::EFAULT);
    }
    let (one, rights) = (PageCount::new(1), Permissions::READ | Permissions::WRITE);
    domain
        .ept
        .map(&mut FromTable(frames), to, found.hpa, one, rights, MemoryType::WriteBack)
        .map_err(errno)?;
    if !frames.share(found.hpa) {
        // Never translated yet, since the domain has not run.
        let _ = domain.ept.unmap(&mut FromTable(frames), to, one);
        return Err(Errno::ENOSPC);
    }
    Ok(())
}

fn unshare_page(frames: &mut FrameTable, domain: &mut Domain, at: GuestPhys) {
    if let Some(found) = domain.ept.lookup(&Identity, at) {
        // Never translated yet, since the domain has not run.
        let _ = domain.ept.unmap(&mut FromTable(frames), at, PageCount::new(1));
        frames.unshare(found.hpa);
    }
}
