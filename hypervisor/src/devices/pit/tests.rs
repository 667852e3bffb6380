use super::*;
use proptest::prelude::*;

/// Port and control word bits of counter 2.
const TWO: u8 = 2 << 6;

fn load(pit: &mut Pit, counter: u8, mode: u8, count: u16, now: u64) {
    pit.write(0x43, counter << 6 | 0x30 | mode << 1, now);
    pit.write(0x40 + u16::from(counter), count as u8, now);
    pit.write(0x40 + u16::from(counter), (count >> 8) as u8, now);
}

fn count(pit: &mut Pit, counter: u8, now: u64) -> u16 {
    pit.write(0x43, counter << 6, now);
    let port = 0x40 + u16::from(counter);
    u16::from(pit.read(port, now)) | u16::from(pit.read(port, now)) << 8
}

fn status(pit: &mut Pit, counter: u8, now: u64) -> u8 {
    pit.write(0x43, 0xe0 | 2 << counter, now);
    pit.read(0x40 + u16::from(counter), now)
}

/// Counter 2's output, with its gate's state kept.
fn heard(pit: &mut Pit, now: u64) -> bool {
    pit.read(0x61, now) & 1 << 5 != 0
}

fn gate(pit: &mut Pit, up: bool, now: u64) {
    pit.write(0x61, u8::from(up), now);
}

/// Ticks of this range at which the output is high.
fn wave(pit: &Pit, range: core::ops::Range<u64>) -> std::string::String {
    range.map(|now| if pit.output(now) { '-' } else { '_' }).collect()
}

#[test]
fn mode_0() {
    let mut pit = Pit::new();
    pit.write(0x43, 0x30, 0);
    assert!(!pit.output(0), "the control word takes the output down");
    load(&mut pit, 0, 0, 4, 10);
    assert_eq!(wave(&pit, 10..18), "_____---", "N + 1 ticks after the write");
    assert_eq!((pit.deadline(), count(&mut pit, 0, 12)), (Some(15), 3));
    assert!(!pit.expire(14) && pit.expire(15) && !pit.expire(200));
    assert_eq!((count(&mut pit, 0, 16), pit.deadline()), (0xffff, None), "it counts on");
    pit.write(0x40, 2, 300);
    assert!(!pit.output(300), "the first byte disables it");
    assert_eq!(pit.deadline(), None);
    pit.write(0x40, 0, 310);
    assert_eq!(pit.deadline(), Some(313));
}

#[test]
fn mode_0_gated() {
    let mut pit = Pit::new();
    load(&mut pit, 2, 0, 4, 0);
    assert_eq!((count(&mut pit, 2, 50), heard(&mut pit, 50)), (4, false));
    gate(&mut pit, true, 50);
    assert_eq!(count(&mut pit, 2, 52), 2);
    gate(&mut pit, false, 52);
    assert_eq!(count(&mut pit, 2, 99), 2);
    gate(&mut pit, true, 99);
    assert!(!heard(&mut pit, 100) && heard(&mut pit, 101));
    gate(&mut pit, false, 150);
    assert!(heard(&mut pit, 200), "the gate does not touch the output");
}

#[test]
fn mode_1() {
    let mut pit = Pit::new();
    load(&mut pit, 2, 1, 3, 0);
    assert!(heard(&mut pit, 9));
    gate(&mut pit, true, 10);
    let at: std::vec::Vec<bool> = (10..16).map(|now| heard(&mut pit, now)).collect();
    assert_eq!(at, [true, false, false, false, true, true]);
    gate(&mut pit, false, 16);
    gate(&mut pit, true, 20);
    gate(&mut pit, false, 21);
    gate(&mut pit, true, 22);
    assert!(!heard(&mut pit, 25) && heard(&mut pit, 26), "triggered again it lasts longer");
    load(&mut pit, 2, 1, 3, 30);
    pit.write(0x42, 9, 40);
    assert!(heard(&mut pit, 50), "no trigger since the mode was set");
}

#[test]
fn mode_2() {
    let mut pit = Pit::new();
    load(&mut pit, 0, 2, 3, 0);
    assert_eq!(wave(&pit, 0..11), "---_--_--_-");
    let counts: std::vec::Vec<u16> = (1..8).map(|now| count(&mut pit, 0, now)).collect();
    assert_eq!(counts, [3, 2, 1, 3, 2, 1, 3]);
    assert!(pit.expire(7));
    assert_eq!(pit.deadline(), Some(10));
    let mut pit = Pit::new();
    load(&mut pit, 0, 2, 3, 0);
    assert!(!pit.expire(3) && pit.expire(4));
    assert_eq!(pit.deadline(), Some(7));
    assert!(pit.expire(100), "many are one");
    assert!(!pit.expire(100));
    assert_eq!(pit.deadline(), Some(103));
    // A new count is taken at the end of the period.
    let mut pit = Pit::new();
    load(&mut pit, 0, 2, 3, 0);
    pit.write(0x40, 5, 5);
    pit.write(0x40, 0, 5);
    assert_eq!(status(&mut pit, 0, 6) >> 6 & 1, 1, "not loaded yet");
    assert_eq!(wave(&pit, 4..17), "--_----_----_");
    assert_eq!((pit.expire(7), status(&mut pit, 0, 7) >> 6 & 1, pit.deadline()), (true, 0, Some(12)));
}

#[test]
fn mode_2_gated() {
    let mut pit = Pit::new();
    load(&mut pit, 2, 2, 3, 0);
    assert!(heard(&mut pit, 3));
    gate(&mut pit, true, 10);
    assert!(heard(&mut pit, 12) && !heard(&mut pit, 13));
    gate(&mut pit, false, 13);
    assert!(heard(&mut pit, 13), "at once");
    gate(&mut pit, true, 20);
    assert!(heard(&mut pit, 22) && !heard(&mut pit, 23), "it begins anew");
}

#[test]
fn mode_3() {
    let mut pit = Pit::new();
    load(&mut pit, 0, 3, 4, 0);
    assert_eq!(wave(&pit, 1..10), "--__--__-");
    let counts: std::vec::Vec<u16> = (1..6).map(|now| count(&mut pit, 0, now)).collect();
    assert_eq!(counts, [4, 2, 4, 2, 4]);
    load(&mut pit, 0, 3, 5, 100);
    assert_eq!(wave(&pit, 101..112), "---__---__-");
    let counts: std::vec::Vec<u16> = (101..107).map(|now| count(&mut pit, 0, now)).collect();
    assert_eq!(counts, [4, 2, 0, 4, 2, 4]);
    // A new count is taken at the end of the half.
    load(&mut pit, 0, 3, 4, 200);
    pit.write(0x40, 8, 201);
    pit.write(0x40, 0, 201);
    assert_eq!(wave(&pit, 201..218), "--____----____---");
    assert!(pit.expire(201), "of what was before");
    assert_eq!(pit.deadline(), Some(207));
    load(&mut pit, 0, 3, 4, 300);
    pit.write(0x40, 8, 303);
    pit.write(0x40, 0, 303);
    assert_eq!(wave(&pit, 301..315), "--__----____--");
}

#[test]
fn mode_4() {
    let mut pit = Pit::new();
    load(&mut pit, 0, 4, 3, 0);
    assert_eq!(wave(&pit, 0..8), "----_---");
    assert_eq!(pit.deadline(), Some(5));
    assert!(!pit.expire(4) && pit.expire(5));
    assert_eq!((count(&mut pit, 0, 5), pit.deadline()), (0xffff, None));
    pit.write(0x40, 2, 10);
    pit.write(0x40, 0, 10);
    assert_eq!(pit.deadline(), Some(14), "a new count starts it again");
}

#[test]
fn mode_5() {
    let mut pit = Pit::new();
    load(&mut pit, 2, 5, 3, 0);
    assert!(heard(&mut pit, 4));
    gate(&mut pit, true, 10);
    let at: std::vec::Vec<bool> = (12..17).map(|now| heard(&mut pit, now)).collect();
    assert_eq!(at, [true, true, false, true, true]);
}

#[test]
fn counts_are_latched_and_read_back() {
    let mut pit = Pit::new();
    load(&mut pit, 2, 2, 0x1234, 0);
    gate(&mut pit, true, 0);
    pit.write(0x43, TWO, 1 + 0x34);
    pit.write(0x43, TWO, 500);
    assert_eq!((pit.read(0x42, 600), pit.read(0x42, 700)), (0x00, 0x12), "the first latch counts");
    // Status and count at once: the status comes first.
    pit.write(0x43, 0xc8, 1 + 0x34);
    assert_eq!([0; 3].map(|_| pit.read(0x42, 900)), [0xb4, 0x00, 0x12]);
    pit.write(0x43, TWO | 0x10 | 2 << 1, 1_000);
    assert_eq!(status(&mut pit, 2, 1_000), 0xd4, "no count yet, low bytes only");
    pit.write(0x42, 7, 1_000);
    assert_eq!((pit.read(0x42, 1_001), pit.read(0x42, 1_002)), (7, 6));
    pit.write(0x43, TWO | 0x20 | 2 << 1, 1_010);
    pit.write(0x42, 7, 1_010);
    assert_eq!((pit.read(0x42, 1_011), pit.read(0x42, 1_012)), (7, 6), "high bytes only");
    assert_eq!(pit.read(0x43, 0), 0xff);
}

#[test]
fn counts_may_be_decimal() {
    let mut pit = Pit::new();
    pit.write(0x43, 0x35, 0);
    pit.write(0x40, 0x00, 0);
    pit.write(0x40, 0x10, 0);
    assert_eq!((pit.deadline(), count(&mut pit, 0, 2)), (Some(1_001), 0x999));
    pit.write(0x43, 0x35, 0);
    pit.write(0x40, 0, 0);
    pit.write(0x40, 0, 0);
    assert_eq!(
        (pit.counters[0].next_rise(0), count(&mut pit, 0, 1), count(&mut pit, 0, 2)),
        (Some(10_001), 0, 0x9999)
    );
}

#[test]
fn a_write_may_raise_the_output() {
    let mut pit = Pit::new();
    load(&mut pit, 0, 0, 100, 0);
    assert!(!pit.output(5) && !pit.expire(5));
    pit.write(0x43, 0x34, 6);
    assert_eq!((pit.output(6), pit.deadline()), (true, Some(6)));
    assert!(pit.expire(6) && !pit.expire(6));
}

#[test]
fn what_was_due_is_not_lost_by_a_write() {
    let mut pit = Pit::new();
    load(&mut pit, 0, 0, 10, 0);
    pit.write(0x43, 0x30, 50);
    assert!(pit.expire(50));
}

#[test]
fn port_61() {
    let mut pit = Pit::new();
    pit.write(0x61, 0xff, 0);
    assert_eq!(pit.read(0x61, 0), 0x2f);
    assert_eq!((pit.read(0x61, 18) & 0x10, pit.read(0x61, 36) & 0x10), (0x10, 0));
}

proptest! {
    /// The next rise is where the output, looked at every tick, does rise.
    #[test]
    fn deadlines_are_right(mode in 0u8..6, decimal: bool, first in 1u16..40, second in 1u16..40, again in 0u64..60) {
        let mut pit = Pit::new();
        pit.write(0x43, 0x10 | mode << 1 | u8::from(decimal), 0);
        let digits = |value: u16| if decimal { (value / 10 * 16 + value % 10) as u8 } else { value as u8 };
        pit.write(0x40, digits(first), 0);
        pit.write(0x40, digits(second), again);
        pit.expire(again);
        for now in again..again + 200 {
            let rises = (now + 1..now + 200).find(|&tick| pit.output(tick) && !pit.output(tick - 1));
            let said = pit.counters[0].next_rise(now).filter(|&rise| rise < now + 200);
            prop_assert_eq!(said, rises, "at {}", now);
        }
    }

    #[test]
    fn nothing_breaks_it(accesses: [(bool, u16, u8, u32); 24], start: u64) {
        let (mut pit, mut now) = (Pit::new(), start);
        for (writes, port, value, wait) in accesses {
            now = now.saturating_add(u64::from(wait));
            let port = if port % 5 == 4 { 0x61 } else { 0x40 + port % 5 };
            if writes { pit.write(port, value, now) } else { pit.read(port, now); }
            pit.expire(now);
            prop_assert!(pit.deadline().is_none_or(|due| due > now || now >= 1 << 62));
        }
    }
}
