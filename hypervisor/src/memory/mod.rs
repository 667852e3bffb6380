//! The machine's memory: who owns it ([`frame_table`]), and how the hypervisor itself sees it ([`paging`], [`early`]).
//!
//! The hypervisor sees all RAM at its own addresses, writable and not executable; its code is executable and not
//! writable. [`physical`] is the one place that turns a host-physical address into a pointer.

pub mod arena;
pub mod early;
pub mod frame_table;
pub mod orphans;
pub mod paging;
pub mod physical;
pub mod windows;
