//! The kernel's own page tables: identity, 2 MiB pages where they fit, and nothing both writable and executable.
//!
//! Pure arithmetic on an array of tables; `platform::atoll` says where the array lies and loads it.

use core::ops::Range;

/// Bytes in a small page.
const SMALL: u64 = 4096;
/// Bytes in a large page.
const LARGE: u64 = 2 << 20;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// Set in every entry that maps memory, so that the processor never writes to the tables.
const ACCESSED_DIRTY: u64 = 1 << 5 | 1 << 6;
const LARGE_PAGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What may be done with a page. There is no way to say "write and execute".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read and execute.
    Code,
    /// Read.
    Constants,
    /// Read and write.
    Data,
}

impl Rights {
    const fn bits(self) -> u64 {
        match self {
            Rights::Code => 0,
            Rights::Constants => NO_EXECUTE,
            Rights::Data => NO_EXECUTE | WRITABLE,
        }
    }

    const fn of(entry: u64) -> Self {
        match (entry & NO_EXECUTE != 0, entry & WRITABLE != 0) {
            (false, _) => Rights::Code,
            (true, false) => Rights::Constants,
            (true, true) => Rights::Data,
        }
    }
}

/// Why a range was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// All tables are in use.
    NoTable,
    /// Part of it is mapped already.
    Overlap,
    /// Not whole pages, or beyond the lower half of the address space.
    Malformed,
}

/// One table of 512 entries.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Table([u64; 512]);

/// `TABLES` page tables in one piece, the root first.
pub struct PageTables<const TABLES: usize> {
    tables: [Table; TABLES],
    /// Tables in use behind the root. Zero at first, so that a fresh array is all zeroes and takes no room in an image.
    used: usize,
    /// Where the processor finds the first of them.
    address: u64,
}

impl<const TABLES: usize> PageTables<TABLES> {
    /// Tables that map nothing.
    pub const fn new() -> Self {
        Self { tables: [Table([0; 512]); TABLES], used: 0, address: 0 }
    }

    /// Says where the tables lie; before the first [`PageTables::map`].
    pub fn place(&mut self, address: u64) {
        self.address = address;
    }

    /// What CR3 takes.
    pub fn root(&self) -> u64 {
        self.address
    }

    /// Maps the pages of `range` to themselves.
    pub fn map(&mut self, range: Range<u64>, rights: Rights) -> Result<(), Refused> {
        if !range.start.is_multiple_of(SMALL) || !range.end.is_multiple_of(SMALL) || range.end > 1 << 47 {
            return Err(Refused::Malformed);
        }
        let mut at = range.start;
        while at < range.end {
            let large = at.is_multiple_of(LARGE) && range.end - at >= LARGE;
            let size = if large { LARGE } else { SMALL };
            let entry = self.leaf(at, large)?;
            let size_bit = if large { LARGE_PAGE } else { 0 };
            *entry = at | PRESENT | ACCESSED_DIRTY | size_bit | rights.bits();
            at += size;
        }
        Ok(())
    }

    /// The empty entry that is to map the page at `address`.
    fn leaf(&mut self, address: u64, large: bool) -> Result<&mut u64, Refused> {
        let mut table = 0;
        let last = if large { 2 } else { 1 };
        for level in (last + 1..=4).rev() {
            let slot = index(address, level);
            let entry = self.entry(table, slot)?;
            let next = if entry & PRESENT == 0 {
                let fresh = self.used + 1;
                if fresh >= TABLES {
                    return Err(Refused::NoTable);
                }
                self.used = fresh;
                let pointer = self.address + fresh as u64 * SMALL;
                *self.entry_mut(table, slot)? = pointer | PRESENT | WRITABLE | ACCESSED_DIRTY;
                fresh
            } else if entry & LARGE_PAGE != 0 {
                return Err(Refused::Overlap);
            } else {
                self.table_of(entry)
            };
            table = next;
        }
        let entry = self.entry_mut(table, index(address, last))?;
        if *entry & PRESENT != 0 {
            return Err(Refused::Overlap);
        }
        Ok(entry)
    }

    /// Maps a small page, as data, at an address that is not its own.
    pub fn map_page(&mut self, address: u64, page: u64) -> Result<(), Refused> {
        if !address.is_multiple_of(SMALL) || !page.is_multiple_of(SMALL) || address >= 1 << 47 {
            return Err(Refused::Malformed);
        }
        *self.leaf(address, false)? = page | PRESENT | ACCESSED_DIRTY | Rights::Data.bits();
        Ok(())
    }

    /// Takes a small page out; which one that was.
    pub fn unmap_page(&mut self, address: u64) -> Option<u64> {
        let (table, level) = self.find(address)?;
        if level != 1 {
            return None;
        }
        let entry = self.entry_mut(table, index(address, level)).ok()?;
        Some(core::mem::take(entry) & ADDRESS)
    }

    /// How `address` is mapped.
    pub fn rights(&self, address: u64) -> Option<Rights> {
        let (table, level) = self.find(address)?;
        self.entry(table, index(address, level)).ok().map(Rights::of)
    }

    /// The table whose entry maps `address`, and its level.
    fn find(&self, address: u64) -> Option<(usize, u32)> {
        let mut table = 0;
        for level in (1..=4).rev() {
            let entry = self.entry(table, index(address, level)).ok()?;
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 1 || entry & LARGE_PAGE != 0 {
                return Some((table, level));
            }
            table = self.table_of(entry);
        }
        None
    }

    fn table_of(&self, entry: u64) -> usize {
        ((entry & ADDRESS).wrapping_sub(self.address) / SMALL) as usize
    }

    fn entry(&self, table: usize, slot: usize) -> Result<u64, Refused> {
        self.tables.get(table).and_then(|table| table.0.get(slot)).copied().ok_or(Refused::NoTable)
    }

    fn entry_mut(&mut self, table: usize, slot: usize) -> Result<&mut u64, Refused> {
        self.tables.get_mut(table).and_then(|table| table.0.get_mut(slot)).ok_or(Refused::NoTable)
    }
}

impl<const TABLES: usize> Default for PageTables<TABLES> {
    fn default() -> Self {
        Self::new()
    }
}

/// The entry that `address` goes through in a table of `level` (1: maps 4 KiB pages).
const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1)) & 511) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    fn tables<const N: usize>() -> Box<PageTables<N>> {
        let mut tables = Box::new(PageTables::new());
        tables.place(0x40_0000);
        tables
    }

    #[test]
    fn a_range_is_mapped_to_its_last_byte_and_no_further() {
        let mut tables = tables::<8>();
        tables.map(0x1f_f000..0x60_1000, Rights::Data).unwrap();
        assert_eq!(tables.rights(0x1f_efff), None);
        assert_eq!(tables.rights(0x1f_f000), Some(Rights::Data));
        assert_eq!(tables.rights(0x40_0000), Some(Rights::Data));
        assert_eq!(tables.rights(0x60_0fff), Some(Rights::Data));
        assert_eq!(tables.rights(0x60_1000), None);
    }

    #[test]
    fn neighbours_in_one_large_page_keep_their_own_rights() {
        let mut tables = tables::<8>();
        tables.map(0x20_0000..0x20_3000, Rights::Code).unwrap();
        tables.map(0x20_3000..0x20_5000, Rights::Constants).unwrap();
        tables.map(0x20_6000..0x20_9000, Rights::Data).unwrap();
        assert_eq!(tables.rights(0x20_2fff), Some(Rights::Code));
        assert_eq!(tables.rights(0x20_4000), Some(Rights::Constants));
        assert_eq!(tables.rights(0x20_5000), None, "the guard");
        assert_eq!(tables.rights(0x20_8000), Some(Rights::Data));
    }

    #[test]
    fn pages_come_and_go_at_addresses_that_are_not_their_own() {
        let mut tables = tables::<8>();
        tables.map(0x20_0000..0x40_0000, Rights::Data).unwrap();
        tables.map_page(1 << 40, 0x20_3000).unwrap();
        assert_eq!(tables.map_page(1 << 40, 0x20_4000), Err(Refused::Overlap));
        assert_eq!(tables.map_page(1 << 40 | 1, 0x20_4000), Err(Refused::Malformed));
        assert_eq!(tables.rights(1 << 40), Some(Rights::Data));
        assert_eq!(tables.unmap_page(1 << 40), Some(0x20_3000));
        assert_eq!((tables.rights(1 << 40), tables.unmap_page(1 << 40)), (None, None));
        assert_eq!(tables.unmap_page(0x20_3000), None, "part of a large page");
        tables.map_page(1 << 40, 0x20_5000).unwrap();
    }

    #[test]
    fn nothing_is_mapped_twice_and_tables_run_out_politely() {
        let mut small = tables::<4>();
        small.map(0x20_0000..0x40_0000, Rights::Data).unwrap();
        assert_eq!(small.map(0x20_0000..0x20_1000, Rights::Code), Err(Refused::Overlap));
        assert_eq!(small.map(0x1000..0x2000, Rights::Code), Ok(()));
        assert_eq!(small.map(0x4000_0000..0x4000_1000, Rights::Data), Err(Refused::NoTable));
        assert_eq!(small.map(1..2, Rights::Data), Err(Refused::Malformed));
    }
}
