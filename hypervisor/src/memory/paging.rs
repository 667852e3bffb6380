//! The hypervisor's own page tables: RAM at its own addresses, and nothing both writable and executable.

use abi::address::{HostPhys, PAGE_SIZE, PageCount};

use super::early::Early;
use super::physical::pointer;

/// Present.
const PRESENT: u64 = 1;
/// Writable.
const WRITE: u64 = 1 << 1;
/// Write-through and cache-disable: uncached, as the PAT stands after reset.
const UNCACHED: u64 = 1 << 3 | 1 << 4;
/// Maps a page rather than a table.
const LARGE: u64 = 1 << 7;
/// Not executable.
const NO_EXECUTE: u64 = 1 << 63;
/// Where an entry's address is.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What may be done with a range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Run, read.
    Code,
    /// Read.
    Constant,
    /// Read, write.
    Data,
    /// Read, write, uncached: device registers.
    Device,
}

impl Access {
    const fn bits(self) -> u64 {
        PRESENT
            | match self {
                Self::Code => 0,
                Self::Constant => NO_EXECUTE,
                Self::Data => WRITE | NO_EXECUTE,
                Self::Device => WRITE | NO_EXECUTE | UNCACHED,
            }
    }
}

/// A set of page tables for the hypervisor.
#[derive(Debug)]
pub struct HostTables {
    root: HostPhys,
}

impl HostTables {
    /// Empty tables.
    pub fn new(early: &mut Early) -> Option<Self> {
        Some(Self { root: early.take(PageCount::new(1), PAGE_SIZE)? })
    }

    /// The value for CR3.
    pub fn cr3(&self) -> u64 {
        self.root.as_u64()
    }

    /// Maps `start..end`, whole pages, at its own address, or changes what may be done with it. Uses 2 MiB pages where
    /// they fit; splits those that are in the way.
    pub fn map(&mut self, early: &mut Early, start: u64, end: u64, access: Access) -> Option<()> {
        let mut address = start & !(PAGE_SIZE - 1);
        while address < end {
            let pd = self.table(early, self.root, address, 39)?;
            let pd = self.table(early, pd, address, 30)?;
            let slot = slot(pd, address, 21);
            if address.is_multiple_of(1 << 21) && end - address >= 1 << 21 && may_be_large(slot) {
                // SAFETY: a word of a table of ours.
                unsafe { slot.write_volatile(address | access.bits() | LARGE) };
                address += 1 << 21;
            } else {
                let pt = self.table(early, pd, address, 21)?;
                // SAFETY: as above.
                unsafe { self::slot(pt, address, 12).write_volatile(address | access.bits()) };
                address += PAGE_SIZE;
            }
        }
        Some(())
    }

    /// Takes one page away.
    pub fn unmap(&mut self, early: &mut Early, address: u64) -> Option<()> {
        let pdpt = self.table(early, self.root, address, 39)?;
        let pd = self.table(early, pdpt, address, 30)?;
        let pt = self.table(early, pd, address, 21)?;
        // SAFETY: a word of a table of ours.
        unsafe { slot(pt, address, 12).write_volatile(0) };
        Some(())
    }

    /// The table that the entry for `address` in `table` leads to, made or split where needed.
    fn table(&self, early: &mut Early, table: HostPhys, address: u64, shift: u32) -> Option<HostPhys> {
        let slot = slot(table, address, shift);
        // SAFETY: a word of a table of ours.
        let entry = unsafe { slot.read_volatile() };
        if entry & PRESENT != 0 && entry & LARGE == 0 {
            return Some(HostPhys::new(entry & ADDRESS));
        }
        let below = early.take(PageCount::new(1), PAGE_SIZE)?;
        if entry & PRESENT != 0 {
            for index in 0..512u64 {
                let page = (entry & !LARGE) + index * PAGE_SIZE;
                // SAFETY: the table was just made, and has 512 words.
                unsafe { pointer::<u64>(below).add(index as usize).write_volatile(page) };
            }
        }
        // SAFETY: a word of a table of ours.
        unsafe { slot.write_volatile(below.as_u64() | PRESENT | WRITE) };
        Some(below)
    }

    /// Counts the pages, and those of them that are both writable and executable.
    pub fn audit(&self) -> (u64, u64) {
        count(self.root, 39)
    }

    /// Switches this core to these tables.
    ///
    /// # Safety
    /// They map the running code, its data and its stack.
    pub unsafe fn load(&self) {
        // SAFETY: by the caller.
        unsafe { x86::controlregs::cr3_write(self.cr3()) };
    }
}

/// The pages below `table`, whose entries span `1 << shift` bytes each: all, and the writable and executable ones.
fn count(table: HostPhys, shift: u32) -> (u64, u64) {
    let (mut all, mut both) = (0, 0);
    for index in 0..512 {
        // SAFETY: a word of a table of ours.
        let entry = unsafe { slot(table, index << shift, shift).read_volatile() };
        if entry & PRESENT == 0 {
            continue;
        }
        let (pages, bad) = if shift > 12 && entry & LARGE == 0 {
            count(HostPhys::new(entry & ADDRESS), shift - 9)
        } else {
            (1, u64::from(entry & WRITE != 0 && entry & NO_EXECUTE == 0))
        };
        all += pages;
        both += bad;
    }
    (all, both)
}

fn slot(table: HostPhys, address: u64, shift: u32) -> *mut u64 {
    // The index is below 512, so the pointer stays within the table.
    pointer::<u64>(table).wrapping_add((address >> shift) as usize & 511)
}

/// Whether the word may be overwritten by a large page: it does not lead to a table.
fn may_be_large(slot: *mut u64) -> bool {
    // SAFETY: `slot` is a word of a table of ours.
    let entry = unsafe { slot.read_volatile() };
    entry & PRESENT == 0 || entry & LARGE != 0
}
