//! The ACPI tables of a full guest's PC: its virtual CPUs, its I/O APIC, its power management, and nothing on its buses
//! that a kernel would not find by itself. Layouts by the ACPI specification, "ACPI Software Programming Model".

use alloc::{vec, vec::Vec};

use crate::control::acpi::{HEADER, LOCAL_APIC, place, rsdp, table};

/// Bytes of a FADT of revision 3.
const FADT: usize = 244;
/// Where the I/O APIC is.
const IO_APIC: u32 = 0xfec0_0000;
/// Its APIC id: one that no virtual CPU has.
const IO_APIC_ID: u8 = 0xfe;
/// The system control interrupt: an ISA interrupt.
const SCI: u8 = 9;
/// Ports of the power-management block: events, control, timer.
const PM_EVENT: u32 = 0x600;
const PM_CONTROL: u32 = 0x604;
const PM_TIMER: u32 = 0x608;
/// The reset register, and what is written there.
const RESET_PORT: u64 = 0xcf9;
const RESET_VALUE: u8 = 6;
/// `IAPC_BOOT_ARCH`: legacy devices, a keyboard controller, no VGA to probe, no MSI.
const BOOT_ARCHITECTURE: u16 = 1 | 1 << 1 | 1 << 2 | 1 << 3;
/// FADT flags: WBINVD works, C1 on all, no power or sleep button, no event of the clock, a timer of 32 bits, a reset
/// register.
const FLAGS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10;
/// `Name (\_S5, Package () { 5, 5, 0, 0 })`: what to write to sleep for good.
const SOFT_OFF: [u8; 14] =
    [0x08, b'_', b'S', b'5', b'_', 0x12, 0x08, 0x04, 0x0a, 0x05, 0x0a, 0x05, 0x00, 0x00];

/// The block of tables for `vcpus` virtual CPUs, made for guest-physical `address`; the RSDP comes first.
pub(super) fn tables(address: u64, vcpus: u32) -> Vec<u8> {
    // Each on a boundary that suits whoever looks for it.
    const XSDT_AT: usize = 0x40;
    const FACS_AT: usize = 0x80;
    const DSDT_AT: usize = 0xc0;
    const FADT_AT: usize = 0x100;
    const MADT_AT: usize = 0x200;
    let at = |offset: usize| address + offset as u64;
    let mut block = vec![0; MADT_AT];
    place(&mut block, 0, &rsdp(at(XSDT_AT)));
    let entries = [at(FADT_AT), at(MADT_AT)].map(u64::to_le_bytes);
    place(&mut block, XSDT_AT, &table(b"XSDT", 1, entries.as_flattened()));
    place(&mut block, FACS_AT, &facs());
    place(&mut block, DSDT_AT, &table(b"DSDT", 2, &SOFT_OFF));
    place(&mut block, FADT_AT, &fadt(at(DSDT_AT), at(FACS_AT)));
    block.extend(madt(vcpus));
    block
}

/// "Firmware ACPI Control Structure (FACS)": no waking vector, a lock that is free.
fn facs() -> [u8; 64] {
    let mut table = [0; 64];
    table[..4].copy_from_slice(b"FACS");
    table[4] = 64;
    table[32] = 2;
    table
}

/// "Fixed ACPI Description Table (FADT)".
fn fadt(dsdt: u64, facs: u64) -> Vec<u8> {
    let mut body = vec![0; FADT - HEADER];
    let mut put = |at: usize, bytes: &[u8]| place(&mut body, at - HEADER, bytes);
    put(36, &(facs as u32).to_le_bytes());
    put(40, &(dsdt as u32).to_le_bytes());
    put(46, &u16::from(SCI).to_le_bytes());
    put(56, &PM_EVENT.to_le_bytes());
    put(64, &PM_CONTROL.to_le_bytes());
    put(76, &PM_TIMER.to_le_bytes());
    // Lengths: PM1_EVT_LEN, PM1_CNT_LEN, PM2_CNT_LEN, PM_TMR_LEN.
    put(88, &[4, 2, 0, 4]);
    // No C2 and no C3: latencies beyond what counts.
    put(96, &101u16.to_le_bytes());
    put(98, &1001u16.to_le_bytes());
    put(109, &BOOT_ARCHITECTURE.to_le_bytes());
    put(112, &FLAGS.to_le_bytes());
    put(116, &port(8, RESET_PORT));
    put(128, &[RESET_VALUE]);
    put(132, &facs.to_le_bytes());
    put(140, &dsdt.to_le_bytes());
    put(148, &port(32, PM_EVENT.into()));
    put(172, &port(16, PM_CONTROL.into()));
    put(208, &port(32, PM_TIMER.into()));
    table(b"FACP", 3, &body)
}

/// "Generic Address Structure" of an I/O port.
fn port(bits: u8, port: u64) -> [u8; 12] {
    const SYSTEM_IO: u8 = 1;
    let mut address = [SYSTEM_IO, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    address[4..].copy_from_slice(&port.to_le_bytes());
    address
}

/// "Multiple APIC Description Table (MADT)": local APICs, whose ids are two times their numbers; the I/O APIC; and the two
/// ISA interrupts that are not wired to the pin of their number, edge-triggered: the timer, which is on pin 2, and the
/// SCI, a level.
fn madt(vcpus: u32) -> Vec<u8> {
    const ENABLED: u32 = 1;
    const DUAL_8259: u32 = 1;
    const LEVEL_HIGH: u16 = 1 | 3 << 2;
    let mut body = LOCAL_APIC.to_le_bytes().to_vec();
    body.extend(DUAL_8259.to_le_bytes());
    for vcpu in 0..vcpus {
        body.extend([0, 8, vcpu as u8, vcpu as u8 * 2]);
        body.extend(ENABLED.to_le_bytes());
    }
    body.extend([1, 12, IO_APIC_ID, 0]);
    body.extend(IO_APIC.to_le_bytes());
    body.extend([0; 4]);
    for (irq, pin, flags) in [(0, 2u32, 0), (SCI, SCI.into(), LEVEL_HIGH)] {
        body.extend([2, 10, 0, irq]);
        body.extend(pin.to_le_bytes());
        body.extend(flags.to_le_bytes());
    }
    // LINT1 of every processor takes NMIs.
    body.extend([4, 6, 0xff, 0, 0, 1]);
    table(b"APIC", 3, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_found_and_adds_up() {
        const BASE: u64 = 0xe_0000;
        let block = tables(BASE, 2);
        let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
        let whole = |at: u64, signature: &[u8]| {
            let at = (at - BASE) as usize;
            let length = u32::from_le_bytes(block[at + 4..at + 8].try_into().unwrap()) as usize;
            let table = &block[at..at + length];
            assert_eq!(&table[..4], signature);
            assert_eq!(table.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)), 0);
            table
        };
        let xsdt = whole(word(24), b"XSDT");
        let at = (word(24) - BASE) as usize + HEADER;
        assert_eq!(xsdt.len(), HEADER + 16);
        let fadt = whole(word(at), b"FACP");
        assert_eq!(fadt.len(), FADT);
        let dsdt = whole(u64::from_le_bytes(fadt[140..148].try_into().unwrap()), b"DSDT");
        assert_eq!(dsdt[HEADER..], SOFT_OFF);
        let facs = u64::from_le_bytes(fadt[132..140].try_into().unwrap());
        assert_eq!(facs % 64, 0, "the specification aligns it");
        // Two local APICs of 8 bytes, an I/O APIC of 12, two overrides of 10, an NMI of 6.
        assert_eq!(whole(word(at + 8), b"APIC").len(), HEADER + 8 + 16 + 12 + 20 + 6);
    }
}
