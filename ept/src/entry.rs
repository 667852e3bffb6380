//! One 64-bit entry, as the processor reads it (SDM 3C, "EPT Translation Mechanism").

use abi::address::HostPhys;
use bitflags::bitflags;

use crate::frames::ENTRIES;
use crate::level::{Level, PageSize};

bitflags! {
    /// What a guest may do with memory: bits 2:0 of an entry.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub struct Permissions: u8 {
        /// Data reads.
        const READ = 1 << 0;
        /// Data writes; the processor takes an entry that allows these without reads for a mistake.
        const WRITE = 1 << 1;
        /// Instruction fetches.
        const EXECUTE = 1 << 2;
    }
}

impl Permissions {
    /// Reads and writes.
    pub const READ_WRITE: Self = Self::READ.union(Self::WRITE);
    /// Reads and instruction fetches.
    pub const READ_EXECUTE: Self = Self::READ.union(Self::EXECUTE);
    /// Everything.
    pub const READ_WRITE_EXECUTE: Self = Self::READ_WRITE.union(Self::EXECUTE);
}

/// How the processor may cache a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MemoryType {
    /// Memory. The guest's own page attributes are ignored, so it cannot make uncached what others see write-back.
    WriteBack,
    /// Device registers. The guest's page attributes still apply, so that it can choose write-combining.
    Uncacheable,
}

impl MemoryType {
    /// Bits 5:3 (the type) and 6 ("ignore PAT") of a leaf.
    pub(crate) const fn bits(self) -> u64 {
        match self {
            Self::WriteBack => 6 << 3 | 1 << 6,
            Self::Uncacheable => 0,
        }
    }
}

/// Bits 2:0: what is allowed. All clear means not present, whatever the other bits say.
pub(crate) const PERMISSIONS: u64 = 0b111;
/// Bits 5:3: memory type of a leaf.
pub(crate) const MEMORY_TYPE: u64 = 0b111 << 3;
/// Bit 7: an entry above the lowest level maps a page.
pub(crate) const MAPS_PAGE: u64 = 1 << 7;
/// Bits 9:8: accessed and dirty, set by the processor when the EPTP asks for it.
const ACCESSED_DIRTY: u64 = 0b11 << 8;
/// Bits 51:12: the frame.
pub(crate) const ADDRESS: u64 = ((1 << 52) - 1) & !0xfff;

/// An entry of a table at some level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry(pub(crate) u64);

/// What an entry is, at the level where it was read.
pub(crate) enum Decoded {
    Empty,
    Page(PageSize),
    Table { table: HostPhys, level: Level },
}

impl Entry {
    pub(crate) const EMPTY: Self = Self(0);

    /// A reference to the table in `frame`. Everything is allowed here, so a page's own entry alone decides.
    pub(crate) const fn table(frame: HostPhys) -> Self {
        Self(frame.as_u64() & ADDRESS | PERMISSIONS)
    }

    /// A page of `size` at `hpa`.
    pub(crate) const fn page(hpa: u64, size: PageSize, permissions: Permissions, memory: MemoryType) -> Self {
        let maps_page = if matches!(size, PageSize::Size4KiB) { 0 } else { MAPS_PAGE };
        Self(hpa & ADDRESS | maps_page | memory.bits() | permissions.bits() as u64)
    }

    pub(crate) const fn decode(self, level: Level) -> Decoded {
        if self.0 & PERMISSIONS == 0 {
            return Decoded::Empty;
        }
        match (level.page_size(), level.below()) {
            (Some(size), Some(_)) if self.0 & MAPS_PAGE != 0 => Decoded::Page(size),
            (_, Some(level)) => Decoded::Table { table: self.address(), level },
            (_, None) => Decoded::Page(PageSize::Size4KiB),
        }
    }

    pub(crate) const fn address(self) -> HostPhys {
        HostPhys::new(self.0 & ADDRESS)
    }

    pub(crate) const fn permissions(self) -> Permissions {
        Permissions::from_bits_truncate(self.0 as u8)
    }

    pub(crate) const fn memory_type(self) -> MemoryType {
        if self.0 & MEMORY_TYPE == 0 { MemoryType::Uncacheable } else { MemoryType::WriteBack }
    }

    /// The same page under other permissions.
    pub(crate) const fn with_permissions(self, permissions: Permissions) -> Self {
        Self(self.0 & !PERMISSIONS | permissions.bits() as u64)
    }

    /// The `index`th of the 512 smaller pages that this page of `size` consists of. They inherit its accessed and
    /// dirty flags: what was written may be in any of them.
    pub(crate) const fn piece(self, size: PageSize, index: usize) -> Self {
        let piece_bytes = size.bytes() / ENTRIES as u64;
        let attributes = match size {
            PageSize::Size1GiB => self.0,
            PageSize::Size2MiB | PageSize::Size4KiB => self.0 & !MAPS_PAGE,
        };
        Self(attributes + index as u64 * piece_bytes)
    }

    /// Inverse of [`Self::piece`]: the page of `size` of which this would be piece `index`, accessed and dirty flags
    /// left out. `None` where its address rules that out.
    pub(crate) const fn whole(self, size: PageSize, index: usize) -> Option<Self> {
        let offset = index as u64 * (size.bytes() / ENTRIES as u64);
        let address = self.0 & ADDRESS;
        if address < offset || !HostPhys::new(address - offset).is_aligned(size.bytes()) {
            return None;
        }
        Some(Self(((self.0 & !ACCESSED_DIRTY) - offset) | MAPS_PAGE))
    }

    /// Whether the processor has used it, where it keeps such flags.
    pub(crate) const fn is_accessed(self) -> bool {
        self.0 & 1 << 8 != 0
    }

    /// The accessed and dirty flags alone.
    pub(crate) const fn flags(self) -> u64 {
        self.0 & ACCESSED_DIRTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_the_processors_layout() {
        let all = Permissions::READ_WRITE_EXECUTE;
        let page = Entry::page(0x1234_5000, PageSize::Size4KiB, all, MemoryType::WriteBack);
        assert_eq!(page.0, 0x1234_5077);
        let page = Entry::page(0x4000_0000, PageSize::Size1GiB, Permissions::READ, MemoryType::Uncacheable);
        assert_eq!(page.0, 0x4000_0081);
        assert_eq!(Entry::table(HostPhys::new(0x7000)).0, 0x7007);
    }

    #[test]
    fn pieces_and_the_whole_are_inverse() {
        for (size, below) in
            [(PageSize::Size1GiB, PageSize::Size2MiB), (PageSize::Size2MiB, PageSize::Size4KiB)]
        {
            let page = Entry::page(3 << 30, size, Permissions::READ_WRITE, MemoryType::WriteBack);
            for index in [0, 1, 511] {
                let hpa = (3 << 30) + index as u64 * below.bytes();
                let piece = page.piece(size, index);
                assert_eq!(piece, Entry::page(hpa, below, Permissions::READ_WRITE, MemoryType::WriteBack));
                assert_eq!(piece.whole(size, index), Some(page));
                assert_eq!(piece.whole(size, index ^ 2), None);
            }
        }
    }

    #[test]
    fn pieces_inherit_what_the_processor_recorded() {
        let page = Entry::page(0, PageSize::Size2MiB, Permissions::READ, MemoryType::WriteBack);
        let written = Entry(page.0 | ACCESSED_DIRTY);
        assert_eq!(written.piece(PageSize::Size2MiB, 7).flags(), ACCESSED_DIRTY);
        assert_eq!(written.piece(PageSize::Size2MiB, 7).whole(PageSize::Size2MiB, 7), Some(page));
    }
}
