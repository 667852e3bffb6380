//! The two traits through which this room touches memory.
//!
//! They are apart because the hot path only reads: the hypervisor can hand `translate` a zero-sized reader of its
//! identity map without borrowing the domain's frame pool.

use abi::address::HostPhys;

/// Entries in one table: 512 times 8 bytes fill a 4 KiB frame.
pub const ENTRIES: usize = 512;

/// Reads entries of tables.
pub trait Tables {
    /// The entry `index` (below [`ENTRIES`]) of the table in frame `table`, as one aligned 64-bit load: the processor
    /// may set accessed and dirty flags at any time.
    fn read(&self, table: HostPhys, index: usize) -> u64;
}

/// Allocates, frees and writes tables. Only frames that `allocate` returned are ever read, written or freed.
pub trait Frames: Tables {
    /// A zeroed 4 KiB frame for a table, or `None` when there is none left.
    fn allocate(&mut self) -> Option<HostPhys>;

    /// Takes back a frame that `allocate` returned. Its contents are arbitrary.
    fn free(&mut self, frame: HostPhys);

    /// Sets the entry `index` (below [`ENTRIES`]) of the table in frame `table`, as one aligned 64-bit store: the
    /// processor may walk the table at any time.
    fn write(&mut self, table: HostPhys, index: usize, entry: u64);

    /// Sets an entry and tells what it was, as one locked exchange.
    fn swap(&mut self, table: HostPhys, index: usize, entry: u64) -> u64;
}
