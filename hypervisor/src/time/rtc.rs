//! The date and time of day, from the real-time clock that every PC has (MC146818): read once, at boot.
//!
//! The registers change once a second, and while they do (a bit of register A tells) they read as anything. So they are
//! read until two readings outside of an update are the same. How they are to be read is told by register B: as decimal
//! digits or as numbers, by 24 hours or by 12. The century's register is where PCs have it, and counts if it makes sense.
//! The clock is taken to keep UTC. Its second is all that is read of it, so wall clocks are right to a second.

/// Reads a register of the clock; the machine's, or a test's.
pub trait ReadCmos {
    /// The register's byte.
    fn read(&mut self, register: u8) -> u8;
}

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const A: u8 = 10;
const B: u8 = 11;
const CENTURY: u8 = 0x32;

/// Of register A: an update is under way, or about to be.
const UPDATING: u8 = 1 << 7;
/// Of register B: 24 hours a day, not two times 12.
const HOURS_24: u8 = 1 << 1;
/// Of register B: numbers, not decimal digits.
const BINARY: u8 = 1 << 2;
/// Of the hours, where the day has two times 12: the second half.
const AFTERNOON: u8 = 1 << 7;

/// How often to look at a clock before it is taken to be none: an update takes 2 ms at most, a look a microsecond or more.
const PATIENCE: u32 = 100_000;

/// Seconds since 1970 in UTC. `None`: there is no clock that makes sense.
pub fn read(clock: &mut impl ReadCmos) -> Option<u64> {
    let mut last = None;
    for _ in 0..PATIENCE {
        if clock.read(A) & UPDATING != 0 {
            last = None;
            continue;
        }
        let now = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY].map(|register| clock.read(register));
        if last == Some(now) {
            return decode(now, clock.read(B));
        }
        last = Some(now);
    }
    None
}

/// Seconds since 1970 of such a reading.
fn decode([seconds, minutes, hours, day, month, year, century]: [u8; 7], b: u8) -> Option<u64> {
    let number = |byte: u8| {
        if b & BINARY != 0 {
            return Some(byte);
        }
        (byte >> 4 < 10 && byte & 15 < 10).then_some((byte >> 4) * 10 + (byte & 15))
    };
    let (seconds, minutes, day, month, year) =
        (number(seconds)?, number(minutes)?, number(day)?, number(month)?, number(year)?);
    let hours = if b & HOURS_24 != 0 {
        number(hours)?
    } else {
        let half = if hours & AFTERNOON != 0 { 12 } else { 0 };
        let twelfth = number(hours & !AFTERNOON)?;
        if !(1..=12).contains(&twelfth) {
            return None;
        }
        twelfth % 12 + half
    };
    if seconds > 59 || minutes > 59 || hours > 23 || year > 99 {
        return None;
    }
    let century = number(century).filter(|century| (19..=21).contains(century)).unwrap_or(20);
    let days = days_since_1970(u32::from(century) * 100 + u32::from(year), month, day)?;
    Some(((days * 24 + u64::from(hours)) * 60 + u64::from(minutes)) * 60 + u64::from(seconds))
}

/// Days from the first of January 1970 to that date of the Gregorian calendar.
fn days_since_1970(year: u32, month: u8, day: u8) -> Option<u64> {
    let is_leap = |year: u32| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::from(month).checked_sub(1)?)?;
    if year < 1970 || day == 0 || day > length {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: u64 = lengths[..usize::from(month) - 1].iter().map(|&days| u64::from(days)).sum();
    Some(years + months + u64::from(day) - 1)
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct Cmos;

impl ReadCmos for Cmos {
    fn read(&mut self, register: u8) -> u8 {
        // SAFETY: the clock's index and data ports; reading these registers changes nothing, and the index's upper bit,
        // which would hold NMIs off, stays 0. Core 0 alone does it, at boot.
        unsafe {
            x86::io::outb(0x70, register);
            x86::io::inb(0x71)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BCD_24: u8 = HOURS_24;

    #[test]
    fn dates() {
        assert_eq!(decode([0x59, 0x59, 0x23, 0x31, 0x12, 0x99, 0x19], BCD_24), Some(946_684_799));
        assert_eq!(decode([0, 0, 0, 1, 1, 0x70, 0x19], BCD_24), Some(0));
        assert_eq!(decode([0x30, 0x20, 0x10, 0x29, 2, 0x24, 0x20], BCD_24), Some(1_709_202_030));
        assert_eq!(decode([30, 20, 10, 29, 2, 24, 20], BCD_24 | BINARY), Some(1_709_202_030));
        assert_eq!(decode([0x30, 0x20, 0x10, 0x29, 2, 0x23, 0x20], BCD_24), None, "2023 has no such day");
        assert_eq!(
            decode([0x30, 0x20, 0x10, 0x29, 2, 0x24, 0xff], BCD_24),
            Some(1_709_202_030),
            "no century"
        );
        assert_eq!(decode([0xff; 7], BCD_24), None, "no clock at all");
    }

    #[test]
    fn twelve_hours_twice() {
        let at = |hours| decode([0, 0, hours, 1, 1, 0x70, 0x19], 0).map(|seconds| seconds / 3600);
        assert_eq!((at(0x12), at(0x01), at(0x11)), (Some(0), Some(1), Some(11)));
        assert_eq!((at(0x92), at(0x81), at(0x91)), (Some(12), Some(13), Some(23)));
        assert_eq!((at(0), at(0x13), at(0x93)), (None, None, None));
    }

    /// A clock in whose updates the registers read as anything, and which ticks on while it is read.
    struct Ticking {
        looks: u32,
        /// The looks after which the second changes.
        change: u32,
    }

    impl ReadCmos for Ticking {
        fn read(&mut self, register: u8) -> u8 {
            self.looks += 1;
            let updating = (self.change..self.change + 20).contains(&self.looks);
            match register {
                A if self.looks + 2 >= self.change && self.looks < self.change + 20 => UPDATING,
                B => BCD_24,
                _ if updating => 0x55,
                SECONDS if self.looks < self.change => 0x59,
                SECONDS => 0,
                MINUTES if self.looks < self.change => 0x59,
                MINUTES => 0,
                HOURS => {
                    if self.looks < self.change {
                        0x10
                    } else {
                        0x11
                    }
                }
                DAY | MONTH => 1,
                YEAR => 0,
                CENTURY => 0x20,
                _ => 0,
            }
        }
    }

    #[test]
    fn an_update_is_not_read() {
        const ELEVEN: u64 = 946_684_800 + 11 * 3600;
        for change in 1..60 {
            let found = read(&mut Ticking { looks: 0, change });
            assert!(found == Some(ELEVEN) || found == Some(ELEVEN - 1), "{change}: {found:?}");
        }
    }

    #[test]
    fn a_clock_that_only_updates_is_none() {
        struct Updating;
        impl ReadCmos for Updating {
            fn read(&mut self, _: u8) -> u8 {
                0xff
            }
        }
        assert_eq!(read(&mut Updating), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(bytes: [u8; 7], b: u8) {
            let _ = decode(bytes, b);
        }

        #[test]
        fn a_day_later_is_a_day_later(year in 1970u32..2199, month in 1u8..=12, day in 1u8..=27) {
            prop_assert_eq!(days_since_1970(year, month, day).unwrap() + 1, days_since_1970(year, month, day + 1).unwrap());
        }

        #[test]
        fn years_follow_each_other(year in 1970u32..2199) {
            prop_assert_eq!(days_since_1970(year, 12, 31).unwrap() + 1, days_since_1970(year + 1, 1, 1).unwrap());
        }
    }
}
