//! HVM operations (`hvm/hvm_op.h`, `hvm/params.h`): RDI = operation, RSI = address of its argument.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::DomId;

/// `HVMOP_set_param`, argument [`Param`].
pub const SET_PARAM: u64 = 0;
/// `HVMOP_get_param`, argument [`Param`].
pub const GET_PARAM: u64 = 1;
/// `HVMOP_set_evtchn_upcall_vector`, argument [`UpcallVector`].
pub const SET_EVTCHN_UPCALL_VECTOR: u64 = 23;

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

/// `HVM_PARAM_*`.
pub mod param {
    /// Frame of the xenstore ring.
    pub const STORE_PFN: u32 = 1;
    /// Event channel of the xenstore ring.
    pub const STORE_EVTCHN: u32 = 2;
    /// Frame of the console ring.
    pub const CONSOLE_PFN: u32 = 17;
    /// Event channel of the console ring.
    pub const CONSOLE_EVTCHN: u32 = 18;
    /// Parameters below this number exist (`HVM_NR_PARAMS`).
    pub const COUNT: u32 = 39;
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
