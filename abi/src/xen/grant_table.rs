//! Grant tables (`grant_table.h`): RDI = operation, RSI = address of its arguments, RDX = how many.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::DomId;

/// Number of an entry (`grant_ref_t`).
pub type GrantRef = u32;
/// Number of a mapping (`grant_handle_t`).
pub type GrantHandle = u32;

/// `GNTTABOP_map_grant_ref`, arguments [`MapGrantRef`].
pub const MAP_GRANT_REF: u64 = 0;
/// `GNTTABOP_unmap_grant_ref`, arguments [`UnmapGrantRef`].
pub const UNMAP_GRANT_REF: u64 = 1;
/// `GNTTABOP_setup_table`, argument [`SetupTable`].
pub const SETUP_TABLE: u64 = 2;
/// `GNTTABOP_dump_table`: not there on Xen either.
pub const DUMP_TABLE: u64 = 3;
/// `GNTTABOP_transfer`, arguments [`Transfer`].
pub const TRANSFER: u64 = 4;
/// `GNTTABOP_copy`, arguments [`Copy`].
pub const COPY: u64 = 5;
/// `GNTTABOP_query_size`, argument [`QuerySize`].
pub const QUERY_SIZE: u64 = 6;
/// `GNTTABOP_unmap_and_replace`, arguments [`UnmapAndReplace`].
pub const UNMAP_AND_REPLACE: u64 = 7;
/// `GNTTABOP_set_version`, argument: a [`SetVersion`].
pub const SET_VERSION: u64 = 8;
/// `GNTTABOP_get_status_frames`, argument [`GetStatusFrames`].
pub const GET_STATUS_FRAMES: u64 = 9;
/// `GNTTABOP_get_version`, argument [`GetVersion`].
pub const GET_VERSION: u64 = 10;
/// `GNTTABOP_swap_grant_ref`, arguments [`SwapGrantRef`].
pub const SWAP_GRANT_REF: u64 = 11;
/// `GNTTABOP_cache_flush`, arguments [`CacheFlush`].
pub const CACHE_FLUSH: u64 = 12;

/// Bits of the operation that name it. In those above, a cache flush that goes on notes how far it has come.
pub const OPERATION_MASK: u64 = (1 << 12) - 1;

/// Entries that a change of version keeps: they are the tools' (`GNTTAB_NR_RESERVED_ENTRIES`).
pub const RESERVED_ENTRIES: u32 = 8;
/// Of those, the console ring's (`GNTTAB_RESERVED_CONSOLE`).
pub const RESERVED_CONSOLE: u32 = 0;
/// Of those, xenstore's (`GNTTAB_RESERVED_XENSTORE`).
pub const RESERVED_XENSTORE: u32 = 1;

/// In the index of `XENMAPSPACE_grant_table`: a frame of status words (`XENMAPIDX_grant_table_status`).
pub const STATUS_INDEX: u64 = 0x8000_0000;

/// `GTF_*`: what an entry's flags say.
pub mod flag {
    /// The kind of entry (`GTF_type_mask`).
    pub const TYPE: u16 = 3;
    /// Nothing is granted.
    pub const INVALID: u16 = 0;
    /// The frame may be mapped and copied.
    pub const PERMIT_ACCESS: u16 = 1;
    /// A frame may be given to us.
    pub const ACCEPT_TRANSFER: u16 = 2;
    /// Another domain's grant to us may be used for copies.
    pub const TRANSITIVE: u16 = 3;
    /// Not to be written.
    pub const READONLY: u16 = 1 << 2;
    /// In use (set by the hypervisor; in version 2 in the status word).
    pub const READING: u16 = 1 << 3;
    /// In use for writing (set by the hypervisor; in version 2 in the status word).
    pub const WRITING: u16 = 1 << 4;
    /// Version 2: a part of the page may be copied, and nothing be mapped.
    pub const SUB_PAGE: u16 = 1 << 8;
}

/// `GNTMAP_*`: flags of a mapping.
pub mod map_flag {
    /// For devices.
    pub const DEVICE_MAP: u32 = 1 << 0;
    /// For the processor.
    pub const HOST_MAP: u32 = 1 << 1;
    /// Not to be written.
    pub const READONLY: u32 = 1 << 2;
    /// For user space.
    pub const APPLICATION_MAP: u32 = 1 << 3;
    /// `host_addr` is that of a page-table entry.
    pub const CONTAINS_PTE: u32 = 1 << 4;
}

/// `GNTCOPY_*`: flags of a copy.
pub mod copy_flag {
    /// The source is a grant.
    pub const SOURCE_GREF: u16 = 1 << 0;
    /// The destination is a grant.
    pub const DEST_GREF: u16 = 1 << 1;
}

/// `GNTTAB_CACHE_*`: what to do with a cache.
pub mod cache {
    /// Write it back.
    pub const CLEAN: u32 = 1 << 0;
    /// Forget it.
    pub const INVALIDATE: u32 = 1 << 1;
    /// The frame is named by a grant.
    pub const SOURCE_GREF: u32 = 1 << 31;
}

/// `GNTST_*`: what became of one operation of a list.
pub mod status {
    /// Done.
    pub const OKAY: i16 = 0;
    /// Refused, for no reason below.
    pub const GENERAL_ERROR: i16 = -1;
    /// There is no such domain.
    pub const BAD_DOMAIN: i16 = -2;
    /// There is no such entry, or nothing is asked for.
    pub const BAD_GNTREF: i16 = -3;
    /// There is no such mapping.
    pub const BAD_HANDLE: i16 = -4;
    /// An address that leads nowhere.
    pub const BAD_VIRT_ADDR: i16 = -5;
    /// An address that devices cannot use.
    pub const BAD_DEV_ADDR: i16 = -6;
    /// The domain has as many mappings as it may.
    pub const NO_DEVICE_SPACE: i16 = -7;
    /// Not for this domain.
    pub const PERMISSION_DENIED: i16 = -8;
    /// The granted frame is not the granter's memory.
    pub const BAD_PAGE: i16 = -9;
    /// A copy that crosses the end of a page.
    pub const BAD_COPY_ARG: i16 = -10;
    /// A frame whose number is too large.
    pub const ADDRESS_TOO_BIG: i16 = -11;
    /// Busy now: nothing was done, the same may be asked for again.
    pub const EAGAIN: i16 = -12;
    /// No room.
    pub const NO_SPACE: i16 = -13;
}

/// Bytes of an entry of version 1.
pub const V1_ENTRY: usize = size_of::<EntryV1>();
/// Bytes of an entry of version 2.
pub const V2_ENTRY: usize = size_of::<EntryV2>();

/// `grant_entry_v1`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct EntryV1 {
    /// A [`flag`].
    pub flags: u16,
    /// To whom.
    pub domid: DomId,
    /// The granter's own number for the frame.
    pub frame: u32,
}

/// `grant_entry_v2`. For a transitive grant, `page_off` is the domain, and `frame` the reference there.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct EntryV2 {
    /// A [`flag`].
    pub flags: u16,
    /// To whom.
    pub domid: DomId,
    /// For a part of a page: where it begins.
    pub page_off: u16,
    /// For a part of a page: its bytes.
    pub length: u16,
    /// The granter's own number for the frame.
    pub frame: u64,
}

/// `gnttab_map_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MapGrantRef {
    /// In: guest-physical address where it shall appear.
    pub host_addr: u64,
    /// In: a [`map_flag`].
    pub flags: u32,
    /// In: which entry.
    pub reference: GrantRef,
    /// In: whose.
    pub dom: DomId,
    /// Out: a [`status`].
    pub status: i16,
    /// Out: the mapping's number.
    pub handle: GrantHandle,
    /// Out: the frame's address for devices.
    pub dev_bus_addr: u64,
}

/// `gnttab_unmap_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// In: where it appears; 0: to be left there.
    pub host_addr: u64,
    /// In: its address for devices, or 0.
    pub dev_bus_addr: u64,
    /// In: the mapping's number.
    pub handle: GrantHandle,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `gnttab_unmap_and_replace`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct UnmapAndReplace {
    /// In: where it appears; 0: to be left there.
    pub host_addr: u64,
    /// In: what shall appear there instead: 0 for guests with page tables of their own.
    pub new_addr: u64,
    /// In: the mapping's number.
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
    /// In: whose table.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// In: at least so many frames.
    pub nr_frames: u32,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad2: [u16; 3],
    /// In: address of a list of frame numbers, to be filled.
    pub frame_list: u64,
}

/// `gnttab_transfer`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Transfer {
    /// In: which frame.
    pub mfn: u64,
    /// In: to whom.
    pub domid: DomId,
    /// Padding.
    pub pad: u16,
    /// In: at which entry of theirs.
    pub reference: GrantRef,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad2: [u16; 3],
}

/// One side of a [`Copy`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CopySide {
    /// A grant, in the lower 32 bits, or a frame number of the caller's own.
    pub page: u64,
    /// Whose.
    pub domid: DomId,
    /// Offset in the frame.
    pub offset: u16,
    /// Padding.
    pub pad: u32,
}

/// `gnttab_copy`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Copy {
    /// In: from where.
    pub source: CopySide,
    /// In: to where.
    pub dest: CopySide,
    /// In: bytes.
    pub len: u16,
    /// In: a [`copy_flag`].
    pub flags: u16,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `gnttab_query_size`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct QuerySize {
    /// In: whose table.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// Out: its frames.
    pub nr_frames: u32,
    /// Out: how many it may have.
    pub max_nr_frames: u32,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad2: u16,
}

/// `gnttab_set_version`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SetVersion {
    /// In: 1 or 2. Out: what it is now.
    pub version: u32,
}

/// `gnttab_get_status_frames`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct GetStatusFrames {
    /// In: so many frames.
    pub nr_frames: u32,
    /// In: whose.
    pub dom: DomId,
    /// Out: a [`status`].
    pub status: i16,
    /// In: address of a list of frame numbers, 64 bits each, to be filled.
    pub frame_list: u64,
}

/// `gnttab_get_version`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct GetVersion {
    /// In: whose.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// Out: 1 or 2.
    pub version: u32,
}

/// `gnttab_swap_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SwapGrantRef {
    /// In: one entry.
    pub ref_a: GrantRef,
    /// In: the other.
    pub ref_b: GrantRef,
    /// Out: a [`status`].
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `gnttab_cache_flush`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CacheFlush {
    /// In: the frame's address for devices.
    pub address: u64,
    /// In: offset in it.
    pub offset: u16,
    /// In: bytes.
    pub length: u16,
    /// In: a [`cache`].
    pub op: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn sizes_are_the_headers() {
        assert_eq!((size_of::<EntryV1>(), size_of::<EntryV2>()), (8, 16));
        assert_eq!((size_of::<MapGrantRef>(), offset_of!(MapGrantRef, dev_bus_addr)), (32, 24));
        assert_eq!((size_of::<UnmapGrantRef>(), size_of::<UnmapAndReplace>()), (24, 24));
        assert_eq!((size_of::<SetupTable>(), offset_of!(SetupTable, frame_list)), (24, 16));
        assert_eq!((size_of::<Transfer>(), size_of::<Copy>()), (24, 40));
        assert_eq!((size_of::<QuerySize>(), size_of::<GetStatusFrames>()), (16, 16));
        assert_eq!((size_of::<SwapGrantRef>(), size_of::<CacheFlush>()), (12, 16));
        assert_eq!(size_of::<GetVersion>(), 8);
    }
}
