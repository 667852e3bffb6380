//! The machine's memory: who owns it ([`frame_table`]), and how the hypervisor itself sees it ([`paging`], [`early`]).
//!
//! The hypervisor sees all RAM at its own addresses, writable and not executable; its code is executable and not
//! writable. [`physical`] is the one place that turns a host-physical address into a pointer.

#[cfg(feature = "bare")]
pub mod early;
pub mod frame_table;
#[cfg(feature = "bare")]
pub mod paging;
#[cfg(feature = "bare")]
pub mod physical;
