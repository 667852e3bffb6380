//! Xen's public guest ABI as facts: numbers, layouts and error codes from Xen's public headers
//! (`xen/include/public`). Semantics are the hypervisor's and guest kernel's to implement.

pub mod cpuid;
pub mod errno;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod hypercall;
pub mod memory;
pub mod sched;
pub mod shared_info;
pub mod vcpu;
pub mod vcpu_time;
pub mod version;
pub mod xenbus;
pub mod xs_wire;

/// A domain's number.
pub type DomId = u16;
/// "Myself", in calls that name a domain (`DOMID_SELF`).
pub const DOMID_SELF: DomId = 0x7ff0;
/// The owner of devices' registers (`DOMID_IO`).
pub const DOMID_IO: DomId = 0x7ff1;
/// The owner of the hypervisor's own pages (`DOMID_XEN`).
pub const DOMID_XEN: DomId = 0x7ff2;
/// No domain at all (`DOMID_INVALID`).
pub const DOMID_INVALID: DomId = 0x7ff4;
/// First number that names no ordinary domain (`DOMID_FIRST_RESERVED`).
pub const DOMID_FIRST_RESERVED: DomId = 0x7ff0;
