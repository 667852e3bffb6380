//! Changes of a domain's memory while it runs: its home core's part. What is taken out is nobody's only when every core
//! of the domain has forgotten it; see `hypercall::places`, which sees to that.

use abi::address::{GuestPhys, HostPhys, PAGE_SIZE, PageCount};
use abi::xen::errno::Errno;
use ept::{Invalidation, MapError, MemoryType, Permissions};

use super::{Domain, Home};
use crate::grants::maptrack::Mapping;
use crate::memory::physical::Identity;

/// Tables that a domain may have beyond one for each 2 MiB of its memory: tables that become empty stay, so without an
/// end to it a guest could fill the machine with them.
const SPARE_TABLES: u64 = 64;

const ONE: PageCount = PageCount::new(1);

fn errno(error: MapError) -> Errno {
    match error {
        MapError::AlreadyMapped(_) => Errno::EEXIST,
        MapError::OutOfFrames => Errno::ENOMEM,
        _ => Errno::EINVAL,
    }
}

/// The address of a guest frame.
pub fn address(gfn: u64) -> Result<GuestPhys, Errno> {
    gfn.checked_mul(PAGE_SIZE).map(GuestPhys::new).ok_or(Errno::EINVAL)
}

impl Home {
    /// Lets a frame of the domain's appear at a place where nothing is.
    pub fn place(&mut self, domain: &Domain, gfn: u64, frame: u64) -> Result<(), Errno> {
        let (at, frame) = (address(gfn)?, HostPhys::new(frame));
        let is_shared_info = frame == domain.shared_info;
        let rights = if is_shared_info { Permissions::READ | Permissions::WRITE } else { Permissions::all() };
        self.ept.map(&mut self.pool, at, frame, ONE, rights, MemoryType::WriteBack).map_err(errno)?;
        if is_shared_info {
            self.shared_info_at = Some(at);
        }
        Ok(())
    }

    /// Lets nothing be at a place, where this frame is now. `true`: the domain's cores have to forget translations.
    pub fn displace(&mut self, gfn: u64, frame: u64) -> Result<bool, Errno> {
        let at = address(gfn)?;
        let found = self.ept.translate(&Identity, at, ept::Access::Read);
        if found.is_none_or(|found| found.hpa != HostPhys::new(frame)) {
            return Err(Errno::EAGAIN);
        }
        if self.pinned.contains(&HostPhys::new(frame)) {
            return Err(Errno::EBUSY);
        }
        let cleared = self.ept.clear(&mut self.pool, at, ONE).map_err(errno)?;
        if self.shared_info_at == Some(at) {
            self.shared_info_at = None;
        }
        Ok(cleared == Invalidation::Needed)
    }

    /// Lets the `shared_info` page appear at frame `gfn`, where nothing is. It is at one place at a time. `true`: the
    /// domain's cores have to forget translations.
    pub fn place_shared_info(&mut self, domain: &Domain, gfn: u64) -> Result<bool, Errno> {
        let before = self.shared_info_at;
        self.place(domain, gfn, domain.shared_info.as_u64())?;
        let Some(before) = before else { return Ok(false) };
        let cleared = self.ept.clear(&mut self.pool, before, ONE).map_err(|_| Errno::ENOMEM)?;
        Ok(cleared == Invalidation::Needed)
    }

    /// Keeps this frame, which is to be at this place, where it is.
    pub fn pin(&mut self, gfn: u64, frame: HostPhys) -> Result<(), Errno> {
        let found = self.ept.translate(&Identity, address(gfn)?, ept::Access::Write);
        if found.is_none_or(|found| found.hpa != frame) {
            return Err(Errno::EINVAL);
        }
        self.pinned.try_push(frame).map_err(|_| Errno::ENOMEM)
    }

    /// Ends one such keeping.
    pub fn unpin(&mut self, frame: HostPhys) {
        if let Some(at) = self.pinned.iter().position(|&pinned| pinned == frame) {
            self.pinned.swap_remove(at);
        }
    }

    /// One more frame for page tables.
    pub fn add_table(&mut self, max_pages: u64, frame: HostPhys) -> Result<(), Errno> {
        if self.tables_added >= SPARE_TABLES + max_pages / 512 {
            return Err(Errno::ENOMEM);
        }
        self.pool.add(frame).map_err(|_| Errno::ENOMEM)?;
        self.tables_added += 1;
        Ok(())
    }
}

/// Grants: pages of others', and the domain's own table.
impl Home {
    /// Lets another's page appear where nothing is. Its handle. `ENOSPC`: there are too many.
    pub fn place_granted(&mut self, mapping: Mapping) -> Result<u32, Errno> {
        let rights = if mapping.write { Permissions::READ | Permissions::WRITE } else { Permissions::READ };
        let handle = self.maptrack.add(mapping).ok_or(Errno::ENOSPC)?;
        let at = address(mapping.gfn)?;
        let mapped = self.ept.map(&mut self.pool, at, mapping.frame, ONE, rights, MemoryType::WriteBack);
        if let Err(error) = mapped {
            self.maptrack.remove(handle);
            return Err(errno(error));
        }
        Ok(handle)
    }

    /// Takes another's page out. What it was, and whether the domain's cores have to forget translations. `ENOENT`: no
    /// such handle; `EINVAL`: its page is elsewhere.
    pub fn take_granted(&mut self, handle: u32, gfn: u64) -> Result<(Mapping, bool), Errno> {
        let mapping = self.maptrack.get(handle).ok_or(Errno::ENOENT)?;
        if mapping.gfn != gfn {
            return Err(Errno::EINVAL);
        }
        let cleared = self.ept.clear(&mut self.pool, address(gfn)?, ONE).map_err(errno)?;
        self.maptrack.remove(handle);
        Ok((mapping, cleared == Invalidation::Needed))
    }

    /// Lets a frame of the grant table appear where nothing is. It is at one place at a time. `true`: the domain's cores
    /// have to forget translations.
    pub fn place_table(&mut self, domain: &Domain, index: u32, marks: bool, gfn: u64) -> Result<bool, Errno> {
        let table = &domain.place.grants;
        let frame = if marks { table.status_frame(index) } else { table.frame(index) };
        let frame = frame.ok_or(Errno::EINVAL)?;
        let at = address(gfn)?;
        let before = self.find(frame);
        let rights = Permissions::READ | Permissions::WRITE;
        self.ept.map(&mut self.pool, at, frame, ONE, rights, MemoryType::WriteBack).map_err(errno)?;
        let Some(before) = before else { return Ok(false) };
        let cleared = self.ept.clear(&mut self.pool, before, ONE).map_err(|_| Errno::ENOMEM)?;
        Ok(cleared == Invalidation::Needed)
    }

    /// Where a frame of the grant table is, by frame number.
    pub fn table_at(&self, domain: &Domain, index: u32, marks: bool) -> Option<u64> {
        let table = &domain.place.grants;
        let frame = if marks { table.status_frame(index) } else { table.frame(index) };
        Some(self.find(frame?)?.as_u64() / PAGE_SIZE)
    }

    /// Where one of the domain's small pages is.
    fn find(&self, frame: HostPhys) -> Option<GuestPhys> {
        let mut found = None;
        self.ept.for_each_mapping(&Identity, |mapping| {
            if mapping.hpa == frame && mapping.size.bytes() == PAGE_SIZE {
                found = Some(mapping.gpa);
            }
        });
        found
    }
}
