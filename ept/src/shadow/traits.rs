//! What the shadows need of the hypervisor.

use abi::address::HostPhys;

use crate::entry::Permissions;
use crate::frames::Tables;
use crate::guest_walk::GuestTables;

/// The shadow tables themselves. Accessed and dirty flags are set beforehand, so the processor only reads them.
pub trait ShadowTables: Tables {
    /// Sets the entry `index` of the table in frame `table`, as one aligned 64-bit store.
    fn write(&mut self, table: HostPhys, index: usize, entry: u64);
}

/// A frame of guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backing {
    /// The host frame it really is.
    pub hpa: HostPhys,
    /// What the guest may do with it at all. `READ` is taken for granted.
    pub permissions: Permissions,
}

/// A guest's physical address space.
pub trait GuestSpace: GuestTables {
    /// The memory at guest frame `gfn` (the address without its lowest 12 bits); `None` where there is none, which
    /// makes each access there an [`Mmio`](super::Outcome::Mmio).
    fn frame(&self, gfn: u32) -> Option<Backing>;
}
