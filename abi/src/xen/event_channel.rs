//! Event channels (`event_channel.h`): RDI = operation, RSI = address of its argument.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::DomId;

/// A port number; 0 is never a valid one.
pub type Port = u32;

/// `EVTCHNOP_bind_interdomain`
pub const BIND_INTERDOMAIN: u64 = 0;
/// `EVTCHNOP_bind_virq`
pub const BIND_VIRQ: u64 = 1;
/// `EVTCHNOP_bind_pirq`
pub const BIND_PIRQ: u64 = 2;
/// `EVTCHNOP_close`
pub const CLOSE: u64 = 3;
/// `EVTCHNOP_send`
pub const SEND: u64 = 4;
/// `EVTCHNOP_status`
pub const STATUS: u64 = 5;
/// `EVTCHNOP_alloc_unbound`
pub const ALLOC_UNBOUND: u64 = 6;
/// `EVTCHNOP_bind_ipi`
pub const BIND_IPI: u64 = 7;
/// `EVTCHNOP_bind_vcpu`
pub const BIND_VCPU: u64 = 8;
/// `EVTCHNOP_unmask`
pub const UNMASK: u64 = 9;
/// `EVTCHNOP_reset`
pub const RESET: u64 = 10;
/// `EVTCHNOP_init_control`
pub const INIT_CONTROL: u64 = 11;
/// `EVTCHNOP_expand_array`
pub const EXPAND_ARRAY: u64 = 12;
/// `EVTCHNOP_set_priority`
pub const SET_PRIORITY: u64 = 13;

/// Virtual interrupts (`xen.h`).
pub mod virq {
    /// Timer, one a vCPU.
    pub const TIMER: u32 = 0;
    /// Request for debug information, one a vCPU.
    pub const DEBUG: u32 = 1;
    /// The profiler's, one a vCPU.
    pub const XENOPROF: u32 = 7;
    /// A domain died or stopped (`VIRQ_DOM_EXC`), to domain 0.
    pub const DOM_EXC: u32 = 3;
    /// Numbers up to here exist.
    pub const COUNT: u32 = 24;
}

/// `evtchn_alloc_unbound`: a port in `dom` that `remote_dom` may bind to.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct AllocUnbound {
    /// In: whose port; `DOMID_SELF`, or another for the privileged.
    pub dom: DomId,
    /// In: who may bind.
    pub remote_dom: DomId,
    /// Out.
    pub port: Port,
}

/// `evtchn_bind_interdomain`: joins a new port of the caller's to an unbound one of `remote_dom`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct BindInterdomain {
    /// In.
    pub remote_dom: DomId,
    /// Padding, ignored.
    pub pad: u16,
    /// In.
    pub remote_port: Port,
    /// Out.
    pub local_port: Port,
}

/// `evtchn_bind_virq`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct BindVirq {
    /// In: a [`virq`].
    pub virq: u32,
    /// In.
    pub vcpu: u32,
    /// Out.
    pub port: Port,
}

/// `evtchn_bind_ipi`: a port that the domain sends to itself.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct BindIpi {
    /// In.
    pub vcpu: u32,
    /// Out.
    pub port: Port,
}

/// `evtchn_close`, `evtchn_send`, `evtchn_unmask`: one port.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct OnePort {
    /// In.
    pub port: Port,
}

/// `evtchn_bind_vcpu`: the vCPU that a port's events go to.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct BindVcpu {
    /// In.
    pub port: Port,
    /// In.
    pub vcpu: u32,
}

/// `evtchn_reset`: closes every port of a domain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Reset {
    /// In: `DOMID_SELF`, or another for the privileged.
    pub dom: DomId,
}

/// `evtchn_status`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Status {
    /// In: `DOMID_SELF`, or another for the privileged.
    pub dom: DomId,
    /// Padding, ignored.
    pub pad: u16,
    /// In.
    pub port: Port,
    /// Out: a [`status`].
    pub status: u32,
    /// Out: the vCPU it is bound to.
    pub vcpu: u32,
    /// Out: unbound: the domain that may bind; interdomain: the other side's; virq: its number.
    pub dom_or_virq: u32,
    /// Out: interdomain: the other side's port.
    pub remote_port: u32,
}

/// `evtchn_init_control`: a virtual CPU's control block for FIFO events; the first lets the domain use them.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct InitControl {
    /// In: guest frame number.
    pub control_gfn: u64,
    /// In: offset within it, a multiple of 8.
    pub offset: u32,
    /// In.
    pub vcpu: u32,
    /// Out: [`fifo::LINK_BITS`].
    pub link_bits: u8,
    /// Padding.
    pub pad: [u8; 7],
}

/// `evtchn_expand_array`: one more page of words.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ExpandArray {
    /// In: guest frame number.
    pub array_gfn: u64,
}

/// `evtchn_set_priority`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SetPriority {
    /// In.
    pub port: Port,
    /// In: 0 is the most urgent, [`fifo::PRIORITY_MIN`] the least.
    pub priority: u32,
}

/// FIFO events: words of 32 bits, one a port, and a control block a virtual CPU.
pub mod fifo {
    /// `EVTCHN_FIFO_PENDING`
    pub const PENDING: u32 = 1 << 31;
    /// `EVTCHN_FIFO_MASKED`
    pub const MASKED: u32 = 1 << 30;
    /// `EVTCHN_FIFO_LINKED`: it is in a queue.
    pub const LINKED: u32 = 1 << 29;
    /// `EVTCHN_FIFO_BUSY`: the guest must not unmask it now.
    pub const BUSY: u32 = 1 << 28;
    /// `EVTCHN_FIFO_LINK_BITS`
    pub const LINK_BITS: u8 = 17;
    /// `EVTCHN_FIFO_LINK_MASK`: the port behind it in the queue; 0: none.
    pub const LINK_MASK: u32 = (1 << LINK_BITS) - 1;
    /// `EVTCHN_FIFO_MAX_QUEUES`
    pub const QUEUES: usize = 16;
    /// `EVTCHN_FIFO_PRIORITY_DEFAULT`
    pub const PRIORITY_DEFAULT: u8 = 7;
    /// `EVTCHN_FIFO_PRIORITY_MIN`
    pub const PRIORITY_MIN: u8 = 15;
    /// Offset of a control block's `ready`: a bit for each queue that has news.
    pub const READY: usize = 0;
    /// Offset of its heads, 32 bits each.
    pub const CONTROL_BLOCK_HEADS: usize = 8;
    /// Bytes of it.
    pub const CONTROL_BLOCK_BYTES: usize = CONTROL_BLOCK_HEADS + QUEUES * 4;
}

/// `evtchn_status.status`.
pub mod status {
    /// `EVTCHNSTAT_closed`
    pub const CLOSED: u32 = 0;
    /// `EVTCHNSTAT_unbound`
    pub const UNBOUND: u32 = 1;
    /// `EVTCHNSTAT_interdomain`
    pub const INTERDOMAIN: u32 = 2;
    /// `EVTCHNSTAT_pirq`
    pub const PIRQ: u32 = 3;
    /// `EVTCHNSTAT_virq`
    pub const VIRQ: u32 = 4;
    /// `EVTCHNSTAT_ipi`
    pub const IPI: u32 = 5;
}
