//! Changes of a domain's memory while it runs: its home core's part. What is taken out is nobody's only when every core
//! of the domain has forgotten it; see `hypercall::places`, which sees to that.

use abi::address::{GuestPhys, HostPhys, PAGE_SIZE, PageCount};
use abi::xen::errno::Errno;
use ept::{Ept, Invalidation, MapError, MemoryType, Permissions};

use super::{Domain, Home};
use crate::memory::frame_table::{Owner, words};
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

/// Whether a page is there by a grant, which ends by its handle alone: what is a domain's own is always executable, and
/// what is lent to it is nobody's memory.
fn is_grant(ept: &Ept, at: GuestPhys) -> bool {
    ept.lookup(&Identity, at).is_some_and(|found| {
        let is_memory = matches!(words().owner(found.hpa), Owner::Domain(_) | Owner::Orphan);
        is_memory && !found.permissions.contains(Permissions::EXECUTE)
    })
}

impl Home {
    /// Lets a frame of the domain's appear at a place where nothing is.
    pub fn place(&mut self, domain: &Domain, gfn: u64, frame: u64) -> Result<(), Errno> {
        let (at, frame) = (address(gfn)?, HostPhys::new(frame));
        let is_shared_info = frame == domain.shared_info;
        let is_lent = is_shared_info || matches!(words().owner(frame), Owner::Lent(_));
        let rights = if is_lent { Permissions::READ | Permissions::WRITE } else { Permissions::all() };
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
        if self.shared_info_at != Some(at) && is_grant(&self.ept, at) {
            return Err(Errno::ENXIO);
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

    /// Keeps this frame, which is to be at this place, where it is. A place by a grant will not do, were it of the domain's
    /// own: its memory may be on its way back from where else it appears.
    pub fn pin(&mut self, gfn: u64, frame: HostPhys) -> Result<(), Errno> {
        let at = address(gfn)?;
        let found = self.ept.translate(&Identity, at, ept::Access::Write);
        if found.is_none_or(|found| found.hpa != frame) || is_grant(&self.ept, at) {
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
