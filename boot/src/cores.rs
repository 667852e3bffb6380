//! The machine's cores and I/O APICs, as ACPI's Multiple APIC Description Table lists them.

use core::ptr::NonNull;

use acpi::{
    AcpiHandler, AcpiTables, PhysicalMapping,
    fadt::Fadt,
    madt::{Madt, MadtEntry},
};
use arrayvec::ArrayVec;

use crate::numa::{self, Numa};

/// The most cores that Atoll uses.
pub const MAX_CORES: usize = abi::mesh::MAX_SLOTS;

/// One I/O APIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    /// Its registers' host-physical address.
    pub address: u32,
    /// The global system interrupt of its first pin.
    pub first_gsi: u32,
}

/// A legacy interrupt that is wired to another global system interrupt than its own number.
#[derive(Clone, Copy, Debug)]
pub struct Override {
    /// ISA interrupt.
    pub irq: u8,
    /// Where it is wired.
    pub gsi: u32,
}

/// What the table says.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Local APIC ids of usable cores, in the table's order.
    pub apic_ids: ArrayVec<u32, MAX_CORES>,
    /// Of cores that the table has a place for, and that are not there.
    pub disabled: ArrayVec<u32, MAX_CORES>,
    /// Where the general-purpose events are; 0: nowhere.
    pub gpe0: u64,
    /// Cores beyond those, which stay unused.
    pub unused: u32,
    /// I/O APICs.
    pub io_apics: ArrayVec<IoApic, 8>,
    /// Interrupt source overrides.
    pub overrides: ArrayVec<Override, 16>,
    /// Which of them are near which memory.
    pub numa: Numa,
}

/// Finds tables where physical addresses are virtual ones.
#[derive(Clone, Copy)]
pub(crate) struct IdentityMapped;

impl AcpiHandler for IdentityMapped {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let pointer = NonNull::new(address as *mut T).unwrap_or(NonNull::dangling());
        // SAFETY: the region is mapped, at its own address (see `find`), for as long as the program runs.
        unsafe { PhysicalMapping::new(address, pointer, size, size, *self) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// Reads the topology from the tables behind `rsdp`. `None` where there are no sound tables.
///
/// # Safety
/// ACPI's tables are identity-mapped and `rsdp` came from the loader.
pub unsafe fn find(rsdp: u64) -> Option<Topology> {
    // SAFETY: by the caller. The crate checks signatures and checksums.
    let tables = unsafe { AcpiTables::from_rsdp(IdentityMapped, rsdp as usize) }.ok()?;
    let madt = tables.find_table::<Madt>().ok()?;
    let mut topology = Topology::default();
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::LocalApic(core) => topology.add_core(core.flags, u32::from(core.apic_id)),
            MadtEntry::LocalX2Apic(core) => topology.add_core(core.flags, core.x2apic_id),
            MadtEntry::IoApic(io) => {
                let _ = topology.io_apics.try_push(IoApic {
                    address: io.io_apic_address,
                    first_gsi: io.global_system_interrupt_base,
                });
            }
            MadtEntry::InterruptSourceOverride(wire) => {
                let _ = topology
                    .overrides
                    .try_push(Override { irq: wire.irq, gsi: wire.global_system_interrupt });
            }
            _ => {}
        }
    }
    topology.numa = numa::find(&tables);
    let events = tables.find_table::<Fadt>().ok().and_then(|fadt| fadt.get().gpe0_block().ok().flatten());
    topology.gpe0 = events.map_or(0, |block| block.address);
    Some(topology)
}

impl Topology {
    fn add_core(&mut self, flags: u32, apic_id: u32) {
        const ENABLED: u32 = 1;
        if self.apic_ids.contains(&apic_id) {
            return;
        }
        if flags & ENABLED == 0 {
            // Those beyond what Atoll uses would not be used either.
            let _ = self.disabled.try_push(apic_id);
        } else if self.apic_ids.try_push(apic_id).is_err() {
            self.unused += 1;
        }
    }
}
