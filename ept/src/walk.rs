//! Walks off the hot path: the isolation audit, accounting, and a closer look at one address for a crash record.

use abi::address::{GuestPhys, HostPhys};

use crate::entry::{Decoded, Entry, MemoryType, Permissions};
use crate::frames::{ENTRIES, Tables};
use crate::level::{GUEST_ADDRESS_BITS, Level, PageSize};
use crate::table::{Ept, View};

/// One page as it is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Where the guest sees it.
    pub gpa: GuestPhys,
    /// Where it is.
    pub hpa: HostPhys,
    /// How large it is.
    pub size: PageSize,
    /// What the guest may do with it.
    pub permissions: Permissions,
    /// How it may be cached.
    pub memory: MemoryType,
}

impl Mapping {
    fn new(gpa: u64, page: Entry, size: PageSize) -> Self {
        let (hpa, permissions) = (page.address(), page.permissions());
        Self { gpa: GuestPhys::new(gpa), hpa, size, permissions, memory: page.memory_type() }
    }
}

impl View {
    /// Where the highest 4 KiB that are mapped begin; `None`: nothing is.
    pub fn highest<T: Tables>(&self, tables: &T) -> Option<GuestPhys> {
        last(tables, self.root(), Level::Pml4e, 0).map(GuestPhys::new)
    }
}

/// The same below one table, which covers the addresses from `base` on. Tables may be empty.
fn last<T: Tables>(tables: &T, table: HostPhys, level: Level, base: u64) -> Option<u64> {
    (0..ENTRIES).rev().find_map(|index| {
        let gpa = base + index as u64 * level.slot_bytes();
        match Entry(tables.read(table, index)).decode(level) {
            Decoded::Empty => None,
            Decoded::Page(size) => Some(gpa + size.bytes() - PageSize::Size4KiB.bytes()),
            Decoded::Table { table, level } => last(tables, table, level, gpa),
        }
    })
}

impl Ept {
    /// The page that maps `gpa`, whatever its kind; `None` where nothing does.
    pub fn lookup<T: Tables>(&self, tables: &T, gpa: GuestPhys) -> Option<Mapping> {
        let address = gpa.as_u64();
        if address >> GUEST_ADDRESS_BITS != 0 {
            return None;
        }
        let (mut table, mut level) = (self.root(), Level::Pml4e);
        loop {
            let entry = Entry(tables.read(table, (address >> level.shift()) as usize % ENTRIES));
            match entry.decode(level) {
                Decoded::Empty => return None,
                Decoded::Page(size) => {
                    return Some(Mapping::new(gpa.align_down(size.bytes()).as_u64(), entry, size));
                }
                Decoded::Table { table: below, level: lower } => (table, level) = (below, lower),
            }
        }
    }

    /// Calls `visit` for every page, in ascending order of guest-physical address.
    pub fn for_each_mapping<T: Tables>(&self, tables: &T, mut visit: impl FnMut(Mapping)) {
        walk(tables, self.root(), Level::Pml4e, 0, &mut |found| {
            if let Found::Page(mapping) = found {
                visit(mapping);
            }
        });
    }

    /// Calls `visit` for the frame of every table, the root included: what this set costs, and what no guest may reach.
    pub fn for_each_table<T: Tables>(&self, tables: &T, mut visit: impl FnMut(HostPhys)) {
        walk(tables, self.root(), Level::Pml4e, 0, &mut |found| {
            if let Found::Table(frame) = found {
                visit(frame);
            }
        });
    }
}

enum Found {
    Page(Mapping),
    Table(HostPhys),
}

fn walk<T: Tables>(tables: &T, table: HostPhys, level: Level, base: u64, visit: &mut impl FnMut(Found)) {
    visit(Found::Table(table));
    for index in 0..ENTRIES {
        let entry = Entry(tables.read(table, index));
        let gpa = base + index as u64 * level.slot_bytes();
        match entry.decode(level) {
            Decoded::Empty => {}
            Decoded::Page(size) => visit(Found::Page(Mapping::new(gpa, entry, size))),
            Decoded::Table { table, level } => walk(tables, table, level, gpa, visit),
        }
    }
}
