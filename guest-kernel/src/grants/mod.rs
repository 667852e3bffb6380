//! Letting another domain use a page of ours, and using one of another's: Xen's grants (`grant_table.h`, version 1), the
//! same on Atoll and on Xen.
//!
//! [`Table`] is the granter's side: entries in memory shared with the hypervisor, each free, granted, or granted and in use;
//! no hypercall is needed to grant or to revoke. [`Window`] is the user's side: addresses at which other domains' pages are
//! mapped, and copies of them. The calls themselves are behind [`Hypervisor`], so that all of this runs in host tests.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::address::PAGE_SIZE;
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::grant_table::{Copy, MapGrantRef, RESERVED_ENTRIES, UnmapGrantRef, flag, map_flag, status};

#[cfg(test)]
mod tests;

/// Whether a page may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and written.
    Write,
}

/// The number of an entry, for the other domain to name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference(pub u32);

/// The entry's page is still mapped by the other domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InUse;

/// What this domain grants. Each entry is two words: flags and domain, and the frame number.
#[derive(Debug)]
pub struct Table<'a> {
    words: &'a [AtomicU32],
    free: Vec<u32>,
    /// Entries from here on were never used.
    fresh: u32,
}

impl<'a> Table<'a> {
    /// A table of these words, two for each entry. The first few entries are the tools'.
    pub const fn new(words: &'a [AtomicU32]) -> Self {
        Self { words, free: Vec::new(), fresh: RESERVED_ENTRIES }
    }

    fn entry(&self, reference: u32) -> Option<(&AtomicU32, &AtomicU32)> {
        let at = reference as usize * 2;
        Some((self.words.get(at)?, self.words.get(at + 1)?))
    }

    /// Lets a domain use one of our frames. `None`: all entries are in use.
    pub fn grant(&mut self, domain: DomId, frame: u32, access: Access) -> Option<Reference> {
        let reference = self.free.last().copied().unwrap_or(self.fresh);
        let (header, place) = self.entry(reference)?;
        place.store(frame, Ordering::Relaxed);
        let readonly = if access == Access::Read { flag::READONLY } else { 0 };
        // The frame is there before the entry says so.
        header.store(u32::from(flag::PERMIT_ACCESS | readonly) | u32::from(domain) << 16, Ordering::Release);
        if self.free.pop().is_none() {
            self.fresh += 1;
        }
        Some(Reference(reference))
    }

    /// Whether the other domain uses it now.
    pub fn is_used(&self, reference: Reference) -> bool {
        let used = u32::from(flag::READING | flag::WRITING);
        self.entry(reference.0).is_some_and(|(header, _)| header.load(Ordering::Acquire) & used != 0)
    }

    /// Ends a grant. From then on the page is ours alone.
    pub fn revoke(&mut self, reference: Reference) -> Result<(), InUse> {
        let used = u32::from(flag::READING | flag::WRITING);
        let Some((header, _)) = self.entry(reference.0) else { return Ok(()) };
        let end = |now: u32| (now & used == 0).then_some(0);
        let before = header.fetch_update(Ordering::AcqRel, Ordering::Acquire, end).map_err(|_| InUse)?;
        if before != 0 {
            self.free.push(reference.0);
        }
        Ok(())
    }
}

/// The calls about other domains' grants. Each operation has a status of its own.
pub trait Hypervisor {
    /// Maps each of these.
    fn map(&self, operations: &mut [MapGrantRef]) -> Result<(), Errno>;
    /// Unmaps each of these.
    fn unmap(&self, operations: &mut [UnmapGrantRef]) -> Result<(), Errno>;
    /// Does each of these copies.
    fn copy(&self, operations: &mut [Copy]) -> Result<(), Errno>;
}

/// Why a grant could not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no free address in the window.
    NoRoom,
    /// The call as such.
    Call(Errno),
    /// This one, with its [`status`].
    Status(i16),
}

/// Another domain's page at an address of ours.
#[derive(PartialEq, Eq, Debug)]
pub struct Mapped {
    /// Where it is.
    pub address: u64,
    handle: u32,
}

/// Addresses for other domains' pages.
#[derive(Debug)]
pub struct Window {
    free: Vec<u64>,
}

impl Window {
    /// So many pages from a guest-physical address on, where nothing is.
    pub fn new(start: u64, pages: u64) -> Self {
        Self { free: (0..pages).rev().map(|page| start + page * PAGE_SIZE).collect() }
    }

    /// Maps a page.
    pub fn map(
        &mut self,
        hypervisor: &impl Hypervisor,
        domain: DomId,
        reference: Reference,
        access: Access,
    ) -> Result<Mapped, Refused> {
        let address = self.free.pop().ok_or(Refused::NoRoom)?;
        let readonly = if access == Access::Read { map_flag::READONLY } else { 0 };
        let mut operation = MapGrantRef {
            host_addr: address,
            flags: map_flag::HOST_MAP | readonly,
            reference: reference.0,
            dom: domain,
            status: status::GENERAL_ERROR,
            ..MapGrantRef::default()
        };
        let called = hypervisor.map(core::slice::from_mut(&mut operation)).map_err(Refused::Call);
        match called.and(done(operation.status)) {
            Ok(()) => Ok(Mapped { address, handle: operation.handle }),
            Err(refused) => {
                self.free.push(address);
                Err(refused)
            }
        }
    }

    /// Unmaps a page. Nobody may look at its address any more.
    pub fn unmap(&mut self, hypervisor: &impl Hypervisor, mapped: Mapped) -> Result<(), Refused> {
        let mut operation = UnmapGrantRef {
            host_addr: mapped.address,
            handle: mapped.handle,
            status: status::GENERAL_ERROR,
            ..UnmapGrantRef::default()
        };
        hypervisor.unmap(core::slice::from_mut(&mut operation)).map_err(Refused::Call)?;
        done(operation.status)?;
        self.free.push(mapped.address);
        Ok(())
    }
}

/// Does one copy.
pub fn copy(hypervisor: &impl Hypervisor, mut operation: Copy) -> Result<(), Refused> {
    operation.status = status::GENERAL_ERROR;
    hypervisor.copy(core::slice::from_mut(&mut operation)).map_err(Refused::Call)?;
    done(operation.status)
}

const fn done(status: i16) -> Result<(), Refused> {
    if status == status::OKAY { Ok(()) } else { Err(Refused::Status(status)) }
}
