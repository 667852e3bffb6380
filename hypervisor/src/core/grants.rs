//! A core's part in grants: it finds the granter, maps and unmaps as home of the domain that uses the grant.
//!
//! Another domain's entries and pages are used only between [`Core::granter`], which notes that this core is acquainted
//! with that domain and then looks whether it is there still, and this core's next answer to anybody. Core 0 closes a
//! domain's grants before it asks all acquainted cores for a fence, and takes it apart only then.

use core::sync::atomic::Ordering;

use abi::address::{GuestPhys, HostPhys, PAGE_SIZE, PageCount};
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::grant_table::{MapGrantRef, map_flag, status};
use arrayvec::ArrayVec;
use ept::{Access, Invalidation, MapError, MemoryType, NoPlace, Permissions};

use super::Core;
use super::face::FACES;
use crate::domain::{Domain, physmap};
use crate::grants::Grants;
use crate::grants::access::{Granted, Memory, acquire, release};
use crate::grants::entry::Wish;
use crate::grants::maptrack::Mapping;
use crate::memory::frame_table::words;
use crate::memory::orphans;
use crate::memory::physical::Identity;

/// A domain whose grants may be used now.
#[derive(Clone, Copy, Debug)]
pub struct Granter {
    /// Its home core.
    pub home: u8,
    /// Its grants.
    pub grants: &'static Grants,
    /// Itself.
    pub domain: &'static Domain,
}

impl Memory for Granter {
    fn frame(&self, gfn: u64, write: bool) -> Option<HostPhys> {
        let access = if write { Access::Write } else { Access::Read };
        let found = self.domain.view.translate(&Identity, physmap::address(gfn).ok()?, access)?;
        (found.hpa != self.domain.shared_info).then_some(found.hpa)
    }

    fn share(&self, frame: HostPhys) -> bool {
        words().share(frame, self.domain.id)
    }
}

/// Unmaps between two times that translations are forgotten.
pub const UNMAPS: usize = 32;

/// One mapping to be ended.
#[derive(Clone, Copy, Debug)]
pub struct Unmap {
    /// Where it appears; 0: to be left there.
    pub host_addr: u64,
    /// Its address for devices, or 0.
    pub dev_bus_addr: u64,
    /// The mapping's number.
    pub handle: u32,
    /// What became of it.
    pub status: i16,
    /// What was unmapped, and is used until translations are forgotten.
    pub done: Option<Mapping>,
}

/// Several of them.
#[derive(Debug, Default)]
pub struct Unmaps {
    /// They.
    pub each: ArrayVec<Unmap, UNMAPS>,
    /// Whether the domain's cores have to forget translations.
    pub stale: bool,
}

impl Core {
    /// The domain of that number, whose grants may be used until this core answers anybody.
    #[inline]
    pub fn granter(&self, id: DomId) -> Option<Granter> {
        let places = &self.machine.places;
        let home = places.iter().position(|place| place.grants.owner() == Some(id))?;
        self.granter_at(home as u8, id)
    }

    /// The same, where its home core is known.
    #[inline]
    pub fn granter_at(&self, home: u8, id: DomId) -> Option<Granter> {
        let grants = &self.machine.places.get(usize::from(home))?.grants;
        let acquainted = &FACES.get(usize::from(home))?.acquainted;
        if acquainted.load(Ordering::Relaxed) & 1 << self.index == 0 {
            acquainted.fetch_or(1 << self.index, Ordering::SeqCst);
        }
        if grants.owner() != Some(id) {
            return None;
        }
        // SAFETY: its owner was there after this core was noted as acquainted, so the domain is taken apart only after
        // this core's next answer; nobody keeps a `Granter` over one.
        Some(Granter { home, grants, domain: unsafe { &*grants.domain() } })
    }

    /// Home's part of `GNTTABOP_map_grant_ref`. `EEXIST`: something is mapped there; `ENOMEM`: home has no frame for a
    /// page table. Then nothing was done.
    #[inline]
    pub fn map_grant(&mut self, op: &mut MapGrantRef) -> Result<i16, Errno> {
        if op.flags & (map_flag::DEVICE_MAP | map_flag::HOST_MAP) == 0 {
            return Ok(status::BAD_GNTREF);
        }
        if op.flags & (map_flag::DEVICE_MAP | map_flag::APPLICATION_MAP | map_flag::CONTAINS_PTE) != 0 {
            return Ok(status::GENERAL_ERROR);
        }
        let Some(granter) = self.granter(op.dom) else { return Ok(status::BAD_DOMAIN) };
        let own = self.domain()?;
        let home = self.home.as_deref_mut().ok_or(Errno::ESRCH)?;
        let maptrack = &own.place.grants.maptrack;
        let Some(handle) = maptrack.vacant() else { return Ok(status::NO_DEVICE_SPACE) };
        let readonly = op.flags & map_flag::READONLY != 0;
        let wish = Wish { domain: own.id, write: !readonly, mapping: true };
        let frame = match acquire(granter.grants, op.reference, wish, &granter) {
            Ok(Granted::Bytes { frame, .. }) => frame,
            Ok(Granted::Through { .. }) => {
                release(granter.grants, op.reference, own.id, !readonly);
                return Ok(status::GENERAL_ERROR);
            }
            Err(status) => return Ok(status),
        };
        let rights = if readonly { Permissions::READ } else { Permissions::READ_WRITE };
        let at = GuestPhys::new(op.host_addr & !(PAGE_SIZE - 1));
        let mapped = if op.flags & !map_flag::READONLY != map_flag::HOST_MAP {
            Ok(status::GENERAL_ERROR)
        } else {
            match home.ept.vacancy(&Identity, at) {
                Ok(place) if home.ept.fill(&mut home.pool, place, frame, rights) => Ok(status::OKAY),
                Ok(_) | Err(NoPlace::OutOfRange) => Ok(status::GENERAL_ERROR),
                Err(NoPlace::Taken) => Err(Errno::EEXIST),
                Err(NoPlace::NoTable) => {
                    let one = PageCount::new(1);
                    match home.ept.map(&mut home.pool, at, frame, one, rights, MemoryType::WriteBack) {
                        Ok(()) => Ok(status::OKAY),
                        Err(MapError::OutOfFrames) => Err(Errno::ENOMEM),
                        Err(_) => Ok(status::GENERAL_ERROR),
                    }
                }
            }
        };
        if mapped != Ok(status::OKAY) {
            orphans::drop_share(frame);
            release(granter.grants, op.reference, own.id, !readonly);
            return mapped;
        }
        let (domain, home, reference, gfn) = (op.dom, granter.home, op.reference, op.host_addr / PAGE_SIZE);
        maptrack.set(handle, &Mapping { domain, home, reference, readonly, frame, gfn });
        op.handle = handle;
        op.dev_bus_addr = frame.as_u64();
        mapped
    }

    /// Home's part of `GNTTABOP_unmap_grant_ref`: takes the pages out. They are in use until translations are forgotten.
    #[inline]
    pub fn unmap_grants(&mut self, unmaps: &mut Unmaps) -> Result<(), Errno> {
        let own = self.domain()?;
        let home = self.home.as_deref_mut().ok_or(Errno::ESRCH)?;
        let maptrack = &own.place.grants.maptrack;
        for unmap in &mut unmaps.each {
            let Some(mapping) = maptrack.get(unmap.handle) else {
                unmap.status = status::BAD_HANDLE;
                continue;
            };
            unmap.status = status::GENERAL_ERROR;
            if unmap.dev_bus_addr != 0 && unmap.dev_bus_addr != mapping.frame.as_u64() {
                continue;
            }
            if unmap.host_addr != 0 {
                if unmap.host_addr / PAGE_SIZE != mapping.gfn {
                    continue;
                }
                let at = GuestPhys::new(unmap.host_addr);
                let Some((place, frame)) = home.ept.occupant(&Identity, at) else { continue };
                if frame != mapping.frame {
                    continue;
                }
                unmaps.stale |= home.ept.vacate(&mut home.pool, place) == Invalidation::Needed;
                maptrack.remove(unmap.handle);
                unmap.done = Some(mapping);
            }
            unmap.status = status::OKAY;
        }
        Ok(())
    }

    /// What was mapped by this core's domain is not in use any more.
    #[inline]
    pub fn end_mapping(&self, user: DomId, mapping: &Mapping) {
        orphans::drop_share(mapping.frame);
        self.end_use(user, mapping.domain, mapping.home, mapping.reference, !mapping.readonly);
    }

    /// Ends the use of an entry, if its domain is there still.
    #[inline]
    pub fn end_use(&self, user: DomId, granter: DomId, home: u8, reference: u32, write: bool) {
        if let Some(granter) = self.granter_at(home, granter) {
            release(granter.grants, reference, user, write);
        }
    }

    /// A domain has ended, and its cores are gone: nobody uses anything of it from here on, and it uses nothing. What it
    /// had mapped stays counted until its page tables are taken apart. Core 0 alone does.
    pub fn end_grants(&self, domain: &Domain) {
        domain.place.grants.close();
        for mapping in domain.place.grants.maptrack.all() {
            self.end_use(domain.id, mapping.domain, mapping.home, mapping.reference, !mapping.readonly);
        }
    }
}
