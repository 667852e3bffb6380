//! An MC146818 real-time clock and its memory (Motorola's MC146818A data sheet): a clock without seconds of its own, which
//! tells the time of day it is given, and 128 bytes.

/// Its interrupt.
pub const IRQ: u8 = 8;

const SECONDS: u8 = 0;
const SECONDS_ALARM: u8 = 1;
const MINUTES: u8 = 2;
const MINUTES_ALARM: u8 = 3;
const HOURS: u8 = 4;
const HOURS_ALARM: u8 = 5;
const WEEKDAY: u8 = 6;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const A: u8 = 10;
const B: u8 = 11;
const C: u8 = 12;
const D: u8 = 13;
const CENTURY: u8 = 0x32;

const A_UPDATING: u8 = 1 << 7;
const B_24_HOURS: u8 = 1 << 1;
const B_BINARY: u8 = 1 << 2;
const B_UPDATE_INTERRUPT: u8 = 1 << 4;
const B_ALARM_INTERRUPT: u8 = 1 << 5;
const B_PERIODIC_INTERRUPT: u8 = 1 << 6;
const B_SET: u8 = 1 << 7;
const C_UPDATE: u8 = 1 << 4;
const C_ALARM: u8 = 1 << 5;
const C_PERIODIC: u8 = 1 << 6;
const C_ANY: u8 = 1 << 7;
const D_VALID: u8 = 1 << 7;
const PM: u8 = 1 << 7;
const NANOSECONDS: u64 = 1_000_000_000;
/// The update's flag goes up so long before the time changes.
const UPDATE_WINDOW: u64 = 244_000;

/// The clock and its memory.
#[derive(Clone, Debug)]
pub struct Cmos {
    index: u8,
    bytes: [u8; 128],
    /// What the guest has set the clock to, less what it would tell: seconds.
    offset: i64,
    /// Flags of register C up to this time, in nanoseconds since 1970.
    seen: u64,
}

impl Cmos {
    /// As a battery has kept it, at this time.
    pub const fn new(now: u64) -> Self {
        let mut bytes = [0; 128];
        bytes[A as usize] = 0x26;
        bytes[B as usize] = B_24_HOURS;
        Self { index: 0, bytes, offset: 0, seen: now }
    }

    /// What firmware finds at this place, beyond the clock's own registers.
    pub const fn put(&mut self, index: u8, value: u8) {
        self.bytes[(index & 0x7f) as usize] = value;
    }

    /// Reads port 70h or 71h. `now`: nanoseconds since 1970.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        if port & 1 == 0 {
            return 0xff;
        }
        match self.index {
            SECONDS | MINUTES | HOURS | WEEKDAY..=YEAR | CENTURY
                if self.bytes[usize::from(B)] & B_SET == 0 =>
            {
                self.encode(self.index, self.time(now).field(self.index))
            }
            A => {
                let is_updating = NANOSECONDS - now % NANOSECONDS <= UPDATE_WINDOW;
                let stopped = self.bytes[usize::from(B)] & B_SET != 0;
                self.bytes[usize::from(A)] & !A_UPDATING
                    | if is_updating && !stopped { A_UPDATING } else { 0 }
            }
            C => {
                self.look(now);
                core::mem::take(&mut self.bytes[usize::from(C)])
            }
            D => D_VALID,
            index => self.bytes[usize::from(index)],
        }
    }

    /// Writes port 70h or 71h.
    pub fn write(&mut self, port: u16, value: u8, now: u64) {
        if port & 1 == 0 {
            // Bit 7 keeps NMIs off, of which there are none.
            self.index = value & 0x7f;
            return;
        }
        let place = usize::from(self.index);
        match self.index {
            C | D => {}
            SECONDS | MINUTES | HOURS | WEEKDAY..=YEAR | CENTURY => {
                let was_stopped = self.bytes[usize::from(B)] & B_SET != 0;
                if !was_stopped {
                    self.fill(now);
                }
                self.bytes[place] = value;
                if !was_stopped {
                    self.take_over(now);
                }
            }
            B => {
                let was_stopped = self.bytes[usize::from(B)] & B_SET != 0;
                let stops = value & B_SET != 0;
                if stops && !was_stopped {
                    self.fill(now);
                }
                // Periods and updates count from where they are enabled.
                self.look(now);
                self.bytes[place] = if stops { value & !B_UPDATE_INTERRUPT } else { value };
                if was_stopped && !stops {
                    self.take_over(now);
                }
            }
            _ => self.bytes[place] = value,
        }
    }

    /// Whether the interrupt line is up.
    pub fn interrupts(&mut self, now: u64) -> bool {
        self.look(now);
        self.bytes[usize::from(C)] & C_ANY != 0
    }

    /// When it interrupts next, where it may.
    pub fn deadline(&self) -> Option<u64> {
        let enabled = self.bytes[usize::from(B)];
        let second = (enabled & (B_UPDATE_INTERRUPT | B_ALARM_INTERRUPT) != 0)
            .then(|| (self.seen / NANOSECONDS + 1) * NANOSECONDS);
        let period = (enabled & B_PERIODIC_INTERRUPT != 0).then(|| self.period()).flatten();
        let tick = period.map(|period| (self.seen / period + 1) * period);
        match (second, tick) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Nanoseconds of a period, by register A's rate.
    fn period(&self) -> Option<u64> {
        let rate = match self.bytes[usize::from(A)] & 0xf {
            0 => return None,
            rate @ (1 | 2) => rate + 7,
            rate => rate,
        };
        Some((NANOSECONDS << (rate - 1)) / 32_768)
    }

    /// Brings register C up to date.
    fn look(&mut self, now: u64) {
        let (before, after) = (self.seen, now.max(self.seen));
        self.seen = after;
        let mut flags = 0;
        if before / NANOSECONDS != after / NANOSECONDS && self.bytes[usize::from(B)] & B_SET == 0 {
            flags |= C_UPDATE;
            // An alarm that came and went while nobody looked is one alarm; a day is all there is to look at.
            let seconds = (after / NANOSECONDS - before / NANOSECONDS).min(86_400);
            if self.bytes[usize::from(B)] & B_ALARM_INTERRUPT != 0
                && (0..seconds).any(|back| self.is_alarm(after - back * NANOSECONDS))
            {
                flags |= C_ALARM;
            }
        }
        if self.period().is_some_and(|period| before / period != after / period) {
            flags |= C_PERIODIC;
        }
        let all = self.bytes[usize::from(C)] & !C_ANY | flags;
        let any = if all & self.bytes[usize::from(B)] & 0x70 != 0 { C_ANY } else { 0 };
        self.bytes[usize::from(C)] = all | any;
    }

    fn is_alarm(&self, now: u64) -> bool {
        let time = self.time(now);
        [(SECONDS_ALARM, SECONDS), (MINUTES_ALARM, MINUTES), (HOURS_ALARM, HOURS)].iter().all(
            |&(alarm, field)| {
                let wanted = self.bytes[usize::from(alarm)];
                wanted >= 0xc0 || wanted == self.encode(field, time.field(field))
            },
        )
    }

    fn time(&self, now: u64) -> Time {
        Time::from_unix((now / NANOSECONDS).saturating_add_signed(self.offset))
    }

    /// The registers show the time, and stay so.
    fn fill(&mut self, now: u64) {
        let time = self.time(now);
        for index in [SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY] {
            self.bytes[usize::from(index)] = self.encode(index, time.field(index));
        }
    }

    /// The time is what the registers show, from now on.
    fn take_over(&mut self, now: u64) {
        let field = |index: u8| self.decode(index, self.bytes[usize::from(index)]);
        let year = u64::from(field(CENTURY)) * 100 + u64::from(field(YEAR));
        let time = Time {
            second: field(SECONDS),
            minute: field(MINUTES),
            hour: field(HOURS),
            day: field(DAY),
            month: field(MONTH),
            year,
            weekday: 0,
        };
        self.offset = time.to_unix() as i64 - (now / NANOSECONDS) as i64;
    }

    fn encode(&self, index: u8, value: u8) -> u8 {
        let mode = self.bytes[usize::from(B)];
        let twelve = index == HOURS && mode & B_24_HOURS == 0;
        let (value, half) =
            if twelve { ((value + 11) % 12 + 1, if value >= 12 { PM } else { 0 }) } else { (value, 0) };
        let value = if mode & B_BINARY != 0 { value } else { value + 6 * (value / 10) };
        value | half
    }

    fn decode(&self, index: u8, value: u8) -> u8 {
        let mode = self.bytes[usize::from(B)];
        let twelve = index == HOURS && mode & B_24_HOURS == 0;
        let (value, half) = if twelve { (value & !PM, value & PM != 0) } else { (value, false) };
        let value = if mode & B_BINARY != 0 {
            value
        } else {
            (value >> 4).saturating_mul(10).saturating_add(value & 0xf)
        };
        if twelve { value % 12 + if half { 12 } else { 0 } } else { value }
    }
}

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time {
    second: u8,
    minute: u8,
    hour: u8,
    day: u8,
    month: u8,
    year: u64,
    weekday: u8,
}

impl Time {
    const fn field(self, index: u8) -> u8 {
        match index {
            SECONDS => self.second,
            MINUTES => self.minute,
            HOURS => self.hour,
            WEEKDAY => self.weekday,
            DAY => self.day,
            MONTH => self.month,
            YEAR => (self.year % 100) as u8,
            _ => (self.year / 100) as u8,
        }
    }

    /// Civil date of a count of seconds since 1970, by years that begin in March.
    fn from_unix(seconds: u64) -> Self {
        let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Self {
            second: (rest % 60) as u8,
            minute: (rest / 60 % 60) as u8,
            hour: (rest / 3_600) as u8,
            day: day as u8,
            month: month as u8,
            year: year_of_era + era * 400 + u64::from(month <= 2),
            // The first of January 1970 was a Thursday, and Sunday is 1.
            weekday: ((seconds / 86_400 + 4) % 7 + 1) as u8,
        }
    }

    /// The same the other way. Fields that no date has count on into the next larger one.
    fn to_unix(self) -> u64 {
        let month = u64::from(self.month.clamp(1, 12));
        let year = self.year.saturating_sub(u64::from(month <= 2));
        let (era, year_of_era) = (year / 400, year % 400);
        let shifted = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted + 2) / 5 + u64::from(self.day.max(1)) - 1;
        let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let time = u64::from(self.hour) * 3_600 + u64::from(self.minute) * 60 + u64::from(self.second);
        (days * 86_400 + time).saturating_sub(719_468 * 86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_792_573_629 * NANOSECONDS; // 2026-10-21 09:07:09

    fn read(cmos: &mut Cmos, index: u8, now: u64) -> u8 {
        cmos.write(0x70, index, now);
        cmos.read(0x71, now)
    }

    fn write(cmos: &mut Cmos, index: u8, value: u8, now: u64) {
        cmos.write(0x70, index, now);
        cmos.write(0x71, value, now);
    }

    #[test]
    fn it_tells_the_time_of_day() {
        let mut cmos = Cmos::new(NOW);
        let all =
            [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY].map(|index| read(&mut cmos, index, NOW));
        assert_eq!(all, [0x09, 0x07, 0x09, 0x21, 0x10, 0x26, 0x20]);
        write(&mut cmos, B, B_BINARY, NOW);
        assert_eq!(read(&mut cmos, HOURS, NOW + 10 * 3_600 * NANOSECONDS), 7 | PM);
    }

    #[test]
    fn it_can_be_set() {
        let mut cmos = Cmos::new(NOW);
        write(&mut cmos, B, B_24_HOURS | B_SET, NOW);
        write(&mut cmos, HOURS, 0x23, NOW);
        write(&mut cmos, MINUTES, 0x59, NOW);
        assert_eq!(read(&mut cmos, HOURS, NOW + 5 * NANOSECONDS), 0x23, "it stands still");
        write(&mut cmos, B, B_24_HOURS, NOW);
        let later = NOW + 60 * NANOSECONDS;
        let all = [HOURS, MINUTES, DAY].map(|index| read(&mut cmos, index, later));
        assert_eq!(all, [0, 0, 0x22]);
    }

    #[test]
    fn it_interrupts_by_the_second_and_by_the_period() {
        let mut cmos = Cmos::new(NOW);
        assert_eq!(cmos.deadline(), None);
        write(&mut cmos, B, B_24_HOURS | B_UPDATE_INTERRUPT, NOW);
        assert_eq!(cmos.deadline(), Some(NOW + NANOSECONDS));
        assert!(!cmos.interrupts(NOW + NANOSECONDS - 1) && cmos.interrupts(NOW + NANOSECONDS));
        assert_eq!(read(&mut cmos, C, NOW + NANOSECONDS) & (C_ANY | C_UPDATE), C_ANY | C_UPDATE);
        assert!(!cmos.interrupts(NOW + NANOSECONDS), "reading ends it");
        write(&mut cmos, B, B_24_HOURS | B_PERIODIC_INTERRUPT, NOW + NANOSECONDS);
        let due = cmos.deadline().unwrap();
        assert!(cmos.interrupts(due));
        let period = cmos.deadline().unwrap() - due;
        assert!((976_000..=977_000).contains(&period), "1,024 Hz");
    }

    #[test]
    fn an_alarm_rings() {
        let mut cmos = Cmos::new(NOW);
        write(&mut cmos, SECONDS_ALARM, 0x30, NOW);
        write(&mut cmos, MINUTES_ALARM, 0xff, NOW);
        write(&mut cmos, HOURS_ALARM, 0xff, NOW);
        write(&mut cmos, B, B_24_HOURS | B_ALARM_INTERRUPT, NOW);
        assert!(!cmos.interrupts(NOW + 20 * NANOSECONDS));
        assert!(cmos.interrupts(NOW + 21 * NANOSECONDS));
    }

    proptest::proptest! {
        #[test]
        fn dates_come_back(seconds in 0u64..20_000_000_000) {
            assert_eq!(Time::from_unix(seconds).to_unix(), seconds);
        }

        #[test]
        fn nothing_breaks_it(accesses: [(bool, u8, u8, u32); 20]) {
            let mut cmos = Cmos::new(NOW);
            let mut now = NOW;
            for (writes, index, value, wait) in accesses {
                now += u64::from(wait);
                if writes { write(&mut cmos, index, value, now) } else { read(&mut cmos, index, now); }
                let _ = (cmos.interrupts(now), cmos.deadline());
            }
        }
    }
}
