//! HVM operations (`hvm/hvm_op.h`, `hvm/params.h`): RDI = operation, RSI = address of its argument.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::DomId;

/// `HVMOP_set_param`, argument [`Param`].
pub const SET_PARAM: u64 = 0;
/// `HVMOP_get_param`, argument [`Param`].
pub const GET_PARAM: u64 = 1;
/// `HVMOP_flush_tlbs`: no argument.
pub const FLUSH_TLBS: u64 = 5;
/// `HVMOP_pagetable_dying`, argument [`PagetableDying`].
pub const PAGETABLE_DYING: u64 = 9;
/// `HVMOP_get_time`: the argument points to a word for the nanoseconds of system time.
pub const GET_TIME: u64 = 10;
/// `HVMOP_xentrace`, argument [`Trace`].
pub const XENTRACE: u64 = 11;
/// `HVMOP_get_mem_type`, argument [`MemType`].
pub const GET_MEM_TYPE: u64 = 15;
/// `HVMOP_set_evtchn_upcall_vector`, argument [`UpcallVector`].
pub const SET_EVTCHN_UPCALL_VECTOR: u64 = 23;
/// `HVMOP_guest_request_vm_event`: no argument.
pub const GUEST_REQUEST_VM_EVENT: u64 = 24;
/// `HVMOP_altp2m`
pub const ALTP2M: u64 = 25;

/// `xen_hvm_param`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Param {
    /// In: `DOMID_SELF`, or another for the privileged.
    pub domid: DomId,
    /// Padding, ignored.
    pub pad: u16,
    /// In: a [`param`].
    pub index: u32,
    /// In for set, out for get.
    pub value: u64,
}

/// What `HVM_PARAM_CALLBACK_IRQ` says.
pub mod callback {
    /// Where it has its type.
    pub const TYPE_SHIFT: u32 = 56;
    /// `HVM_PARAM_CALLBACK_TYPE_VECTOR`: a vector for all virtual CPUs, in the lowest byte.
    pub const VECTOR: u64 = 2;
}

/// `HVM_PARAM_*`.
pub mod param {
    /// The `SHUTDOWN_*` reason that a triple fault is.
    pub const TRIPLE_FAULT_REASON: u32 = 31;
    /// How events reach a guest that has set no upcall vector.
    pub const CALLBACK_IRQ: u32 = 0;
    /// Frame of the xenstore ring.
    pub const STORE_PFN: u32 = 1;
    /// Event channel of the xenstore ring.
    pub const STORE_EVTCHN: u32 = 2;
    /// Deprecated.
    pub const PAE_ENABLED: u32 = 4;
    /// Deprecated.
    pub const DM_DOMAIN: u32 = 13;
    /// Where a task-state segment for real mode lies.
    pub const VM86_TSS: u32 = 15;
    /// Frame of the console ring.
    pub const CONSOLE_PFN: u32 = 17;
    /// Event channel of the console ring.
    pub const CONSOLE_EVTCHN: u32 = 18;
    /// Where the ACPI timer's ports are.
    pub const ACPI_IOPORTS_LOCATION: u32 = 19;
    /// Deprecated, like all to [`BUFIOREQ_EVTCHN`].
    pub const MEMORY_EVENT_CR0: u32 = 20;
    /// Deprecated.
    pub const BUFIOREQ_EVTCHN: u32 = 26;
    /// Deprecated.
    pub const MEMORY_EVENT_MSR: u32 = 30;
    /// Where the generation ID lies.
    pub const VM_GENERATION_ID_ADDR: u32 = 34;
    /// Whether there are alternate views of memory: 0, no.
    pub const ALTP2M: u32 = 35;
    /// Width of the FPU instruction pointer: 0 (either), 4 or 8.
    pub const X87_FIP_WIDTH: u32 = 36;
    /// As [`VM86_TSS`], with its size in the upper half.
    pub const VM86_TSS_SIZED: u32 = 37;
    /// Parameters below this number exist (`HVM_NR_PARAMS`).
    pub const COUNT: u32 = 39;
    /// Atoll's own, that no guest gets at: the first frame of a full guest's disk, behind its memory.
    pub const DISK_PFN: u32 = COUNT;
    /// Atoll's own: sectors of that disk; 0: there is none.
    pub const DISK_SECTORS: u32 = COUNT + 1;
    /// Atoll's own: the frame behind a full guest's memory, where it is told of it by its board; 0: it is not.
    pub const MEMORY_END_PFN: u32 = COUNT + 2;
    /// Of both kinds.
    pub const COUNT_WITH_OWN: u32 = COUNT + 3;
}

/// `xen_hvm_pagetable_dying`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct PagetableDying {
    /// In: `DOMID_SELF`.
    pub domid: DomId,
    /// Padding.
    pub pad: [u16; 3],
    /// In: guest-physical address of the topmost table.
    pub gpa: u64,
}

/// `xen_hvm_xentrace`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Trace {
    /// In: number of the event, below [`Trace::EVENTS`].
    pub event: u16,
    /// In: how many of the extra bytes count.
    pub extra_bytes: u16,
    /// In.
    pub extra: [u8; 28],
}

impl Trace {
    /// Numbers of events (`TRC_SUBCLS_SHIFT`).
    pub const EVENTS: u16 = 1 << 12;
}

/// `xen_hvm_get_mem_type`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MemType {
    /// In: `DOMID_SELF`, or another for the privileged.
    pub domid: DomId,
    /// Out: a [`mem_type`].
    pub mem_type: u16,
    /// Padding.
    pub pad: [u16; 2],
    /// In: the frame.
    pub pfn: u64,
}

/// `hvmmem_type_t`.
pub mod mem_type {
    /// `HVMMEM_ram_rw`
    pub const RAM_RW: u16 = 0;
    /// `HVMMEM_ram_ro`
    pub const RAM_RO: u16 = 1;
    /// `HVMMEM_mmio_dm`: nothing is mapped there.
    pub const MMIO_DM: u16 = 2;
}

/// `xen_hvm_evtchn_upcall_vector`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct UpcallVector {
    /// In: whose upcalls.
    pub vcpu: u32,
    /// In: the interrupt vector, 16 to 255.
    pub vector: u8,
    /// Padding.
    pub pad: [u8; 3],
}
