//! `translate`: the hot path. Each pointer that a guest passes in a hypercall goes through here.

use abi::address::{GuestPhys, HostPhys};

use crate::entry::{ADDRESS, MAPS_PAGE, MEMORY_TYPE, MemoryType, PERMISSIONS};
use crate::frames::{ENTRIES, Tables};
use crate::level::{GUEST_ADDRESS_BITS, Level};
use crate::table::{Ept, View};

/// What is to be done on the guest's behalf; its bit in an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Access {
    /// Reading.
    Read = 1,
    /// Writing. Whoever may write may read.
    Write = 2,
    /// Fetching instructions, to emulate them.
    Execute = 4,
}

/// Where guest memory really is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The address on the machine's bus.
    pub hpa: HostPhys,
    /// The bytes from there to the end of the page that maps it; never 0. They are contiguous.
    pub bytes_left: u64,
}

impl Ept {
    /// As [`View::translate`].
    #[inline]
    pub fn translate<T: Tables>(&self, tables: &T, gpa: GuestPhys, access: Access) -> Option<Translation> {
        self.view().translate(tables, gpa, access)
    }
}

impl View {
    /// Where the guest's memory at `gpa` is, if the guest itself may make this `access` there.
    ///
    /// Memory only: `None` for an uncacheable mapping as well, so that a guest's pointer into a device never makes the
    /// hypervisor touch that device's registers. [`Ept::lookup`] finds such mappings.
    ///
    /// At most four loads. What it allows holds until the tables change, so a range is checked page by page.
    #[inline]
    pub fn translate<T: Tables>(&self, tables: &T, gpa: GuestPhys, access: Access) -> Option<Translation> {
        const MEMORY: u64 = MemoryType::WriteBack.bits() & MEMORY_TYPE;
        let address = gpa.as_u64();
        if address >> GUEST_ADDRESS_BITS != 0 {
            return None;
        }
        let mut table = self.root();
        let mut shift = Level::Pml4e.shift();
        loop {
            let entry = tables.read(table, (address >> shift) as usize % ENTRIES);
            if entry & PERMISSIONS & access as u64 == 0 {
                return None;
            }
            if entry & MAPS_PAGE != 0 || shift == Level::Pte.shift() {
                let within = (1 << shift) - 1;
                let offset = address & within;
                let hpa = HostPhys::new(entry & ADDRESS & !within | offset);
                let memory = entry & MEMORY_TYPE == MEMORY;
                return memory.then_some(Translation { hpa, bytes_left: within + 1 - offset });
            }
            table = HostPhys::new(entry & ADDRESS);
            shift -= 9;
        }
    }
}
