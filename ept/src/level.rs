//! The four levels of the walk, the page sizes they map, and spans of guest-physical addresses cut into their slots.

use abi::address::{GuestPhys, PAGE_SIZE, PageCount};

use crate::error::MapError;
use crate::frames::ENTRIES;

/// Width of a guest-physical address under a 4-level walk.
pub const GUEST_ADDRESS_BITS: u32 = 48;

/// The sizes in which EPT maps memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageSize {
    /// 4 KiB, mapped by an EPT PTE.
    Size4KiB,
    /// 2 MiB, mapped by an EPT PDE.
    Size2MiB,
    /// 1 GiB, mapped by an EPT PDPTE.
    Size1GiB,
}

impl PageSize {
    /// The size in bytes, a power of two.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Size4KiB => PAGE_SIZE,
            Self::Size2MiB => 1 << 21,
            Self::Size1GiB => 1 << 30,
        }
    }
}

/// A level of the walk, named by what its entries are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    Pml4e,
    Pdpte,
    Pde,
    Pte,
}

impl Level {
    /// The lowest bit of a guest-physical address that selects an entry here.
    pub(crate) const fn shift(self) -> u32 {
        match self {
            Self::Pml4e => 39,
            Self::Pdpte => 30,
            Self::Pde => 21,
            Self::Pte => 12,
        }
    }

    /// The bytes that one entry covers.
    pub(crate) const fn slot_bytes(self) -> u64 {
        1 << self.shift()
    }

    /// The level of the tables that entries here point to.
    pub(crate) const fn below(self) -> Option<Self> {
        match self {
            Self::Pml4e => Some(Self::Pdpte),
            Self::Pdpte => Some(Self::Pde),
            Self::Pde => Some(Self::Pte),
            Self::Pte => None,
        }
    }

    /// The page that an entry here maps; PML4 entries map none.
    pub(crate) const fn page_size(self) -> Option<PageSize> {
        match self {
            Self::Pml4e => None,
            Self::Pdpte => Some(PageSize::Size1GiB),
            Self::Pde => Some(PageSize::Size2MiB),
            Self::Pte => Some(PageSize::Size4KiB),
        }
    }
}

/// Whole pages of guest-physical address space, checked to lie below 2^48. `end` is exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The part of a span that one entry of a table covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) index: usize,
    pub(crate) part: Span,
    /// Whether `part` is all that the entry covers.
    pub(crate) whole: bool,
}

impl Span {
    pub(crate) fn new(gpa: GuestPhys, pages: PageCount) -> Result<Self, MapError> {
        if !gpa.is_aligned(PAGE_SIZE) {
            return Err(MapError::Misaligned);
        }
        let end =
            pages.checked_bytes().and_then(|bytes| gpa.checked_add(bytes)).ok_or(MapError::OutOfRange)?;
        if end.as_u64() > 1 << GUEST_ADDRESS_BITS {
            return Err(MapError::OutOfRange);
        }
        Ok(Self { start: gpa.as_u64(), end: end.as_u64() })
    }

    /// The entries of a table at `level` that this span touches, in ascending order. The span must not reach past
    /// that one table.
    pub(crate) fn slots(self, level: Level) -> impl Iterator<Item = Slot> {
        let mut next = self.start;
        core::iter::from_fn(move || {
            if next >= self.end {
                return None;
            }
            let base = next & !(level.slot_bytes() - 1);
            let part = Self { start: next, end: self.end.min(base + level.slot_bytes()) };
            next = part.end;
            let index = (base >> level.shift()) as usize % ENTRIES;
            Some(Slot { index, part, whole: part.end - part.start == level.slot_bytes() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_whole_pages_below_the_limit() {
        let span = |gpa, pages| Span::new(GuestPhys::new(gpa), PageCount::new(pages));
        assert_eq!(span(1, 1), Err(MapError::Misaligned));
        assert_eq!(span(1 << 48, 1), Err(MapError::OutOfRange));
        assert_eq!(span((1 << 48) - PAGE_SIZE, 2), Err(MapError::OutOfRange));
        assert_eq!(span(u64::MAX - 4095, 1), Err(MapError::OutOfRange));
        assert_eq!(span(0, u64::MAX), Err(MapError::OutOfRange));
        assert_eq!(span((1 << 48) - PAGE_SIZE, 1), Ok(Span { start: (1 << 48) - PAGE_SIZE, end: 1 << 48 }));
        assert_eq!(span(0, 1 << 36), Ok(Span { start: 0, end: 1 << 48 }));
    }

    #[test]
    fn slots_cut_at_the_borders_of_entries() {
        let span = Span { start: 0x3f_f000, end: 0x80_1000 };
        let cut = [(1, 0x3f_f000, 0x40_0000), (2, 0x40_0000, 0x60_0000), (3, 0x60_0000, 0x80_0000)];
        let mut slots = span.slots(Level::Pde);
        for (index, start, end) in cut {
            let slot = slots.next().unwrap();
            assert_eq!((slot.index, slot.part), (index, Span { start, end }));
            assert_eq!(slot.whole, index != 1);
        }
        let last = slots.next().unwrap();
        assert_eq!((last.index, last.whole), (4, false));
        assert!(slots.next().is_none());
    }
}
