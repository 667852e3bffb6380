//! A second memory for a domain: where its next kernel is built, and afterwards where the one before it lies until it is
//! sure that nobody goes back. Core 0's work, with its [`Registry`](crate::registry::Registry).
//!
//! A kernel's memory is all below the domain's size; what the hypervisor and domain 0 share with it lies above. So one
//! memory is exchanged for the other by the page directories' entries, and everything else stays where it is: the page
//! of events, rings, the mesh. The root of the page tables stays too, so nobody's pointer to them changes.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::xen::DomId;
use abi::xen::errno::Errno;
use ept::{Ept, Permissions};

use super::build::{self, FromTable};
use super::{Domain, Home};
use crate::core::face::Called;
use crate::memory::frame_table::{FrameTable, Owner, words};
use crate::memory::physical::Identity;

/// The memory that is not in use.
#[derive(Debug)]
pub struct Successor {
    /// It, where the domain would see it.
    pub ept: Ept,
    /// How many pages it has.
    pub pages: u64,
    /// While the old kernel waits: how events reached it, by upcall vector or callback vector.
    pub called: Called,
}

impl Successor {
    /// Memory of zeroes, as much as the domain may have.
    pub fn new(frames: &mut FrameTable<'_>, domain: &Domain, settings: ept::Settings) -> Result<Self, Errno> {
        let pages = domain.max_pages.load(Relaxed);
        frames.collect();
        if pages > frames.free() {
            return Err(Errno::ENOMEM);
        }
        let mut ept = Ept::new(&mut FromTable(frames), settings).map_err(build::errno)?;
        let filled = build::fill(frames, domain.id, &mut ept, pages, build::Content::Zeroes);
        let successor = Self { ept, pages, called: Called::default() };
        match filled {
            Ok(()) => Ok(successor),
            Err(error) => {
                successor.release(frames, domain.id);
                Err(error)
            }
        }
    }

    /// The end of the memory: what is given back by a grant to others stays until they let go.
    pub fn release(self, frames: &mut FrameTable<'_>, domain: DomId) {
        self.ept.for_each_mapping(&Identity, |mapping| {
            for frame in build::frames_of(&mapping) {
                if frames.owner(frame) == Owner::Domain(domain) {
                    build::give_back_scrubbed(frames, frame);
                }
            }
        });
        // The domain's cores have dropped its translations when it was exchanged, or never had any.
        let _ = self.ept.destroy(&mut FromTable(frames));
    }
}

impl Home {
    /// Where the domain's memory ends, in the steps in which it is exchanged.
    fn memory_end(domain: &Domain) -> Result<u64, Errno> {
        let bytes = domain.max_pages.load(Relaxed).checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        bytes.checked_next_multiple_of(ept::STEP).ok_or(Errno::EINVAL)
    }

    /// How many pages of memory there are below `end`. `EBUSY`: something else is there, or the hypervisor uses memory of the
    /// domain's, so that it has to stay.
    fn pages_to_exchange(&self, domain: &Domain, end: u64) -> Result<u64, Errno> {
        let (mut pages, mut is_alone) = (0, true);
        self.ept.for_each_mapping(&Identity, |mapping| {
            if mapping.gpa.as_u64() < end {
                pages += mapping.size.bytes() / PAGE_SIZE;
                is_alone &= mapping.permissions.contains(Permissions::EXECUTE)
                    && words().owner(mapping.hpa) == Owner::Domain(domain.id);
            }
        });
        let is_used = !self.pinned.is_empty() || domain.place.fifo.is_on();
        if is_alone && !is_used { Ok(pages) } else { Err(Errno::EBUSY) }
    }

    /// Exchanges the domain's memory for the other. All cores of the domain have to forget translations then. Where it fails
    /// nothing was exchanged.
    pub fn exchange(&mut self, domain: &Domain, other: &mut Successor) -> Result<(), Errno> {
        let end = Self::memory_end(domain)?;
        let pages = self.pages_to_exchange(domain, end)?;
        let Self { ept, pool, .. } = self;
        // Each core of the domain forgets all of its memory, whatever the answer.
        let _ = ept.exchange(&mut other.ept, pool, GuestPhys::new(end)).map_err(build::errno)?;
        domain.pages.fetch_add(other.pages, Relaxed);
        domain.pages.fetch_sub(pages, Relaxed);
        other.pages = pages;
        Ok(())
    }
}
