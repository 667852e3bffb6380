//! Grant tables (`grant_table.h`): RDI = operation, RSI = address of its arguments, RDX = how many there are.
//!
//! The entries themselves change on both sides at the same time, so their layout is given as offsets and bits.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::DomId;

/// Index of an entry in its owner's grant table.
pub type GrantRef = u32;
/// A mapping of another domain's page, as `map_grant_ref` gave it out.
pub type GrantHandle = u32;

/// `GNTTABOP_map_grant_ref`, arguments [`MapGrantRef`].
pub const MAP_GRANT_REF: u64 = 0;
/// `GNTTABOP_unmap_grant_ref`, arguments [`UnmapGrantRef`].
pub const UNMAP_GRANT_REF: u64 = 1;
/// `GNTTABOP_setup_table`, argument [`SetupTable`].
pub const SETUP_TABLE: u64 = 2;
/// `GNTTABOP_dump_table`
pub const DUMP_TABLE: u64 = 3;
/// `GNTTABOP_transfer`, arguments [`Transfer`].
pub const TRANSFER: u64 = 4;
/// `GNTTABOP_copy`, arguments [`Copy`].
pub const COPY: u64 = 5;
/// `GNTTABOP_query_size`, argument [`QuerySize`].
pub const QUERY_SIZE: u64 = 6;
/// `GNTTABOP_unmap_and_replace`
pub const UNMAP_AND_REPLACE: u64 = 7;
/// `GNTTABOP_set_version`, argument [`SetVersion`].
pub const SET_VERSION: u64 = 8;
/// `GNTTABOP_get_status_frames`, argument [`GetStatusFrames`].
pub const GET_STATUS_FRAMES: u64 = 9;
/// `GNTTABOP_get_version`, argument [`GetVersion`].
pub const GET_VERSION: u64 = 10;
/// `GNTTABOP_swap_grant_ref`
pub const SWAP_GRANT_REF: u64 = 11;
/// `GNTTABOP_cache_flush`
pub const CACHE_FLUSH: u64 = 12;

/// `XENMAPIDX_grant_table_status`: in an index of the grant-table space, means a status frame.
pub const STATUS_INDEX: u64 = 1 << 31;
/// Entries at the table's start that the toolstack uses (`GNTTAB_NR_RESERVED_ENTRIES`).
pub const RESERVED_ENTRIES: u32 = 8;

/// `GNTST_*`: how an operation went.
pub mod status {
    /// Well.
    pub const OKAY: i16 = 0;
    /// Not, for a reason without a number of its own.
    pub const GENERAL_ERROR: i16 = -1;
    /// No such domain.
    pub const BAD_DOMAIN: i16 = -2;
    /// No such entry.
    pub const BAD_GNTREF: i16 = -3;
    /// No such mapping.
    pub const BAD_HANDLE: i16 = -4;
    /// An address that does not fit.
    pub const BAD_VIRT_ADDR: i16 = -5;
    /// Not allowed.
    pub const PERMISSION_DENIED: i16 = -8;
    /// A page that cannot be used for it.
    pub const BAD_PAGE: i16 = -9;
    /// A copy that leaves its pages.
    pub const BAD_COPY_ARG: i16 = -10;
    /// No room for another mapping.
    pub const NO_SPACE: i16 = -13;
}

/// `GNTMAP_*`: how a page is to be mapped.
pub mod map_flag {
    /// For devices.
    pub const DEVICE_MAP: u32 = 1 << 0;
    /// For the processor.
    pub const HOST_MAP: u32 = 1 << 1;
    /// Not to be written.
    pub const READONLY: u32 = 1 << 2;
    /// The address is that of a page-table entry.
    pub const CONTAINS_PTE: u32 = 1 << 4;
}

/// `GTF_*`: the flags of an entry, the first half-word of it in both versions.
pub mod flag {
    /// Bits that tell what the entry is for.
    pub const TYPE: u16 = 3;
    /// Nothing.
    pub const INVALID: u16 = 0;
    /// The page may be used.
    pub const PERMIT_ACCESS: u16 = 1;
    /// Version 2: the domain may use another's grant.
    pub const TRANSITIVE: u16 = 3;
    /// Not to be written.
    pub const READONLY: u16 = 1 << 2;
    /// Set by the hypervisor: it is in use.
    pub const READING: u16 = 1 << 3;
    /// Set by the hypervisor: it is in use to be written.
    pub const WRITING: u16 = 1 << 4;
    /// Version 2: only a part of the page.
    pub const SUB_PAGE: u16 = 1 << 8;
}

/// Bytes of a version 1 entry: flags, domain, 32 bits of frame.
pub const V1_ENTRY: usize = 8;
/// Bytes of a version 2 entry: flags, domain; offset and length where it is of a part; 64 bits of frame at 8.
pub const V2_ENTRY: usize = 16;

/// `gnttab_map_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MapGrantRef {
    /// In: for guests with page tables of their own, the guest-physical address it shall appear at.
    pub host_addr: u64,
    /// In: [`map_flag`]s.
    pub flags: u32,
    /// In.
    pub reference: GrantRef,
    /// In: whose.
    pub dom: DomId,
    /// Out: a [`status`].
    pub status: i16,
    /// Out.
    pub handle: GrantHandle,
    /// Out.
    pub dev_bus_addr: u64,
}

/// `gnttab_unmap_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// In: as it was mapped.
    pub host_addr: u64,
    /// In.
    pub dev_bus_addr: u64,
    /// In.
    pub handle: GrantHandle,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `gnttab_setup_table`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SetupTable {
    /// In: whose.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// In.
    pub nr_frames: u32,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad2: [u16; 3],
    /// In: where the frame numbers go.
    pub frame_list: u64,
}

/// `gnttab_query_size`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct QuerySize {
    /// In: whose.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// Out.
    pub nr_frames: u32,
    /// Out.
    pub max_nr_frames: u32,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad2: u16,
}

/// One side of [`Copy`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CopySide {
    /// In: the grant, or the frame number of a page of one's own.
    pub page: u64,
    /// In: whose.
    pub domid: DomId,
    /// In: first byte in it.
    pub offset: u16,
    /// Padding.
    pub pad: u32,
}

/// `gnttab_copy`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Copy {
    /// In.
    pub source: CopySide,
    /// In.
    pub dest: CopySide,
    /// In: bytes.
    pub len: u16,
    /// In: [`copy_flag`]s.
    pub flags: u16,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `GNTCOPY_*`
pub mod copy_flag {
    /// The source is a grant.
    pub const SOURCE_GREF: u16 = 1;
    /// The destination is a grant.
    pub const DEST_GREF: u16 = 2;
}

/// `gnttab_transfer`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Transfer {
    /// In.
    pub mfn: u64,
    /// In.
    pub domid: DomId,
    /// Padding.
    pub pad: u16,
    /// In.
    pub reference: GrantRef,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad2: [u16; 3],
}

/// `gnttab_set_version`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SetVersion {
    /// In: the version wanted; out: the version there is.
    pub version: u32,
}

/// `gnttab_get_version`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct GetVersion {
    /// In: whose.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// Out.
    pub version: u32,
}

/// `gnttab_get_status_frames`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct GetStatusFrames {
    /// In.
    pub nr_frames: u32,
    /// In: whose.
    pub dom: DomId,
    /// Out: a [`status`].
    pub status: i16,
    /// In: where the frame numbers go.
    pub frame_list: u64,
}

/// `gnttab_swap_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SwapGrantRef {
    /// In.
    pub ref_a: GrantRef,
    /// In.
    pub ref_b: GrantRef,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad: u16,
}
