//! A guest's memory in the tests: words by address.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use abi::address::GuestPhys;
use ept::guest_walk::{EntryWidth, Exchange, Features, GuestTables, Paging};

/// All of memory below `end`; what was never written is zero.
pub struct GuestMemory {
    words: RefCell<HashMap<u64, u32>>,
    pub end: u64,
    /// Below this address nothing can be written by walks.
    pub rom_end: u64,
    /// How many exchanges fail before one succeeds, each because somebody else set this bit.
    pub meddler: Cell<(u32, u64)>,
    pub reads: Cell<usize>,
    pub exchanges: Cell<usize>,
}

impl GuestMemory {
    pub fn new(end: u64) -> Self {
        Self {
            words: RefCell::default(),
            end,
            rom_end: 0,
            meddler: Cell::new((0, 0)),
            reads: Cell::new(0),
            exchanges: Cell::new(0),
        }
    }

    pub fn get(&self, at: u64, width: EntryWidth) -> u64 {
        let words = self.words.borrow();
        let word = |at| u64::from(words.get(&at).copied().unwrap_or(0));
        match width {
            EntryWidth::Four => word(at),
            EntryWidth::Eight => word(at) | word(at + 4) << 32,
        }
    }

    pub fn set(&self, at: u64, width: EntryWidth, value: u64) {
        let mut words = self.words.borrow_mut();
        words.insert(at, value as u32);
        if width == EntryWidth::Eight {
            words.insert(at + 4, (value >> 32) as u32);
        }
    }
}

impl GuestTables for GuestMemory {
    fn read(&self, at: GuestPhys, width: EntryWidth) -> Option<u64> {
        assert!(at.is_aligned(width.bytes()));
        self.reads.set(self.reads.get() + 1);
        (at.as_u64() < self.end).then(|| self.get(at.as_u64(), width))
    }

    fn compare_exchange(&self, at: GuestPhys, width: EntryWidth, current: u64, new: u64) -> Exchange {
        assert!(at.is_aligned(width.bytes()));
        self.exchanges.set(self.exchanges.get() + 1);
        let at = at.as_u64();
        if at < self.rom_end || at >= self.end {
            return Exchange::NotWritable;
        }
        let (times, bit) = self.meddler.get();
        if times > 0 {
            self.meddler.set((times - 1, bit));
            self.set(at, width, self.get(at, width) ^ bit);
        }
        if self.get(at, width) != current {
            return Exchange::Changed;
        }
        self.set(at, width, new);
        Exchange::Stored
    }
}

pub const FEATURES: Features = Features { address_bits: 40, gigabyte_pages: true, pse36: true };

/// Registers of a guest in 4-level paging, with CR0.WP and EFER.NXE.
pub const LONG: Paging = Paging {
    cr0: 1 << 31 | 1 << 16 | 1,
    cr3: 0x1000,
    cr4: 1 << 5,
    efer: 1 << 8 | 1 << 10 | 1 << 11,
    pdptes: [0; 4],
    pkru: 0,
    features: FEATURES,
};

/// The same with 32-bit paging, page size extensions and no NXE.
pub const TWO_LEVEL: Paging = Paging { cr4: 1 << 4, efer: 0, ..LONG };

/// The same with PAE paging and NXE. The PDPTE registers are for the test to load.
pub const PAE: Paging = Paging { cr4: 1 << 5, efer: 1 << 11, ..LONG };
