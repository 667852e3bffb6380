use std::vec::Vec;

use super::*;
use proptest::prelude::*;

const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;

/// In xAPIC mode, enabled by software.
fn enabled() -> LocalApic {
    let mut apic = LocalApic::new(0, true);
    apic.write_page(0xf0, 0x1ff, 0);
    apic
}

fn in_x2apic_mode(id: u32) -> LocalApic {
    let mut apic = LocalApic::new(id, false);
    apic.set_base(ADDRESS | BASE_ENABLED | BASE_X2APIC).unwrap();
    apic.write_msr(0x0f, 0x1ff, 0).unwrap();
    apic
}

fn edge(to: Destination, delivery: Delivery) -> Effect {
    Effect::Send(Message { to, delivery, is_level: false })
}

/// "Local APIC State After Power-Up or Reset".
#[test]
fn after_reset() {
    let mut apic = LocalApic::new(5, true);
    assert_eq!(apic.base(), 0xfee0_0900);
    assert_eq!(apic.read_page(0x20, 0), 5 << 24);
    assert_eq!(apic.read_page(0x30, 0), 0x0005_0014);
    assert_eq!(apic.read_page(0xe0, 0), u32::MAX);
    assert_eq!(apic.read_page(0xf0, 0), 0xff);
    for entry in (0x320..=0x370).step_by(0x10) {
        assert_eq!(apic.read_page(entry, 0), MASKED);
        apic.write_page(entry, 0x40, 0);
        assert_eq!(apic.read_page(entry, 0), MASKED | 0x40, "while it is disabled entries stay masked");
    }
    apic.request(0x40, false);
    assert_eq!(apic.pending(), None, "nor does it accept anything");
    assert!(!apic.passes_external());
    apic.wire_as_firmware_does();
    assert!(apic.passes_external());
}

/// "Task and Processor Priorities".
#[test]
fn priorities() {
    let mut apic = enabled();
    apic.request(0x51, false);
    apic.request(0x5f, false);
    apic.request(0x41, false);
    assert_eq!(apic.pending(), Some(0x5f));
    apic.accept(0x5f);
    assert_eq!(apic.pending(), None, "the same class waits");
    assert_eq!(apic.read_page(0xa0, 0), 0x50);
    apic.write_page(0x80, 0x57, 0);
    assert_eq!(apic.read_page(0xa0, 0), 0x57, "the task's, where the classes are the same");
    assert_eq!(apic.write_page(0xb0, 0, 0), Effect::EndOfEdge);
    assert_eq!(apic.pending(), None, "the task's priority keeps it back");
    apic.set_task_class(4);
    assert_eq!((apic.pending(), apic.read_page(0x80, 0)), (Some(0x51), 0x40));
    apic.accept(0x51);
    apic.request(0x61, false);
    assert_eq!(apic.pending(), Some(0x61), "a higher class comes through");
    apic.accept(0x61);
    assert_eq!((apic.read_page(0x120, 0), apic.read_page(0x130, 0)), (1 << 17, 1 << 1));
    apic.write_page(0xb0, 0, 0);
    apic.write_page(0xb0, 0, 0);
    assert_eq!(apic.write_page(0xb0, 0, 0), Effect::None, "nothing left to end");
    apic.set_task_class(0);
    assert_eq!((apic.pending(), apic.read_page(0x220, 0)), (Some(0x41), 1 << 1));
}

/// "Interrupt Acceptance for Fixed Interrupts": TMR.
#[test]
fn levels_are_told_of_their_end() {
    let mut apic = enabled();
    apic.request(0x70, true);
    assert_eq!(apic.read_page(0x1b0, 0), 1 << 16);
    apic.accept(0x70);
    assert_eq!(apic.write_page(0xb0, 0, 0), Effect::EndOfLevel(0x70));
    apic.request(0x70, false);
    apic.accept(0x70);
    assert_eq!(apic.write_page(0xb0, 0, 0), Effect::EndOfEdge);
}

/// "Local APIC State After It Has Been Software Disabled".
#[test]
fn what_is_pending_survives_disabling() {
    let mut apic = enabled();
    apic.write_page(0x350, 0x700, 0);
    apic.request(0x40, false);
    apic.write_page(0xf0, 0xff, 0);
    apic.request(0x50, false);
    assert_eq!(apic.pending(), Some(0x40));
    assert_eq!(apic.read_page(0x350, 0), 0x700 | MASKED);
    assert_eq!(apic.write_page(ICR_LOW, 0xc_0041, 0), edge(Destination::Others, Delivery::Fixed(0x41)));
}

/// "Interrupt Command Register (ICR)".
#[test]
fn commands() {
    let mut apic = enabled();
    apic.write_page(ICR_HIGH, 0x0300_0000, 0);
    assert_eq!(apic.write_page(ICR_LOW, 0x4041, 0), edge(Destination::Physical(3), Delivery::Fixed(0x41)));
    assert_eq!(apic.write_page(ICR_LOW, 0x4841, 0), edge(Destination::Logical(3), Delivery::Fixed(0x41)));
    assert_eq!(
        apic.write_page(ICR_LOW, 0x4941, 0),
        edge(Destination::Logical(3), Delivery::LowestPriority(0x41))
    );
    assert_eq!(apic.write_page(ICR_LOW, 0xc_4500, 0), edge(Destination::Others, Delivery::Init));
    assert_eq!(apic.write_page(ICR_LOW, 0xc_8500, 0), Effect::None, "no de-assertion");
    assert_eq!(apic.write_page(ICR_LOW, 0x4699, 0), edge(Destination::Physical(3), Delivery::StartUp(0x99)));
    assert_eq!(apic.write_page(ICR_LOW, 0x4400, 0), edge(Destination::Physical(3), Delivery::Nmi));
    assert_eq!(apic.write_page(ICR_LOW, 0x8_0050, 0), edge(Destination::All, Delivery::Fixed(0x50)));
    assert_eq!(apic.write_page(ICR_LOW, 0x4300, 0), Effect::None, "a reserved mode");
    assert_eq!((apic.read_page(ICR_LOW, 0), apic.read_page(ICR_HIGH, 0)), (0x4300, 0x0300_0000));
    assert_eq!(apic.write_page(ICR_LOW, 0xffff_ffff, 0), Effect::None);
    assert_eq!(apic.read_page(ICR_LOW, 0), 0xc_cfff, "delivery status and what is reserved read as 0");
    assert_eq!(apic.write_page(ICR_LOW, 0x4_0050, 0), Effect::None);
    assert_eq!(apic.pending(), Some(0x50), "to itself");
    apic.write_page(ICR_HIGH, 0xff00_0000, 0);
    assert_eq!(apic.write_page(ICR_LOW, 0x4841, 0), edge(Destination::All, Delivery::Fixed(0x41)));
}

/// "Error Handling".
#[test]
fn errors() {
    let mut apic = enabled();
    apic.write_page(0x370, 0xfe, 0);
    assert_eq!(apic.write_page(ICR_LOW, 0xc_000f, 0), Effect::None);
    assert_eq!(apic.pending(), Some(0xfe));
    apic.accept(0xfe);
    apic.request(3, false);
    assert_eq!(apic.read_page(0x400, 0), 0);
    assert!(apic.requested.highest().is_none(), "it interrupts once");
    assert_eq!(apic.read_page(0x280, 0), 0, "shown once it is written");
    apic.write_page(0x280, 0, 0);
    assert_eq!(apic.read_page(0x280, 0), SEND_ILLEGAL | RECEIVED_ILLEGAL | ILLEGAL_REGISTER);
    apic.write_page(0x400, 1, 0);
    assert!(apic.requested.contains(0xfe), "armed again");
    apic.write_page(0x280, 0, 0);
    apic.write_page(0x280, 0, 0);
    assert_eq!(apic.read_page(0x280, 0), 0);
}

#[test]
fn the_timer_interrupts() {
    let mut apic = enabled();
    apic.write_page(0x3e0, 0b1011, 0);
    apic.write_page(0x320, 1 << 17 | 0xec, 0);
    apic.write_page(0x380, 1_000, 5);
    assert_eq!((apic.deadline(), apic.read_page(0x390, 105)), (Some(1_005), 900));
    apic.advance(1_004);
    assert_eq!(apic.pending(), None);
    apic.advance(1_005);
    assert_eq!((apic.pending(), apic.deadline()), (Some(0xec), Some(2_005)));
    apic.accept(0xec);
    apic.write_page(0x320, 1 << 17 | 0xec | MASKED, 0);
    apic.advance(2_005);
    assert_eq!((apic.requested, apic.deadline()), (Vectors::NONE, Some(3_005)), "masked it counts on");
    apic.write_page(0x320, 2 << 17 | 0xec, 0);
    assert_eq!(apic.deadline(), None);
    apic.set_tsc_deadline(9_000);
    assert_eq!(apic.tsc_deadline(), 9_000);
    apic.advance(9_000);
    assert!(apic.requested.contains(0xec) && apic.tsc_deadline() == 0);
}

/// "x2APIC State Transitions".
#[test]
fn modes() {
    const OFF: u64 = ADDRESS;
    const XAPIC: u64 = ADDRESS | BASE_ENABLED;
    const X2APIC: u64 = XAPIC | BASE_X2APIC;
    let mut apic = LocalApic::new(0x25, false);
    assert_eq!(apic.read_msr(0x02, 0), Err(Fault), "no MSRs in xAPIC mode");
    assert_eq!(apic.set_base(OFF | BASE_X2APIC), Err(Fault));
    apic.write_page(0xf0, 0x1ff, 0);
    apic.write_page(0xd0, 0x0100_0000, 0);
    apic.request(0x40, false);
    assert_eq!(apic.set_base(X2APIC), Ok(()));
    assert_eq!(apic.pending(), Some(0x40), "what is pending stays");
    assert_eq!((apic.read_msr(0x02, 0), apic.read_msr(0x0d, 0)), (Ok(0x25), Ok(0x2_0020)));
    assert_eq!(apic.address(), Address { id: 0x25, logical: 0x2_0020, format: u32::MAX, is_x2apic: true });
    assert_eq!(apic.set_base(XAPIC), Err(Fault));
    assert_eq!(apic.set_base(X2APIC | 0x1000), Err(Fault), "it stays where it is");
    assert_eq!(apic.set_base(X2APIC | 1), Err(Fault), "reserved");
    assert_eq!(apic.set_base(OFF), Ok(()));
    assert!(!apic.is_on() && apic.passes_external() && apic.pending().is_none());
    assert_eq!(apic.set_base(X2APIC), Err(Fault));
    assert_eq!(apic.set_base(XAPIC), Ok(()));
    assert_eq!((apic.read_page(0xf0, 0), apic.read_page(0xd0, 0)), (0xff, 0), "as after reset");
    apic.init();
    assert_eq!(apic.base(), XAPIC);
}

/// "x2APIC Register Address Space".
#[test]
fn msrs() {
    let mut apic = in_x2apic_mode(1);
    let to = |id: u64, low: u64| id << 32 | low;
    assert_eq!(
        apic.write_msr(0x30, to(0x100, 0x41), 0),
        Ok(edge(Destination::Physical(0x100), Delivery::Fixed(0x41)))
    );
    assert_eq!(apic.read_msr(0x30, 0), Ok(to(0x100, 0x41)));
    assert_eq!(apic.write_msr(0x30, to(0xffff_ffff, 0x4400), 0), Ok(edge(Destination::All, Delivery::Nmi)));
    assert_eq!(apic.write_msr(0x3f, 0x61, 0), Ok(Effect::None));
    assert_eq!(apic.pending(), Some(0x61));
    apic.accept(0x61);
    assert_eq!(apic.write_msr(0x0b, 0, 0), Ok(Effect::EndOfEdge));
    assert_eq!(apic.in_service, Vectors::NONE);
    // Read-only, write-only, absent, reserved bits.
    for number in [0x02, 0x03, 0x0a, 0x0d, 0x0e, 0x10, 0x20, 0x31, 0x39, 0x00, 0x2f, 0x40, 0xff] {
        assert_eq!(apic.write_msr(number, 0, 0), Err(Fault), "{number:#x}");
    }
    for number in [0x0b, 0x0e, 0x31, 0x3f, 0x00, 0x09, 0x2f, 0x40, u32::MAX] {
        assert_eq!(apic.read_msr(number, 0), Err(Fault), "{number:#x}");
    }
    for (number, value) in [
        (0x0b, 1),
        (0x28, 1),
        (0x08, 0x100),
        (0x0f, 0x200),
        (0x3f, 0x100),
        (0x30, 1 << 12),
        (0x32, 1 << 19),
        (0x38, 1 << 32),
        (0x3e, 4),
    ] {
        assert_eq!(apic.write_msr(number, value, 0), Err(Fault), "{number:#x} {value:#x}");
    }
    assert_eq!(apic.errors, 0, "#GP tells of those");
}

/// What must hold whatever a guest has done.
fn check(apic: &LocalApic) -> Result<(), TestCaseError> {
    for vector in 0..FIRST_VECTOR {
        prop_assert!(!apic.requested.contains(vector) && !apic.in_service.contains(vector));
    }
    if let Some(vector) = apic.pending() {
        prop_assert!(apic.requested.contains(vector) && vector >> 4 > apic.processor_priority() >> 4);
    }
    if !apic.is_enabled() {
        prop_assert!(apic.lvt.iter().all(|entry| entry & MASKED != 0));
    }
    for (entry, writable) in apic.lvt.iter().zip(LVT_WRITABLE) {
        prop_assert_eq!(entry & !writable, 0);
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_access_breaks_it(accesses: [(u8, u32, u64, u32); 24]) {
        let (mut apic, mut now) = (LocalApic::new(3, true), 0u64);
        for (what, number, value, wait) in accesses {
            now += u64::from(wait);
            match what % 8 {
                0 => { apic.read_page(number & 0xfff, now); }
                1 => { apic.write_page(number & 0xff0, value as u32, now); }
                2 => { let _ = apic.read_msr(number & 0xff, now); }
                3 => { let _ = apic.write_msr(number & 0x3f, value & 0xffff_ffff, now); }
                4 => { let _ = apic.set_base(ADDRESS | value & 0xd00); }
                5 => apic.request(value as u8, number & 1 != 0),
                6 => { apic.write_page(0xf0, 0x1ff, now); }
                _ => { if let Some(vector) = apic.pending() { apic.accept(vector); } }
            }
            apic.advance(now);
            check(&apic)?;
        }
    }

    /// Vectors come in the order of their classes, and each once.
    #[test]
    fn all_are_delivered_in_order(vectors: Vec<u8>) {
        let mut apic = enabled();
        for &vector in &vectors {
            apic.request(vector, false);
        }
        let mut wanted: Vec<u8> = vectors.into_iter().filter(|&vector| vector >= FIRST_VECTOR).collect();
        wanted.sort_unstable();
        wanted.dedup();
        while let Some(vector) = apic.pending() {
            prop_assert_eq!(Some(vector), wanted.pop());
            apic.accept(vector);
            apic.write_page(0xb0, 0, 0);
        }
        prop_assert!(wanted.is_empty());
    }

    #[test]
    fn sets_of_vectors(members: Vec<u8>) {
        let mut one = Vectors::NONE;
        members.iter().for_each(|&vector| one.insert(vector));
        prop_assert_eq!(one.highest(), members.iter().copied().max());
        for vector in 0..=255 {
            let a = members.contains(&vector);
            prop_assert_eq!(one.contains(vector), a);
            prop_assert_eq!(one.part(u32::from(vector) / 32) >> (vector % 32) & 1 != 0, a);
        }
    }
}
