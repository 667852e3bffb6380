//! Single 4 KiB pages that come and go often, where the tables for them are there already: mappings of grants.
//!
//! A [`Place`] is found once and used at once: it is good until the next change of the tables. What `map` and `clear` do
//! for ranges is done here by one store, without a plan, since nothing is needed that could run out.

use abi::address::{GuestPhys, HostPhys, PAGE_SIZE};

use crate::entry::{Decoded, Entry, MemoryType, Permissions};
use crate::error::Invalidation;
use crate::frames::{ENTRIES, Frames, Tables};
use crate::level::{GUEST_ADDRESS_BITS, Level, PageSize};
use crate::table::Ept;

/// The entry for one 4 KiB page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    table: HostPhys,
    index: usize,
}

/// Why there is no place for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoPlace {
    /// Something is mapped there.
    Taken,
    /// Tables are missing: [`Ept::map`] adds them.
    NoTable,
    /// Past the guest's address space.
    OutOfRange,
}

impl Ept {
    /// The place for a page where nothing is mapped.
    #[inline]
    pub fn vacancy<T: Tables>(&self, tables: &T, gpa: GuestPhys) -> Result<Place, NoPlace> {
        let (place, entry) = self.entry(tables, gpa)?;
        if entry.0 == 0 { Ok(place) } else { Err(NoPlace::Taken) }
    }

    /// The place of the 4 KiB page that is mapped at `gpa`, and where that is. `None`: nothing is, or a larger page.
    #[inline]
    pub fn occupant<T: Tables>(&self, tables: &T, gpa: GuestPhys) -> Option<(Place, HostPhys)> {
        let (place, entry) = self.entry(tables, gpa).ok()?;
        match entry.decode(Level::Pte) {
            Decoded::Page(_) => Some((place, entry.address())),
            _ => None,
        }
    }

    /// Maps a page of memory at a vacant place. `false`: it cannot be mapped so, and nothing was done.
    #[inline]
    pub fn fill<F: Frames>(
        &mut self,
        frames: &mut F,
        place: Place,
        hpa: HostPhys,
        permissions: Permissions,
    ) -> bool {
        if self.check(permissions).is_err() || !hpa.is_aligned(PAGE_SIZE) {
            return false;
        }
        let entry = Entry::page(hpa.as_u64(), PageSize::Size4KiB, permissions, MemoryType::WriteBack);
        frames.write(place.table, place.index, entry.0);
        true
    }

    /// Takes a page out. Where the processor keeps accessed flags and this page's was never set, no processor can have
    /// its translation: it sets the flag before it caches.
    #[inline]
    pub fn vacate<F: Frames>(&mut self, frames: &mut F, place: Place) -> Invalidation {
        let was = Entry(frames.swap(place.table, place.index, Entry::EMPTY.0));
        if self.settings().accessed_dirty && !was.is_accessed() {
            Invalidation::None
        } else {
            Invalidation::Needed
        }
    }

    #[inline]
    fn entry<T: Tables>(&self, tables: &T, gpa: GuestPhys) -> Result<(Place, Entry), NoPlace> {
        let address = gpa.as_u64();
        if address >> GUEST_ADDRESS_BITS != 0 {
            return Err(NoPlace::OutOfRange);
        }
        let (mut table, mut level) = (self.root(), Level::Pml4e);
        loop {
            let index = (address >> level.shift()) as usize % ENTRIES;
            let entry = Entry(tables.read(table, index));
            if matches!(level, Level::Pte) {
                return Ok((Place { table, index }, entry));
            }
            match entry.decode(level) {
                Decoded::Table { table: below, level: lower } => (table, level) = (below, lower),
                Decoded::Page(_) => return Err(NoPlace::Taken),
                Decoded::Empty => return Err(NoPlace::NoTable),
            }
        }
    }
}
