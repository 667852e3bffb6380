//! The tables of one guest as a whole: how they come, what the VMCS is told of them, how they go.

use abi::address::HostPhys;

use crate::entry::{Decoded, Entry, Permissions};
use crate::error::{Invalidation, MapError};
use crate::frames::{ENTRIES, Frames, Tables};
use crate::level::{Level, PageSize};

/// What of the processor's abilities a table set makes use of. [`crate::Capabilities::settings`] gives the best.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// No page will be larger.
    pub largest_page: PageSize,
    /// Whether pages may be executable without being readable.
    pub execute_only: bool,
    /// Whether the processor keeps accessed and dirty flags. It then counts a guest's page walks as writes.
    pub accessed_dirty: bool,
    /// Width of a host-physical address (CPUID leaf 0x8000_0008, MAXPHYADDR). EPT itself ends at 52.
    pub host_address_bits: u8,
}

/// One guest's page tables. They are torn down by [`Ept::destroy`] alone: to drop this value is to leak them.
#[derive(Debug)]
pub struct Ept {
    root: HostPhys,
    settings: Settings,
}

/// A table set to look at. It stays good for as long as the set's own tables are neither freed ([`Ept::clear`] frees
/// none) nor destroyed.
#[derive(Clone, Copy, Debug)]
pub struct View {
    root: HostPhys,
}

impl View {
    /// The frame of the uppermost table.
    pub const fn root(&self) -> HostPhys {
        self.root
    }
}

impl Ept {
    /// An empty set: nothing is mapped. Takes one frame, for the root.
    pub fn new<F: Frames>(frames: &mut F, settings: Settings) -> Result<Self, MapError> {
        let root = frames.allocate().ok_or(MapError::OutOfFrames)?;
        Ok(Self { root, settings })
    }

    /// The frame of the uppermost table.
    pub const fn root(&self) -> HostPhys {
        self.root
    }

    /// What this set makes use of.
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// The tables as others may look at them: for walks on cores that do not change them.
    pub const fn view(&self) -> View {
        View { root: self.root }
    }

    /// The value of the VMCS field, and of INVEPT's descriptor (SDM 3C, "Extended-Page-Table Pointer (EPTP)"): tables
    /// are read write-back (6), the walk has four levels (coded as 3).
    pub const fn eptp(&self) -> u64 {
        const WRITE_BACK: u64 = 6;
        const FOUR_LEVELS: u64 = 3 << 3;
        let accessed_dirty = (self.settings.accessed_dirty as u64) << 6;
        self.root.as_u64() | accessed_dirty | FOUR_LEVELS | WRITE_BACK
    }

    /// Frees every table. The answer is always `Needed`: the processor tags translations with the root's address,
    /// so the next table set whose root gets this frame would inherit what is still cached.
    pub fn destroy<F: Frames>(self, frames: &mut F) -> Invalidation {
        free_tables(frames, self.root, Level::Pml4e);
        Invalidation::Needed
    }

    /// Whether an entry can hold `permissions`.
    pub(crate) fn check(&self, permissions: Permissions) -> Result<(), MapError> {
        let readable = permissions.contains(Permissions::READ);
        let execute_only = permissions == Permissions::EXECUTE && self.settings.execute_only;
        if readable || execute_only { Ok(()) } else { Err(MapError::Permissions(permissions)) }
    }
}

/// Frees the table in frame `table`, which nothing refers to any more, and all below it.
pub(crate) fn free_tables<F: Frames>(frames: &mut F, table: HostPhys, level: Level) {
    for index in 0..ENTRIES {
        if let Decoded::Table { table, level } = Entry(frames.read(table, index)).decode(level) {
            free_tables(frames, table, level);
        }
    }
    frames.free(table);
}

/// Whether no entry of the table in frame `table` is present.
pub(crate) fn is_empty<T: Tables>(tables: &T, table: HostPhys) -> bool {
    (0..ENTRIES).all(|index| tables.read(table, index) == 0)
}
