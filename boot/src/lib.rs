//! From firmware to Rust.
//!
//! Both kinds of Atoll's bare-metal images start here: the hypervisor, from GRUB by multiboot2 or from QEMU by PVH,
//! and the guest kernels, from the hypervisor by PVH. [`entry`] reaches long mode and calls the image's
//! `atoll_main`; [`handover`] reads what the loader left behind; [`cores`] finds the machine's cores and I/O APICs
//! in the ACPI tables, [`numa`] and [`topology`] how they lie to each other, [`pci`] what else is there; [`trampoline`] wakes a core. [`descriptors`] is the processor's own tables.
//!
//! Nothing here knows of virtual machines; the next room is `hypervisor` (its `main`), or `guest-kernel`.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod archive;
pub mod cores;
pub mod descriptors;
#[cfg(feature = "bare")]
pub mod entry;
pub mod handover;
pub mod hotplug;
pub mod image;
pub mod numa;
pub mod pci;
#[cfg(feature = "bare")]
pub mod runtime;
pub mod topology;
pub mod trampoline;
