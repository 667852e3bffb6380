use super::*;
use proptest::prelude::*;

/// 2026-10-21 07:07:09, a Wednesday.
const NOW: u64 = 1_792_566_429 * SECOND;
const DAY_NS: u64 = 86_400 * SECOND;

fn read(cmos: &mut Cmos, index: u8, now: u64) -> u8 {
    cmos.write(0x70, index, now);
    cmos.read(0x71, now)
}

fn write(cmos: &mut Cmos, index: u8, value: u8, now: u64) {
    cmos.write(0x70, index, now);
    cmos.write(0x71, value, now);
}

fn at(cmos: &mut Cmos, indices: &[u8], now: u64) -> std::vec::Vec<u8> {
    indices.iter().map(|&index| read(cmos, index, now)).collect()
}

#[test]
fn it_tells_the_time_of_day() {
    let mut cmos = Cmos::new(NOW);
    let all = [SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY];
    assert_eq!(at(&mut cmos, &all, NOW), [0x09, 0x07, 0x07, 4, 0x21, 0x10, 0x26, 0x20]);
    write(&mut cmos, B, B_BINARY, NOW);
    assert_eq!(at(&mut cmos, &[SECONDS, HOURS, YEAR], NOW + 10 * 3_600 * SECOND), [9, 5 | PM, 26]);
    assert_eq!(at(&mut cmos, &[HOURS], NOW + 5 * 3_600 * SECOND), [12 | PM], "noon");
    assert_eq!(at(&mut cmos, &[HOURS], NOW + 17 * 3_600 * SECOND), [12], "midnight");
    assert_eq!((read(&mut cmos, D, NOW), cmos.read(0x70, NOW)), (0x80, 0xff));
}

#[test]
fn it_can_be_set() {
    let mut cmos = Cmos::new(NOW);
    write(&mut cmos, B, B_24_HOURS | B_SET | B_UPDATE_INTERRUPT, NOW);
    assert_eq!(read(&mut cmos, B, NOW), B_24_HOURS | B_SET);
    for (index, value) in [(HOURS, 0x23), (MINUTES, 0x59), (WEEKDAY, 7)] {
        write(&mut cmos, index, value, NOW);
    }
    assert_eq!(at(&mut cmos, &[HOURS, SECONDS], NOW + 5 * SECOND), [0x23, 0x09], "it stands still");
    assert_eq!(read(&mut cmos, A, NOW + SECOND - 1), 0x26, "without updates");
    write(&mut cmos, B, B_24_HOURS, NOW);
    assert_eq!(at(&mut cmos, &[HOURS, MINUTES, SECONDS, DAY, WEEKDAY], NOW), [0x23, 0x59, 0x09, 0x21, 7]);
    assert_eq!(
        at(&mut cmos, &[HOURS, MINUTES, SECONDS, DAY, WEEKDAY], NOW + 60 * SECOND),
        [0, 0, 0x09, 0x22, 1]
    );
    // The divider in reset is the same.
    write(&mut cmos, A, 0x66, NOW);
    assert_eq!(at(&mut cmos, &[SECONDS, A], NOW + 9 * SECOND), [0x09, 0x66]);
    write(&mut cmos, A, 0x26, NOW + 9 * SECOND);
    assert_eq!(at(&mut cmos, &[SECONDS, HOURS], NOW + 10 * SECOND), [0x10, 0x23]);
    // Also without standing still.
    write(&mut cmos, YEAR, 0x28, NOW);
    write(&mut cmos, DAY, 0x29, NOW);
    write(&mut cmos, MONTH, 0x02, NOW);
    assert_eq!(at(&mut cmos, &[DAY, MONTH, YEAR], NOW), [0x29, 0x02, 0x28]);
    assert_eq!(at(&mut cmos, &[DAY, MONTH], NOW + DAY_NS), [0x01, 0x03]);
}

#[test]
fn the_mode_changes_how_and_not_what() {
    let mut cmos = Cmos::new(NOW);
    for mode in [0, B_BINARY, B_24_HOURS, B_BINARY | B_24_HOURS] {
        write(&mut cmos, B, mode, NOW);
        assert_eq!(cmos.offset, 0);
    }
    assert_eq!(at(&mut cmos, &[SECONDS, YEAR], NOW), [9, 26]);
}

/// "Update Cycle".
#[test]
fn updates_are_announced() {
    let mut cmos = Cmos::new(NOW);
    for (before, updating) in [(UPDATE + 1, false), (UPDATE, true), (1, true), (SECOND, false)] {
        assert_eq!(read(&mut cmos, A, NOW + SECOND - before) & A_UPDATING != 0, updating, "{before}");
    }
    write(&mut cmos, A, 0xff, NOW);
    assert_eq!(read(&mut cmos, A, NOW), 0x7f, "read-only");
}

#[test]
fn it_interrupts_by_the_second_and_by_the_period() {
    let mut cmos = Cmos::new(NOW);
    assert_eq!(cmos.deadline(), None);
    write(&mut cmos, B, B_24_HOURS | B_UPDATE_INTERRUPT, NOW);
    assert_eq!(cmos.deadline(), Some(NOW + SECOND));
    assert!(!cmos.interrupts(NOW + SECOND - 1) && cmos.interrupts(NOW + SECOND));
    assert_eq!(cmos.deadline(), None, "it is up already");
    assert_eq!(read(&mut cmos, C, NOW + SECOND), C_ANY | C_UPDATE | C_PERIODIC);
    assert!(!cmos.interrupts(NOW + SECOND), "reading ends it");
    write(&mut cmos, B, B_24_HOURS | B_PERIODIC_INTERRUPT, NOW + SECOND);
    let due = cmos.deadline().unwrap();
    assert_eq!(due - NOW - SECOND, 976_563, "1,024 Hz");
    assert!(!cmos.interrupts(due - 1) && cmos.interrupts(due));
    assert_eq!(read(&mut cmos, C, due), C_ANY | C_PERIODIC);
}

/// Table "Periodic Interrupt Rate", for the crystal that PCs have.
#[test]
fn rates() {
    let ns = |rate: u8| {
        let mut cmos = Cmos::new(NOW);
        write(&mut cmos, A, 0x20 | rate, NOW);
        write(&mut cmos, B, B_PERIODIC_INTERRUPT, NOW);
        cmos.deadline().map(|due| due - NOW)
    };
    assert_eq!((ns(0), ns(1), ns(2)), (None, Some(3_906_250), Some(7_812_500)));
    assert_eq!((ns(3), ns(6), ns(15)), (Some(122_071), Some(976_563), Some(500_000_000)));
}

#[test]
fn flags_are_there_before_they_are_enabled() {
    let mut cmos = Cmos::new(NOW);
    assert!(!cmos.interrupts(NOW + SECOND));
    write(&mut cmos, B, B_24_HOURS | B_UPDATE_INTERRUPT, NOW + SECOND);
    assert!(cmos.interrupts(NOW + SECOND));
}

fn set_alarm(cmos: &mut Cmos, hours: u8, minutes: u8, seconds: u8) {
    for (index, value) in [(SECONDS_ALARM, seconds), (MINUTES_ALARM, minutes), (HOURS_ALARM, hours)] {
        write(cmos, index, value, NOW);
    }
    write(cmos, B, B_24_HOURS | B_ALARM_INTERRUPT, NOW);
}

#[test]
fn an_alarm_rings() {
    for (hours, minutes, seconds, after) in [
        (0xff, 0xff, 0x30, Some(21)),
        (0xff, 0xff, 0x09, Some(60)),
        (0xff, 0xff, 0xff, Some(1)),
        (0x07, 0x07, 0x10, Some(1)),
        (0x07, 0x07, 0x09, Some(86_400)),
        (0x08, 0x00, 0x00, Some(52 * 60 + 51)),
        (0xff, 0x06, 0xff, Some(58 * 60 + 51)),
        (0x06, 0xc0, 0x00, Some(82_371)),
        (0x24, 0xff, 0xff, None),
        (0xff, 0x5a, 0xff, None),
    ] {
        let mut cmos = Cmos::new(NOW);
        set_alarm(&mut cmos, hours, minutes, seconds);
        let due = after.map(|seconds| NOW + seconds * SECOND);
        assert_eq!(cmos.deadline(), due, "{hours:x}:{minutes:x}:{seconds:x}");
        if let Some(due) = due {
            assert!(!cmos.interrupts(due - 1) && cmos.interrupts(due));
        }
    }
}

#[test]
fn memory_is_told_of() {
    let mut cmos = Cmos::new(NOW);
    cmos.put_memory(256 << 20, 0);
    assert_eq!(
        at(&mut cmos, &[0x15, 0x16, 0x17, 0x18, 0x30, 0x31, 0x34, 0x35], NOW),
        [0x80, 2, 0xff, 0xff, 0xff, 0xff, 0, 0x0f]
    );
    cmos.put_memory(3 << 30, 0x12_3456_0000);
    assert_eq!(at(&mut cmos, &[0x34, 0x35, 0x5b, 0x5c, 0x5d], NOW), [0, 0xbf, 0x56, 0x34, 0x12]);
    write(&mut cmos, 0x40, 0x5a, NOW);
    assert_eq!(at(&mut cmos, &[0x40, 0xc0], NOW), [0x5a, 0x5a], "bit 7 is NMI's");
}

proptest! {
    #[test]
    fn dates_come_back(seconds in 0u64..200_000_000_000) {
        prop_assert_eq!(Date::from_unix(seconds).to_unix(), seconds);
    }

    /// The alarm's deadline is the first second of which the registers say what the alarm bytes say.
    #[test]
    fn alarms_are_on_time(mode in 0u8..4, bytes: [u8; 3], wild: [bool; 3], start in 0u64..86_400) {
        let start = NOW + start * SECOND;
        let mut cmos = Cmos::new(start);
        let mode = mode << 1 | B_ALARM_INTERRUPT;
        write(&mut cmos, B, mode, start);
        let alarms = [(SECONDS_ALARM, SECONDS, 60), (MINUTES_ALARM, MINUTES, 60), (HOURS_ALARM, HOURS, 24)];
        for (place, (alarm, field, below)) in alarms.into_iter().enumerate() {
            let byte = if wild[place] { 0xff } else { cmos.encode(field, bytes[place] % below) };
            write(&mut cmos, alarm, byte, start);
        }
        let matches = |cmos: &Cmos, now: u64| alarms.iter().all(|&(alarm, field, _)| {
            let byte = cmos.register(alarm);
            byte >= ANY_VALUE || byte == cmos.encode(field, cmos.field(cmos.date(now), field))
        });
        let first = (1..=86_400).map(|second| start + second * SECOND).find(|&now| matches(&cmos, now));
        prop_assert_eq!(cmos.deadline(), first);
    }

    #[test]
    fn nothing_breaks_it(accesses: [(bool, u8, u8, u32); 24], start: u64) {
        let (mut cmos, mut now) = (Cmos::new(start), start);
        for (writes, index, value, wait) in accesses {
            now = now.saturating_add(u64::from(wait));
            let index = if index & 0x80 != 0 { index & 0xf } else { index };
            if writes { write(&mut cmos, index, value, now) } else { read(&mut cmos, index, now); }
            let up = cmos.interrupts(now);
            prop_assert!(!up || cmos.deadline().is_none());
        }
    }
}
