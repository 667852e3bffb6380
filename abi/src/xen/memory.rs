//! Memory operations (`memory.h`): RDI = operation, RSI = address of its argument.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::DomId;

/// `XENMEM_increase_reservation`, argument [`Reservation`].
pub const INCREASE_RESERVATION: u64 = 0;
/// `XENMEM_decrease_reservation`, argument [`Reservation`].
pub const DECREASE_RESERVATION: u64 = 1;
/// `XENMEM_maximum_ram_page`, no argument.
pub const MAXIMUM_RAM_PAGE: u64 = 2;
/// `XENMEM_current_reservation`, argument: a domain number.
pub const CURRENT_RESERVATION: u64 = 3;
/// `XENMEM_maximum_reservation`, argument: a domain number.
pub const MAXIMUM_RESERVATION: u64 = 4;
/// `XENMEM_machphys_mfn_list`
pub const MACHPHYS_MFN_LIST: u64 = 5;
/// `XENMEM_populate_physmap`, argument [`Reservation`].
pub const POPULATE_PHYSMAP: u64 = 6;
/// `XENMEM_add_to_physmap`, argument [`AddToPhysmap`].
pub const ADD_TO_PHYSMAP: u64 = 7;
/// `XENMEM_memory_map`, argument [`MemoryMap`].
pub const MEMORY_MAP: u64 = 9;
/// `XENMEM_machine_memory_map`
pub const MACHINE_MEMORY_MAP: u64 = 10;
/// `XENMEM_exchange`, argument [`Exchange`].
pub const EXCHANGE: u64 = 11;
/// `XENMEM_machphys_mapping`
pub const MACHPHYS_MAPPING: u64 = 12;
/// `XENMEM_set_memory_map`, argument [`ForeignMemoryMap`].
pub const SET_MEMORY_MAP: u64 = 13;
/// `XENMEM_maximum_gpfn`, argument: a domain number.
pub const MAXIMUM_GPFN: u64 = 14;
/// `XENMEM_remove_from_physmap`, argument [`RemoveFromPhysmap`].
pub const REMOVE_FROM_PHYSMAP: u64 = 15;
/// `XENMEM_set_pod_target`, argument [`PodTarget`].
pub const SET_POD_TARGET: u64 = 16;
/// `XENMEM_get_pod_target`, argument [`PodTarget`].
pub const GET_POD_TARGET: u64 = 17;
/// `XENMEM_get_sharing_freed_pages`, no argument.
pub const GET_SHARING_FREED_PAGES: u64 = 18;
/// `XENMEM_get_sharing_shared_pages`, no argument.
pub const GET_SHARING_SHARED_PAGES: u64 = 19;
/// `XENMEM_access_op`, argument [`AccessOp`].
pub const ACCESS_OP: u64 = 21;
/// `XENMEM_add_to_physmap_batch`, argument [`AddToPhysmapBatch`].
pub const ADD_TO_PHYSMAP_BATCH: u64 = 23;
/// `XENMEM_claim_pages`, argument [`Reservation`].
pub const CLAIM_PAGES: u64 = 24;
/// `XENMEM_get_vnumainfo`, argument [`VnumaTopology`].
pub const GET_VNUMAINFO: u64 = 26;
/// `XENMEM_reserved_device_memory_map`, argument [`ReservedDeviceMemoryMap`].
pub const RESERVED_DEVICE_MEMORY_MAP: u64 = 27;
/// `XENMEM_acquire_resource`
pub const ACQUIRE_RESOURCE: u64 = 28;

/// Bits of RDI that are the operation; those above count what earlier parts of the same call have done.
pub const OPERATION_MASK: u64 = 63;
/// How far the count is shifted (`MEMOP_EXTENT_SHIFT`).
pub const EXTENT_SHIFT: u32 = 6;
/// Extents that one call can count.
pub const MAX_EXTENTS: u64 = u32::MAX as u64 >> EXTENT_SHIFT;

/// `xen_memory_reservation`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Reservation {
    /// In: address of the extents' first frame numbers, a word each.
    pub extent_start: u64,
    /// In: how many.
    pub nr_extents: u64,
    /// In: each has 2 to this power of frames.
    pub extent_order: u32,
    /// In: a [`flags`].
    pub mem_flags: u32,
    /// In: `DOMID_SELF`, or another for the privileged.
    pub domid: DomId,
    /// Padding.
    pub pad: [u16; 3],
}

/// `XENMEMF_*`: bits 0 to 7: width of machine addresses; 8 to 15: a node, plus one; and these.
pub mod flags {
    /// `XENMEMF_populate_on_demand`
    pub const POPULATE_ON_DEMAND: u32 = 1 << 16;
    /// `XENMEMF_exact_node_request`
    pub const EXACT_NODE_REQUEST: u32 = 1 << 17;
    /// `XENMEMF_vnode`: the node is a virtual one.
    pub const VNODE: u32 = 1 << 18;
}

/// `xen_memory_exchange`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Exchange {
    /// In: what is given.
    pub given: Reservation,
    /// In: what is taken for it.
    pub taken: Reservation,
    /// In and out: extents done.
    pub nr_exchanged: u64,
}

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
    /// `XENMAPSPACE_gmfn`: a frame of the domain's own, which moves.
    pub const GMFN: u32 = 2;
    /// `XENMAPSPACE_gmfn_range`: as many of those as `size` says.
    pub const GMFN_RANGE: u32 = 3;
    /// `XENMAPSPACE_gmfn_foreign`: another domain's frame, in a batch alone.
    pub const GMFN_FOREIGN: u32 = 4;
    /// `XENMAPSPACE_dev_mmio`: a device's registers.
    pub const DEV_MMIO: u32 = 5;
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

/// The frame number that is none (`INVALID_GFN`).
pub const INVALID_GFN: u64 = u64::MAX;

/// `xen_add_to_physmap_batch`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct AddToPhysmapBatch {
    /// In: `DOMID_SELF`, or another for the privileged.
    pub domid: DomId,
    /// In: a [`space`].
    pub space: u16,
    /// In: how many pages.
    pub size: u16,
    /// In: whose frames, for `gmfn_foreign`.
    pub foreign_domid: DomId,
    /// In: address of the pages in that space, a word each.
    pub idxs: u64,
    /// In: address of the frame numbers they shall appear at, a word each.
    pub gpfns: u64,
    /// Out: address of an error each, 32 bits.
    pub errs: u64,
}

/// `xen_remove_from_physmap`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// In: `DOMID_SELF`, or another for the privileged.
    pub domid: DomId,
    /// Padding.
    pub pad: [u16; 3],
    /// In: the frame to take out.
    pub gpfn: u64,
}

/// `xen_foreign_memory_map`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ForeignMemoryMap {
    /// In: whose.
    pub domid: DomId,
    /// Padding.
    pub pad: [u16; 3],
    /// In: the map.
    pub map: MemoryMap,
}

/// `xen_pod_target`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct PodTarget {
    /// In, for set.
    pub target_pages: u64,
    /// Out: pages the domain has.
    pub tot_pages: u64,
    /// Out.
    pub pod_cache_pages: u64,
    /// Out.
    pub pod_entries: u64,
    /// In.
    pub domid: DomId,
    /// Padding.
    pub pad: [u16; 3],
}

/// `xen_mem_access_op`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct AccessOp {
    /// In.
    pub op: u8,
    /// In or out.
    pub access: u8,
    /// In: another domain.
    pub domid: DomId,
    /// In.
    pub nr: u32,
    /// In.
    pub pfn: u64,
    /// In.
    pub pfn_list: u64,
    /// In.
    pub access_list: u64,
}

/// `xen_vnuma_topology_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct VnumaTopology {
    /// In.
    pub domid: DomId,
    /// Must be 0.
    pub pad: u16,
    /// In and out.
    pub nr_vnodes: u32,
    /// In and out.
    pub nr_vcpus: u32,
    /// In and out.
    pub nr_vmemranges: u32,
    /// In: addresses for distances, vCPUs and ranges.
    pub buffers: [u64; 3],
}

/// `xen_reserved_device_memory_map`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ReservedDeviceMemoryMap {
    /// In: bit 0, all devices'.
    pub flags: u32,
    /// In: room in the buffer; out: how many there are.
    pub nr_entries: u32,
    /// In: address of the buffer.
    pub buffer: u64,
    /// In: one device.
    pub device: [u32; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_xens() {
        assert_eq!((size_of::<Reservation>(), size_of::<Exchange>()), (32, 72));
        assert_eq!((size_of::<AddToPhysmap>(), size_of::<AddToPhysmapBatch>()), (24, 32));
        assert_eq!((size_of::<MemoryMap>(), size_of::<ForeignMemoryMap>()), (16, 24));
        assert_eq!((size_of::<E820Entry>(), size_of::<RemoveFromPhysmap>()), (20, 16));
        assert_eq!((size_of::<PodTarget>(), size_of::<AccessOp>()), (40, 32));
        assert_eq!((size_of::<VnumaTopology>(), size_of::<ReservedDeviceMemoryMap>()), (40, 24));
    }
}
