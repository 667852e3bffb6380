//! The ACPI tables of a guest that wants some: which virtual CPUs there are, and that nothing else is.
//!
//! As Xen's tools make them for PVH guests (`tools/libacpi`): RSDP, XSDT, a FADT of a machine with reduced hardware, an
//! empty DSDT, and a MADT with a local APIC for each virtual CPU. Layouts by the ACPI specification, "ACPI Software
//! Programming Model".

use alloc::{vec, vec::Vec};

/// Bytes of the header that all tables but the RSDP begin with.
pub(super) const HEADER: usize = 36;
/// Where the checksum lies in it.
const CHECKSUM: usize = 9;
/// Bytes of a FADT of revision 5.
const FADT: usize = 268;
/// `IAPC_BOOT_ARCH`: no VGA to probe, no MSI, no CMOS clock.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 3 | 1 << 5;
/// FADT flags: WBINVD works, no power or sleep button, reduced hardware.
const FLAGS: u32 = 1 | 1 << 4 | 1 << 5 | 1 << 20;
/// Where local APICs are, unless they are in x2APIC mode.
pub(super) const LOCAL_APIC: u32 = 0xfee0_0000;

/// The block of tables for `vcpus` virtual CPUs, made for guest-physical `address`; the RSDP comes first.
pub fn tables(address: u64, vcpus: u32) -> Vec<u8> {
    // Each on a boundary that suits whoever looks for it.
    const XSDT_AT: usize = 0x40;
    const DSDT_AT: usize = 0x80;
    const FADT_AT: usize = 0xc0;
    const MADT_AT: usize = 0x200;
    let at = |offset: usize| address + offset as u64;
    let mut block = vec![0; MADT_AT];
    place(&mut block, 0, &rsdp(at(XSDT_AT)));
    place(
        &mut block,
        XSDT_AT,
        &table(b"XSDT", 1, [at(FADT_AT), at(MADT_AT)].map(u64::to_le_bytes).as_flattened()),
    );
    place(&mut block, DSDT_AT, &table(b"DSDT", 2, &[]));
    place(&mut block, FADT_AT, &fadt(at(DSDT_AT)));
    block.extend(madt(vcpus));
    block
}

/// Puts a table at its place in a block.
pub(super) fn place(block: &mut [u8], at: usize, table: &[u8]) {
    block[at..at + table.len()].copy_from_slice(table);
}

/// "Root System Description Pointer (RSDP) Structure".
pub(super) fn rsdp(xsdt: u64) -> Vec<u8> {
    const OLD_PART: usize = 20;
    let mut table = Vec::from(*b"RSD PTR \0Atoll \x02");
    table.extend([0; 4]);
    table.extend(36u32.to_le_bytes());
    table.extend(xsdt.to_le_bytes());
    table.extend([0; 4]);
    table[8] = balance(&table[..OLD_PART]);
    table[32] = balance(&table);
    table
}

/// "System Description Table Header", with its body.
pub(super) fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend(((HEADER + body.len()) as u32).to_le_bytes());
    table.extend([revision, 0]);
    table.extend(b"Atoll PVHguest");
    table.extend(1u32.to_le_bytes());
    table.extend(b"ATOL");
    table.extend(1u32.to_le_bytes());
    table.extend(body);
    table[CHECKSUM] = balance(&table);
    table
}

/// "Fixed ACPI Description Table (FADT)": the DSDT, and what there is not.
fn fadt(dsdt: u64) -> Vec<u8> {
    let mut body = vec![0; FADT - HEADER];
    place(&mut body, 40 - HEADER, &(dsdt as u32).to_le_bytes());
    place(&mut body, 109 - HEADER, &BOOT_ARCHITECTURE.to_le_bytes());
    place(&mut body, 112 - HEADER, &FLAGS.to_le_bytes());
    place(&mut body, 140 - HEADER, &dsdt.to_le_bytes());
    table(b"FACP", 5, &body)
}

/// "Multiple APIC Description Table (MADT)": a "Processor Local APIC Structure" for each virtual CPU, whose APIC id is two
/// times its number, as on Xen.
fn madt(vcpus: u32) -> Vec<u8> {
    const ENABLED: u32 = 1;
    let mut body = LOCAL_APIC.to_le_bytes().to_vec();
    body.extend([0; 4]);
    for vcpu in 0..vcpus {
        body.extend([0, 8, vcpu as u8, vcpu as u8 * 2]);
        body.extend(ENABLED.to_le_bytes());
    }
    table(b"APIC", 4, &body)
}

/// What brings the sum of these bytes, with a zero at its own place, to zero.
fn balance(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn every_table_is_found_and_adds_up() {
        const BASE: u64 = 0xe_0000;
        let block = tables(BASE, 3);
        let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
        let whole = |at: u64| {
            let at = (at - BASE) as usize;
            let length = u32::from_le_bytes(block[at + 4..at + 8].try_into().unwrap()) as usize;
            &block[at..at + length]
        };
        assert_eq!((sum(&block[..20]), sum(&block[..36]), &block[..8]), (0, 0, &b"RSD PTR "[..]));
        let xsdt = whole(word(24));
        assert_eq!((sum(xsdt), xsdt.len(), &xsdt[..4]), (0, HEADER + 16, &b"XSDT"[..]));
        let at = (word(24) - BASE) as usize + HEADER;
        let (fadt, madt) = (whole(word(at)), whole(word(at + 8)));
        assert_eq!((sum(fadt), fadt.len(), &fadt[..4]), (0, FADT, &b"FACP"[..]));
        let dsdt = whole(u64::from_le_bytes(fadt[140..148].try_into().unwrap()));
        assert_eq!((sum(dsdt), dsdt.len(), &dsdt[..4]), (0, HEADER, &b"DSDT"[..]));
        assert_eq!((sum(madt), &madt[..4]), (0, &b"APIC"[..]));
        assert_eq!(
            madt[HEADER + 8..],
            [0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 2, 1, 0, 0, 0, 0, 8, 2, 4, 1, 0, 0, 0]
        );
    }
}
