//! The reference walker against the statements of SDM 3A, "Paging".

#[path = "common/guest.rs"]
mod guest;

use abi::address::{GuestPhys, GuestVirt};
use ept::Access;
use ept::guest_walk::{
    EntryWidth, Features, Found, PageFaultCode, Paging, PdpteError, Privilege, Refusal, Request, load_pdptes,
    look, walk,
};
use guest::{FEATURES, GuestMemory, LONG, PAE, TWO_LEVEL};

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const XD: u64 = 1 << 63;
const KERNEL: Privilege = Privilege::Supervisor { alignment_check: false };
const KERNEL_AC: Privilege = Privilege::Supervisor { alignment_check: true };
const PRIVILEGES: [Privilege; 4] = [Privilege::User, KERNEL, KERNEL_AC, Privilege::Implicit];
const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::Execute];

fn ask(
    memory: &GuestMemory,
    paging: &Paging,
    at: u64,
    access: Access,
    who: Privilege,
) -> Result<Found, Refusal> {
    walk(memory, paging, GuestVirt::new(at), Request { access, privilege: who })
}

fn read(memory: &GuestMemory, paging: &Paging, at: u64) -> Result<Found, Refusal> {
    ask(memory, paging, at, Access::Read, KERNEL)
}

fn target(memory: &GuestMemory, paging: &Paging, at: u64) -> Option<u64> {
    read(memory, paging, at).ok().map(|found| found.gpa.as_u64())
}

fn fault(bits: u32) -> Refusal {
    Refusal::Fault(PageFaultCode::from_bits_truncate(bits))
}

/// Four tables at 0x1000, 0x2000, 0x3000, 0x4000 that map linear 0x0000_7654_3210_0000 and its neighbours.
const ADDRESS: u64 = 0x7654_3210_0000;
fn slots(address: u64) -> [u64; 4] {
    let index = |shift: u32| (address >> shift & 511) * 8;
    [0x1000 + index(39), 0x2000 + index(30), 0x3000 + index(21), 0x4000 + index(12)]
}

fn four_levels(leaf: u64) -> GuestMemory {
    let memory = GuestMemory::new(1 << 20);
    let slots = slots(ADDRESS);
    for (slot, entry) in slots.into_iter().zip([0x2000, 0x3000, 0x4000].map(|table| table | P | W | U)) {
        memory.set(slot, EntryWidth::Eight, entry);
    }
    memory.set(slots[3], EntryWidth::Eight, leaf);
    memory
}

#[test]
fn four_levels_lead_to_each_size_of_page() {
    let memory = four_levels(0x12_3456_7000 | P);
    let slots = slots(ADDRESS);
    assert_eq!(target(&memory, &LONG, ADDRESS | 0xabc), Some(0x12_3456_7abc));
    memory.set(slots[2], EntryWidth::Eight, 0x12_3460_0000 | 1 << 12 | PS | P);
    assert_eq!(
        target(&memory, &LONG, ADDRESS | 0x1_2345),
        Some(0x12_3460_0000 | (ADDRESS | 0x1_2345) & 0x1f_ffff)
    );
    memory.set(slots[1], EntryWidth::Eight, 0x12_0000_0000 & !0x3fff_ffff | PS | P);
    let found = read(&memory, &LONG, ADDRESS).unwrap();
    assert_eq!(found.gpa.as_u64(), 0x12_0000_0000 | ADDRESS & 0x3fff_ffff);
    assert_eq!((found.page_bytes, found.level), (1 << 30, 3));
    assert_eq!(found.bytes_left(), (1 << 30) - (ADDRESS & 0x3fff_ffff));
}

#[test]
fn each_reserved_bit_of_four_levels_faults_and_no_other() {
    let slots = slots(ADDRESS);
    let without_gigabytes = Features { gigabyte_pages: false, ..FEATURES };
    // Level from the top, PS, and which bits are reserved with MAXPHYADDR 40, NXE and 1 GiB pages.
    let beyond = 0xfff << 40;
    for (level, large, reserved) in [
        (0, false, beyond | PS),
        (1, false, beyond),
        (1, true, beyond | 0x3fff_e000),
        (2, false, beyond),
        (2, true, beyond | 0x1f_e000),
        (3, false, beyond),
    ] {
        for bit in 0..64 {
            for (nxe, features) in [(true, FEATURES), (false, FEATURES), (true, without_gigabytes)] {
                let memory = four_levels(0x5000 | P);
                let large = if large { PS } else { 0 };
                let entry = memory.get(slots[level], EntryWidth::Eight)
                    & !if large != 0 { 0xff_ffff_f000 } else { 0 }
                    | large;
                // Address bits lead elsewhere, where the walk finds nothing.
                let address_bit = (12..40).contains(&bit) && reserved >> bit & 1 == 0;
                if entry & 1 << bit != 0 || address_bit {
                    continue;
                }
                if bit == 7 && level != 0 {
                    continue;
                }
                memory.set(slots[level], EntryWidth::Eight, entry | 1 << bit);
                let paging =
                    Paging { efer: if nxe { LONG.efer } else { LONG.efer & !(1 << 11) }, features, ..LONG };
                let reserved = reserved
                    | if nxe { 0 } else { XD }
                    | if features.gigabyte_pages || level != 1 { 0 } else { large };
                let bad = (entry | 1 << bit) & reserved != 0;
                let answer = read(&memory, &paging, ADDRESS);
                assert_eq!(
                    answer == Err(fault(9)),
                    bad,
                    "level {level} bit {bit} PS {large:#x} nxe {nxe}: {answer:x?}"
                );
                assert!(bad || answer.is_ok());
            }
        }
    }
}

#[test]
fn an_entry_that_is_not_present_may_hold_anything() {
    let slots = slots(ADDRESS);
    for slot in slots {
        let memory = four_levels(0x5000 | P);
        memory.set(slot, EntryWidth::Eight, !P);
        for (access, code) in [(Access::Read, 0), (Access::Write, 2), (Access::Execute, 16)] {
            assert_eq!(ask(&memory, &LONG, ADDRESS, access, KERNEL), Err(fault(code)));
            assert_eq!(ask(&memory, &LONG, ADDRESS, access, Privilege::User), Err(fault(code | 4)));
        }
    }
}

/// SDM 3A, "Determination of Access Rights", sentence by sentence, and the flags of "Page-Fault Exceptions".
#[test]
fn rights_are_as_the_manual_states_them() {
    let slots = slots(ADDRESS);
    let mut allowed = 0;
    let mut seen = std::collections::BTreeSet::new();
    for bits in 0..1u32 << 11 {
        let bit = |n: u32| bits >> n & 1 != 0;
        let (user_page, writable, xd) = (bit(0), bit(1), bit(2));
        let (wp, smep, smap, pke, nxe) = (bit(3), bit(4), bit(5), bit(6), bit(7));
        let (ad, wd) = (bit(8), bit(9));
        // The limiting entry is the uppermost or the lowest one.
        let limiting = if bit(10) { slots[0] } else { slots[3] };
        if xd && !nxe {
            continue;
        }
        let paging = Paging {
            cr0: 1 << 31 | u64::from(wp) << 16 | 1,
            cr4: 1 << 5 | u64::from(smep) << 20 | u64::from(smap) << 21 | u64::from(pke) << 22,
            efer: 1 << 10 | u64::from(nxe) << 11,
            pkru: (u32::from(ad) | u32::from(wd) << 1) << 10,
            ..LONG
        };
        for privilege in PRIVILEGES {
            for access in ACCESSES {
                let memory = four_levels(0x5000 | P | W | U | 5 << 59);
                let mut entry = memory.get(limiting, EntryWidth::Eight);
                entry &= !(if user_page { 0 } else { U } | if writable { 0 } else { W });
                entry |= if xd { XD } else { 0 };
                memory.set(limiting, EntryWidth::Eight, entry);
                let supervisor = privilege != Privilege::User;
                let explicit_ac = privilege == KERNEL_AC;
                let data_key = !pke || !user_page;
                let allows = match (supervisor, access) {
                    (true, Access::Read) => (!user_page || !smap || explicit_ac) && (data_key || !ad),
                    (true, Access::Write) => {
                        (!user_page || !smap || explicit_ac)
                            && (writable || !wp)
                            && (data_key || !ad && (!wd || !wp))
                    }
                    (true, Access::Execute) => !(xd || user_page && smep),
                    (false, Access::Read) => user_page && (data_key || !ad),
                    (false, Access::Write) => user_page && writable && (data_key || !ad && !wd),
                    (false, Access::Execute) => user_page && !xd,
                };
                let key = pke
                    && user_page
                    && access != Access::Execute
                    && (ad || wd && access == Access::Write && (wp || !supervisor));
                let code = 1
                    | if access == Access::Write { 2 } else { 0 }
                    | if supervisor { 0 } else { 4 }
                    | if access == Access::Execute && (smep || nxe) { 16 } else { 0 }
                    | if key { 32 } else { 0 };
                let answer = ask(&memory, &paging, ADDRESS, access, privilege);
                let context = (user_page, writable, xd, wp, smep, smap, pke, nxe, ad, wd, privilege, access);
                match answer {
                    Ok(_) => assert!(allows, "{context:?}"),
                    Err(refusal) => {
                        assert!(!allows, "{context:?}");
                        assert_eq!(refusal, fault(code), "{context:?}");
                        seen.insert(code);
                    }
                }
                allowed += u32::from(allows);
            }
        }
    }
    assert!(allowed > 1000);
    // Every code that can be. A fetch whose code does not say so looks like a read.
    assert_eq!(Vec::from_iter(seen), [1, 3, 5, 7, 17, 21, 33, 35, 37, 39]);
}

#[test]
fn flags_are_set_on_the_whole_way_and_only_by_success() {
    let slots = slots(ADDRESS);
    let memory = four_levels(0x5000 | P | U);
    let flags = |memory: &GuestMemory| slots.map(|slot| memory.get(slot, EntryWidth::Eight) & (A | D));
    assert_eq!(ask(&memory, &LONG, ADDRESS, Access::Write, KERNEL), Err(fault(3)));
    assert_eq!(flags(&memory), [0; 4]);
    assert!(!read(&memory, &LONG, ADDRESS).unwrap().dirty);
    assert_eq!(flags(&memory), [A; 4]);
    memory.set(slots[3], EntryWidth::Eight, 0x5000 | P | W);
    assert!(ask(&memory, &LONG, ADDRESS, Access::Write, KERNEL).unwrap().dirty);
    assert_eq!(flags(&memory), [A, A, A, A | D]);
    memory.exchanges.set(0);
    ask(&memory, &LONG, ADDRESS, Access::Write, KERNEL).unwrap();
    assert_eq!(memory.exchanges.get(), 0, "nothing is left to set");
    memory.set(slots[3], EntryWidth::Eight, 0x6000 | P);
    assert_eq!(look(&memory, &LONG, GuestVirt::new(ADDRESS)).unwrap().gpa, GuestPhys::new(0x6000));
    assert_eq!(flags(&memory), [A, A, A, 0], "a look leaves no mark");
}

#[test]
fn an_entry_that_changes_is_not_written_over() {
    let slots = slots(ADDRESS);
    let memory = four_levels(0x5000 | P);
    memory.meddler.set((1, P));
    assert_eq!(read(&memory, &LONG, ADDRESS), Err(fault(0)), "the uppermost entry went away under the walk");
    assert_eq!(memory.get(slots[0], EntryWidth::Eight) & A, 0);
    let memory = four_levels(0x5000 | P);
    memory.meddler.set((3, 1 << 9));
    assert!(read(&memory, &LONG, ADDRESS).is_ok());
    memory.set(slots[3], EntryWidth::Eight, 0x5000 | P);
    memory.meddler.set((1000, 1 << 9));
    assert_eq!(read(&memory, &LONG, ADDRESS), Err(Refusal::Contended));
}

#[test]
fn tables_in_rom_keep_no_flags_and_tables_nowhere_are_told() {
    let mut memory = four_levels(0x5000 | P);
    memory.rom_end = 0x10_0000;
    assert!(read(&memory, &LONG, ADDRESS).is_ok());
    assert_eq!(memory.get(slots(ADDRESS)[3], EntryWidth::Eight) & A, 0);
    memory.end = 0x4000;
    let lowest = GuestPhys::new(slots(ADDRESS)[3]);
    assert_eq!(read(&memory, &LONG, ADDRESS), Err(Refusal::OutsideMemory(lowest)));
}

#[test]
fn addresses_of_four_levels_are_canonical_and_others_are_cut() {
    let memory = four_levels(0x5000 | P);
    assert_eq!(read(&memory, &LONG, ADDRESS | 1 << 47), Err(Refusal::NotCanonical));
    assert_eq!(read(&memory, &LONG, ADDRESS | 0xffff << 48), Err(Refusal::NotCanonical));
    let high = 0xffff_8000_0000_0000;
    assert_eq!(read(&memory, &LONG, high), Err(fault(0)));
    let off = Paging { cr0: 1, ..TWO_LEVEL };
    assert_eq!(target(&memory, &off, 0xf_1234_5678), Some(0x1234_5678));
}

#[test]
fn two_levels_with_pages_of_four_mebibytes() {
    let memory = GuestMemory::new(1 << 20);
    let pde = 0x1000 + (0xc123_4567u64 >> 22) * 4;
    let pte = 0x2000 + (0xc123_4567u64 >> 12 & 1023) * 4;
    memory.set(pde, EntryWidth::Four, 0x2000 | P | W | U);
    memory.set(pte, EntryWidth::Four, 0xffff_f000 | P | W);
    assert_eq!(target(&memory, &TWO_LEVEL, 0xc123_4567), Some(0xffff_f567));
    assert_eq!(memory.get(pde, EntryWidth::Four), 0x2000 | P | W | U | A);
    assert_eq!(memory.get(pte, EntryWidth::Four), 0xffff_f000 | P | W | A);
    assert_eq!(ask(&memory, &TWO_LEVEL, 0xc123_4567, Access::Execute, Privilege::User), Err(fault(5)));
    let smep = Paging { cr4: 1 << 4 | 1 << 20, ..TWO_LEVEL };
    assert_eq!(ask(&memory, &smep, 0xc123_4567, Access::Execute, Privilege::User), Err(fault(21)));
    // PSE-36: bits 39:32 lie in 20:13.
    memory.set(pde, EntryWidth::Four, 0x4000_0000 | 0x5a << 13 | PS | P);
    assert_eq!(target(&memory, &TWO_LEVEL, 0xc123_4567), Some(0x5a_4000_0000 | 0x0123_4567 & 0x3f_ffff));
    let narrow = Paging { features: Features { address_bits: 36, ..FEATURES }, ..TWO_LEVEL };
    assert_eq!(read(&memory, &narrow, 0xc123_4567), Err(fault(9)));
    let without = Paging { features: Features { pse36: false, ..FEATURES }, ..TWO_LEVEL };
    assert_eq!(read(&memory, &without, 0xc123_4567), Err(fault(9)));
    memory.set(pde, EntryWidth::Four, 0x4000_0000 | 1 << 21 | PS | P);
    assert_eq!(read(&memory, &TWO_LEVEL, 0xc123_4567), Err(fault(9)), "bit 21 is reserved");
    // Without CR4.PSE the flag means nothing.
    memory.set(pde, EntryWidth::Four, 0x2000 | PS | P);
    assert_eq!(target(&memory, &Paging { cr4: 0, ..TWO_LEVEL }, 0xc123_4567), Some(0xffff_f567));
}

#[test]
fn pae_goes_through_its_four_registers() {
    let memory = GuestMemory::new(1 << 20);
    let root = 0x1020;
    memory.set(root + 16, EntryWidth::Eight, 0x2000 | P | 0xe00);
    let registers = load_pdptes(&memory, root, FEATURES).unwrap();
    assert_eq!(registers, [0, 0, 0x2000 | P | 0xe00, 0]);
    let paging = Paging { pdptes: registers, ..PAE };
    let address = 0x8040_3123;
    memory.set(0x2000 + (address >> 21 & 511) * 8, EntryWidth::Eight, 0x3000 | P | W | U);
    let pte = 0x3000 + (address >> 12 & 511) * 8;
    memory.set(pte, EntryWidth::Eight, 0xab_cdef_0000 | P | U | XD);
    assert_eq!(target(&memory, &paging, address), Some(0xab_cdef_0123));
    assert_eq!(ask(&memory, &paging, address, Access::Execute, KERNEL), Err(fault(17)));
    assert_eq!(read(&memory, &paging, 0x1000), Err(fault(0)), "the first register is not present");
    // What lies in memory counts only when CR3 is loaded.
    memory.set(root + 16, EntryWidth::Eight, 0);
    assert!(target(&memory, &paging, address).is_some());
    // Here bits 62:52 are reserved, keys do not exist, and XD without NXE is reserved.
    let keys = Paging { cr4: 1 << 5 | 1 << 22, pkru: u32::MAX, ..paging };
    assert!(read(&memory, &keys, address).is_ok());
    assert_eq!(read(&memory, &Paging { efer: 0, ..paging }, address), Err(fault(9)));
    for bit in 40..63 {
        memory.set(pte, EntryWidth::Eight, 0x5000 | P | 1 << bit);
        assert_eq!(read(&memory, &paging, address), Err(fault(9)), "bit {bit}");
    }
}

#[test]
fn pdptes_are_checked_when_they_are_loaded() {
    let memory = GuestMemory::new(1 << 20);
    for bit in 1..64 {
        memory.set(0x1000, EntryWidth::Eight, P | 1 << bit);
        let reserved = matches!(bit, 1 | 2 | 5..=8 | 40..);
        let loaded = load_pdptes(&memory, 0x1000, FEATURES);
        assert_eq!(loaded == Err(PdpteError::Reserved), reserved, "bit {bit}");
        memory.set(0x1000, EntryWidth::Eight, 1 << bit);
        assert_eq!(load_pdptes(&memory, 0x1000, FEATURES), Ok([1 << bit, 0, 0, 0]), "not present: bit {bit}");
    }
    let nowhere = GuestPhys::new(1 << 20);
    assert_eq!(load_pdptes(&memory, 1 << 20, FEATURES), Err(PdpteError::OutsideMemory(nowhere)));
}

#[test]
fn nothing_panics_on_any_registers() {
    let memory = four_levels(u64::MAX);
    for address_bits in [0, 32, 52, 64, 255] {
        for cr4 in [0, 0x10, 0x20, u64::MAX] {
            for efer in [0, u64::MAX] {
                let features = Features { address_bits, ..FEATURES };
                let paging = Paging { cr4, efer, cr3: u64::MAX, pdptes: [u64::MAX; 4], features, ..LONG };
                for address in [0, ADDRESS, u64::MAX, i64::MAX as u64] {
                    let _ = read(&memory, &paging, address);
                }
                let _ = load_pdptes(&memory, u64::MAX, features);
            }
        }
    }
}
