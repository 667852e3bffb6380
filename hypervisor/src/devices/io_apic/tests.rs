use super::*;
use proptest::prelude::*;

fn set_entry(apic: &mut IoApic, pin: u32, entry: u64) -> Messages {
    apic.write(SELECT, 0x11 + 2 * pin);
    let mut sent = apic.write(WINDOW, (entry >> 32) as u32);
    apic.write(SELECT, 0x10 + 2 * pin);
    sent.extend(apic.write(WINDOW, entry as u32));
    sent
}

fn entry(apic: &mut IoApic, pin: u32) -> u64 {
    let mut half = |number| {
        apic.write(SELECT, number);
        u64::from(apic.read(WINDOW))
    };
    half(0x11 + 2 * pin) << 32 | half(0x10 + 2 * pin)
}

fn fixed(vector: u8, to: u32, is_level: bool) -> Message {
    Message { to: Destination::Physical(to), delivery: Delivery::Fixed(vector), is_level }
}

#[test]
fn registers() {
    let mut apic = IoApic::new(0xf);
    let mut register = |number| {
        apic.write(SELECT, number);
        (apic.read(SELECT), apic.read(WINDOW))
    };
    assert_eq!(
        (register(0), register(1), register(2)),
        ((0, 0x0f00_0000), (1, 0x0017_0020), (2, 0x0f00_0000))
    );
    assert_eq!(
        (register(0x10), register(0x3e), register(0x40), register(3)),
        ((0x10, 0x1_0000), (0x3e, 0x1_0000), (0x40, 0), (3, 0))
    );
    set_entry(&mut apic, 23, u64::MAX);
    assert_eq!(entry(&mut apic, 23), WRITABLE);
    apic.write(SELECT, 0);
    apic.write(WINDOW, u32::MAX);
    assert_eq!((apic.read(WINDOW), apic.read(0x20), apic.read(EOI)), (0x0f00_0000, 0, 0));
}

#[test]
fn edges() {
    let mut apic = IoApic::new(0);
    assert_eq!(apic.set(4, true), None, "masked");
    assert!(set_entry(&mut apic, 4, 2 << 56 | 0x31).is_empty(), "and lost");
    assert_eq!(apic.set(4, true), None, "no edge");
    assert_eq!(apic.set(4, false), None);
    assert_eq!(apic.set(4, true), Some(fixed(0x31, 2, false)));
    assert!(apic.end(0x31).is_empty() && entry(&mut apic, 4) & REMOTE_IRR == 0);
    set_entry(&mut apic, 4, ACTIVE_LOW | 0x31);
    assert_eq!(apic.set(4, false), Some(fixed(0x31, 0, false)), "the other way round");
    assert_eq!(apic.set(24, true), None, "no such input");
}

#[test]
fn levels() {
    let mut apic = IoApic::new(0);
    set_entry(&mut apic, 9, LEVEL | 0x50);
    assert_eq!(apic.set(9, true), Some(fixed(0x50, 0, true)));
    assert_ne!(entry(&mut apic, 9) & REMOTE_IRR, 0);
    assert!(set_entry(&mut apic, 9, LEVEL | 0x50).is_empty(), "its end is awaited");
    assert!(apic.end(0x51).is_empty());
    assert_eq!(apic.end(0x50).as_slice(), [fixed(0x50, 0, true)], "still up");
    apic.set(9, false);
    assert!(apic.write(EOI, 0x50).is_empty());
    assert_eq!(entry(&mut apic, 9) & REMOTE_IRR, 0);
    set_entry(&mut apic, 9, LEVEL | MASKED | 0x50);
    apic.set(9, true);
    assert_eq!(set_entry(&mut apic, 9, LEVEL | 0x50).as_slice(), [fixed(0x50, 0, true)], "unmasked");
    set_entry(&mut apic, 9, MASKED | 0x50);
    assert_eq!(entry(&mut apic, 9) & REMOTE_IRR, 0, "made an edge for a moment");
}

#[test]
fn an_end_is_for_all_with_the_vector() {
    let mut apic = IoApic::new(0);
    for pin in 0..PINS {
        set_entry(&mut apic, pin as u32, LEVEL | 0x60);
        apic.set(pin, true);
    }
    assert_eq!(apic.end(0x60).len(), PINS);
}

#[test]
fn other_deliveries() {
    let mut apic = IoApic::new(0);
    let mut sent = |mode: u64, level| {
        set_entry(&mut apic, 1, level | mode << 8 | 0x44);
        apic.set(1, false);
        apic.set(1, true).map(|message| message.delivery)
    };
    let modes = [0, 1, 2, 3, 4, 5, 6, 7].map(|mode| sent(mode, 0));
    use Delivery::{External, Fixed, Init, LowestPriority, Nmi, Smi};
    assert_eq!(
        modes,
        [
            Some(Fixed(0x44)),
            Some(LowestPriority(0x44)),
            Some(Smi),
            None,
            Some(Nmi),
            Some(Init),
            None,
            Some(External)
        ]
    );
    assert_eq!(sent(4, LEVEL), None);
}

proptest! {
    #[test]
    fn nothing_breaks_it(steps: [(u8, u32, u32); 60]) {
        let mut apic = IoApic::new(1);
        for (what, place, value) in steps {
            let sent = match what % 5 {
                0 => { apic.write(SELECT, place % 0x44); Messages::new() }
                1 => apic.write(WINDOW, value),
                2 => apic.write(place, value),
                3 => apic.set(place as usize % 26, value & 1 != 0).into_iter().collect(),
                _ => apic.end(value as u8),
            };
            apic.read(place);
            for (pin, entry) in apic.entries.iter().enumerate() {
                prop_assert_eq!(entry & !(WRITABLE | REMOTE_IRR), 0);
                prop_assert!(entry & REMOTE_IRR == 0 || entry & LEVEL != 0);
                // No level that could interrupt is forgotten.
                let waits = entry & (LEVEL | MASKED | REMOTE_IRR) == LEVEL && apic.is_active(pin);
                prop_assert!(!waits || message(*entry).is_none_or(|message| !message.is_level));
            }
            for message in sent {
                prop_assert!(!matches!(message.delivery, Delivery::StartUp(_)));
            }
        }
    }
}
