//! Guest-physical memory as a page walk needs it.

use abi::address::GuestPhys;

/// How wide an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryWidth {
    /// 32-bit paging.
    Four,
    /// All others.
    Eight,
}

impl EntryWidth {
    /// The width in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The entries that fill a 4 KiB table.
    pub const fn entries(self) -> usize {
        match self {
            Self::Four => 1024,
            Self::Eight => 512,
        }
    }
}

/// What came of an attempt to change an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exchange {
    /// The entry is as wanted.
    Stored,
    /// It was not what was expected, and is as it was.
    Changed,
    /// There is no memory that could be written: the flag is lost, as it is with tables in ROM on a PC.
    NotWritable,
}

/// Reads and marks entries in guest-physical memory. All addresses are aligned to the entry's width.
pub trait GuestTables {
    /// The entry at `at`, by one load; `None` where the guest has no memory.
    fn read(&self, at: GuestPhys, width: EntryWidth) -> Option<u64>;

    /// Stores `new` where `current` is still found, in one locked operation.
    fn compare_exchange(&self, at: GuestPhys, width: EntryWidth, current: u64, new: u64) -> Exchange;
}
