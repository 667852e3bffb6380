//! What hypervisor and firmware know of where cores, caches, memory and devices are: what domain 0's knowledge base is
//! filled from, and what the toolstack draws.
//!
//! Facts, not conclusions: which cores share what follows from their APIC ids, by the shifts that CPUID gives.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::mesh::MAX_SLOTS;

/// The most kinds of cache that are kept.
pub const MAX_CACHES: usize = 8;
/// The most NUMA nodes.
pub const MAX_NODES: usize = 8;
/// The most I/O APICs.
pub const MAX_IO_APICS: usize = 8;

/// The most PCI functions.
pub const MAX_PCI: usize = 32;

/// `Cache::kind`, as CPUID leaf 4 numbers them.
pub mod cache_kind {
    /// Holds data.
    pub const DATA: u8 = 1;
    /// Holds instructions.
    pub const INSTRUCTION: u8 = 2;
    /// Holds both.
    pub const UNIFIED: u8 = 3;
}

/// One kind of cache that each core has, alone or with others.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, Serialize, Deserialize,
)]
#[repr(C)]
pub struct Cache {
    /// 1 is next to the core.
    pub level: u8,
    /// One of [`cache_kind`].
    pub kind: u8,
    /// Cores whose APIC ids are alike without so many of the lowest bits share one.
    pub shift: u8,
    /// Zero.
    pub reserved: u8,
    /// How much it holds.
    pub kib: u32,
    /// Bytes in a line of it.
    pub line_bytes: u32,
}

/// One core.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, Serialize, Deserialize,
)]
#[repr(C)]
pub struct CorePlace {
    /// Its local APIC id.
    pub apic_id: u32,
    /// Its NUMA node: a place in [`Topology::distances`], not the firmware's number.
    pub node: u32,
}

/// One I/O APIC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, Serialize, Deserialize,
)]
#[repr(C)]
pub struct IoApicPlace {
    /// Where its registers are.
    pub address: u32,
    /// The first interrupt that it takes.
    pub first_gsi: u32,
}

/// One function of a PCI device.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, Serialize, Deserialize,
)]
#[repr(C)]
pub struct PciFunction {
    /// Where it is.
    pub bus: u8,
    /// The same.
    pub device: u8,
    /// The same.
    pub function: u8,
    /// The programming interface of its class.
    pub interface: u8,
    /// Who made it.
    pub vendor: u16,
    /// What they call it.
    pub model: u16,
    /// What it is: base class and subclass, as the PCI Code and ID Assignment Specification numbers them.
    pub class: u16,
    /// Zero.
    pub reserved: u16,
}

/// All of it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, Serialize, Deserialize,
)]
#[repr(C)]
pub struct Topology {
    /// How many of `core` there are.
    pub cores: u32,
    /// How many of `cache`.
    pub caches: u32,
    /// How many NUMA nodes; at least 1.
    pub nodes: u32,
    /// How many of `io_apic`.
    pub io_apics: u32,
    /// Threads whose APIC ids are alike without so many of the lowest bits are one core.
    pub core_shift: u32,
    /// Cores whose APIC ids are alike without so many of the lowest bits are one package.
    pub package_shift: u32,
    /// The cores, in Atoll's order.
    pub core: [CorePlace; MAX_SLOTS],
    /// Their caches.
    pub cache: [Cache; MAX_CACHES],
    /// How far memory of one node is for another, as ACPI's SLIT says: 10 is its own.
    pub distances: [[u8; MAX_NODES]; MAX_NODES],
    /// The I/O APICs.
    pub io_apic: [IoApicPlace; MAX_IO_APICS],
    /// How many of `pci`.
    pub pci_functions: u32,
    /// The PCI functions.
    pub pci: [PciFunction; MAX_PCI],
}

impl Topology {
    /// The cores there are.
    pub fn core_places(&self) -> &[CorePlace] {
        self.core.get(..self.cores as usize).unwrap_or(&self.core)
    }

    /// The caches there are.
    pub fn cache_kinds(&self) -> &[Cache] {
        self.cache.get(..self.caches as usize).unwrap_or(&self.cache)
    }

    /// The I/O APICs there are.
    pub fn io_apic_places(&self) -> &[IoApicPlace] {
        self.io_apic.get(..self.io_apics as usize).unwrap_or(&self.io_apic)
    }

    /// The PCI functions there are.
    pub fn pci_functions(&self) -> &[PciFunction] {
        self.pci.get(..self.pci_functions as usize).unwrap_or(&self.pci)
    }
}

/// What messages cost between two cores, as the guests on them have measured it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Who asked.
    pub from: u32,
    /// Who answered.
    pub to: u32,
    /// Ticks from question to answer, halved.
    pub ticks: u64,
}

/// What the toolstack is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The machine, without the cores beyond [`Topology::cores`].
    pub topology: Topology,
    /// What was measured so far.
    pub latencies: Vec<Latency>,
}

/// Where a core of the mesh is, for its members: cores with the same number share it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Serialize,
    Deserialize,
)]
#[repr(C)]
pub struct MeshPlace {
    /// NUMA node.
    pub node: u16,
    /// Package.
    pub package: u16,
    /// The largest cache that not all of a package need share.
    pub cache: u16,
    /// Threads of one core.
    pub core: u16,
}
