//! Memory operations (`memory.h`): RDI = operation, RSI = address of its argument.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::DomId;

/// `XENMEM_add_to_physmap`
pub const ADD_TO_PHYSMAP: u64 = 7;

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
