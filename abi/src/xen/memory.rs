//! Memory operations (`memory.h`): RDI = operation, RSI = address of its argument.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::DomId;

/// `XENMEM_add_to_physmap`
pub const ADD_TO_PHYSMAP: u64 = 7;
/// `XENMEM_memory_map`, for a domain 0 of Xen's, whose start info carries no memory map
pub const MEMORY_MAP: u64 = 9;

/// `xen_memory_map`, argument of [`MEMORY_MAP`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MemoryMap {
    /// In: entries the buffer has room for; out: entries filled.
    pub nr_entries: u32,
    /// Padding.
    pub pad: u32,
    /// In: address of the buffer of [`E820Entry`].
    pub buffer: u64,
}

/// `e820entry`: twenty bytes, not aligned.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C, packed)]
pub struct E820Entry {
    /// First byte.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// 1 for RAM.
    pub kind: u32,
}

/// [`E820Entry::kind`] of RAM.
pub const E820_RAM: u32 = 1;

/// `xen_add_to_physmap.space` values.
pub mod space {
    /// `XENMAPSPACE_shared_info`
    pub const SHARED_INFO: u32 = 0;
    /// `XENMAPSPACE_grant_table`
    pub const GRANT_TABLE: u32 = 1;
}

/// `xen_add_to_physmap`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct AddToPhysmap {
    /// In: `DOMID_SELF`.
    pub domid: DomId,
    /// In: for `gmfn_range` only.
    pub size: u16,
    /// In: a [`space`].
    pub space: u32,
    /// In: which page of that space.
    pub idx: u64,
    /// In: the guest frame number it shall appear at.
    pub gpfn: u64,
}
