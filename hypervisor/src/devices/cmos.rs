//! An MC146818 real-time clock and its memory (Motorola's MC146818A data sheet): a clock without seconds of its own, which
//! tells the time of day it is given, and 128 bytes.
//!
//! Time is passed in as nanoseconds since 1970.

mod date;

#[cfg(test)]
mod tests;

use date::Date;

/// Its interrupt.
pub const IRQ: u8 = 8;
/// Its ports: which register, and that register.
pub const INDEX: u16 = 0x70;
/// See [`INDEX`].
pub const DATA: u16 = 0x71;

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
/// Where PCs have it; the chip itself knows of none.
const CENTURY: u8 = 0x32;

/// Where firmware finds how many processors there are beyond the first.
pub const MORE_PROCESSORS: u8 = 0x5f;
/// Where firmware finds what to start from: 2, the first disk.
pub const BOOT_ORDER: u8 = 0x3d;

const A_UPDATING: u8 = 1 << 7;
/// The divider held in reset: nothing counts.
const A_RESET: u8 = 0b110 << 4;
const B_24_HOURS: u8 = 1 << 1;
const B_BINARY: u8 = 1 << 2;
const B_UPDATE_INTERRUPT: u8 = 1 << 4;
const B_ALARM_INTERRUPT: u8 = 1 << 5;
const B_PERIODIC_INTERRUPT: u8 = 1 << 6;
const B_SET: u8 = 1 << 7;
/// Register C's flags are where B's enabling bits are.
const C_UPDATE: u8 = B_UPDATE_INTERRUPT;
const C_ALARM: u8 = B_ALARM_INTERRUPT;
const C_PERIODIC: u8 = B_PERIODIC_INTERRUPT;
const C_ANY: u8 = 1 << 7;
const D_VALID: u8 = 1 << 7;
const PM: u8 = 1 << 7;
/// An alarm byte from here up matches any value.
const ANY_VALUE: u8 = 0xc0;
const SECOND: u64 = 1_000_000_000;
/// "Update Cycle": 244 microseconds of warning, and the cycle itself.
const UPDATE: u64 = 244_000 + 1_984_000;
/// Ticks of its crystal a second.
const CRYSTAL: u64 = 32_768;

/// The clock and its memory.
#[derive(Clone, Debug)]
pub struct Cmos {
    index: u8,
    bytes: [u8; 128],
    /// What the guest has set the clock to, less what it would tell: seconds, and days of the week.
    offset: i64,
    weekday_offset: u8,
    /// Flags of register C are right up to this time.
    seen: u64,
}

impl Cmos {
    /// As a battery has kept it, at this time.
    pub const fn new(now: u64) -> Self {
        let mut bytes = [0; 128];
        bytes[A as usize] = 0x26;
        bytes[B as usize] = B_24_HOURS;
        Self { index: 0, bytes, offset: 0, weekday_offset: 0, seen: now }
    }

    /// What firmware finds at this place, beyond the clock's own registers.
    pub const fn put(&mut self, index: u8, value: u8) {
        self.bytes[(index & 0x7f) as usize] = value;
    }

    /// Tells firmware of memory, in bytes: below 4 GiB all there is, and from 4 GiB up. SeaBIOS and its forebears look
    /// here: KiB from 1 MiB, 64 KiB units from 16 MiB, 64 KiB units from 4 GiB.
    pub fn put_memory(&mut self, below_4_gib: u64, from_4_gib: u64) {
        let from = |start: u64, unit: u64| below_4_gib.saturating_sub(start) / unit;
        let words = [
            (0x15, 640),
            (0x17, from(1 << 20, 1 << 10)),
            (0x30, from(1 << 20, 1 << 10)),
            (0x34, from(16 << 20, 64 << 10)),
            (0x5b, from_4_gib >> 16 & 0xffff),
        ];
        for (index, value) in words {
            let [low, high] = (value.min(0xffff) as u16).to_le_bytes();
            self.put(index, low);
            self.put(index + 1, high);
        }
        self.put(0x5d, (from_4_gib >> 32) as u8);
    }

    const fn register(&self, index: u8) -> u8 {
        self.bytes[(index & 0x7f) as usize]
    }

    /// Whether the time stands still, and the registers are memory.
    const fn stands_still(&self) -> bool {
        self.register(B) & B_SET != 0 || self.is_in_reset()
    }

    const fn is_in_reset(&self) -> bool {
        self.register(A) & A_RESET == A_RESET
    }

    /// Reads port 70h or 71h.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        if port & 1 == 0 {
            return 0xff;
        }
        match self.index {
            SECONDS | MINUTES | HOURS | WEEKDAY..=YEAR | CENTURY if !self.stands_still() => {
                self.encode(self.index, self.field(self.date(now), self.index))
            }
            A if !self.stands_still() && SECOND - now % SECOND <= UPDATE => self.register(A) | A_UPDATING,
            C => {
                self.look(now);
                let flags = self.flags();
                self.bytes[usize::from(C)] = 0;
                flags
            }
            D => D_VALID,
            index => self.register(index),
        }
    }

    /// Writes port 70h or 71h.
    pub fn write(&mut self, port: u16, value: u8, now: u64) {
        if port & 1 == 0 {
            // Bit 7 keeps NMIs off, of which there are none.
            self.index = value & 0x7f;
            return;
        }
        self.look(now);
        let stood_still = self.stands_still();
        let index = self.index;
        let is_time = matches!(index, SECONDS | MINUTES | HOURS | WEEKDAY..=YEAR | CENTURY | A | B);
        if is_time && !stood_still {
            self.show(now);
        }
        self.bytes[usize::from(index)] = match index {
            A => value & !A_UPDATING,
            // Setting the time ends the interrupts of updates.
            B if value & B_SET != 0 => value & !B_UPDATE_INTERRUPT,
            C | D => self.register(index),
            _ => value,
        };
        if index == B && !stood_still && !self.stands_still() {
            // Another way to write the same time.
            self.show(now);
        }
        if is_time && !self.stands_still() {
            self.take_over(now);
        }
    }

    /// Whether the interrupt line is up.
    #[inline]
    pub fn interrupts(&mut self, now: u64) -> bool {
        self.look(now);
        self.flags() & C_ANY != 0
    }

    /// Register C.
    #[inline]
    const fn flags(&self) -> u8 {
        let flags = self.register(C);
        if flags & self.register(B) & (C_UPDATE | C_ALARM | C_PERIODIC) != 0 { flags | C_ANY } else { flags }
    }

    /// When the interrupt line goes up next.
    pub fn deadline(&self) -> Option<u64> {
        let enabled = self.register(B);
        if self.flags() & C_ANY != 0 {
            return None;
        }
        let runs = !self.stands_still();
        let next_second = (self.seen / SECOND + 1) * SECOND;
        let update = (runs && enabled & B_UPDATE_INTERRUPT != 0).then_some(next_second);
        let alarm = if runs && enabled & B_ALARM_INTERRUPT != 0 { self.next_alarm() } else { None };
        let period = if enabled & B_PERIODIC_INTERRUPT != 0 { self.next_period() } else { None };
        [update, alarm, period].into_iter().flatten().min()
    }

    /// Register A's rate: how many ticks of the crystal a period has, as a power of 2.
    const fn period_log2(&self) -> Option<u32> {
        match self.register(A) & 0xf {
            0 => None,
            _ if self.is_in_reset() => None,
            rate @ (1 | 2) => Some(rate as u32 + 6),
            rate => Some(rate as u32 - 1),
        }
    }

    fn next_period(&self) -> Option<u64> {
        let log2 = self.period_log2()?;
        let (second, rest) = (self.seen / SECOND, self.seen % SECOND);
        let ticks = (((rest * CRYSTAL / SECOND) >> log2) + 1) << log2;
        Some(second * SECOND + (ticks * SECOND).div_ceil(CRYSTAL))
    }

    /// Brings register C up to date. Its flags do not ask whether they are to interrupt.
    #[inline]
    fn look(&mut self, now: u64) {
        let before = self.seen;
        if now <= before {
            return;
        }
        let mut flags = 0;
        if self.register(C) & C_PERIODIC == 0 && self.next_period().is_some_and(|due| due <= now) {
            flags |= C_PERIODIC;
        }
        if before / SECOND != now / SECOND && !self.stands_still() {
            flags |= C_UPDATE;
            if self.next_alarm().is_some_and(|due| due <= now) {
                flags |= C_ALARM;
            }
        }
        self.bytes[usize::from(C)] |= flags;
        self.seen = now;
    }

    /// The first second after what was seen that the alarm bytes match.
    fn next_alarm(&self) -> Option<u64> {
        let hours = self.alarm(HOURS_ALARM, HOURS, 24)?;
        let minutes = self.alarm(MINUTES_ALARM, MINUTES, 60)?;
        let seconds = self.alarm(SECONDS_ALARM, SECONDS, 60)?;
        let next = (self.seen / SECOND + 1).saturating_add_signed(self.offset);
        let (day, rest) = (next / 86_400, next % 86_400);
        let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
        // Bytes match one value each, or all.
        let first = |wanted: Option<u64>| wanted.unwrap_or(0);
        let found = if hours.is_none_or(|wanted| wanted == hour) {
            let in_minute = seconds.map_or(Some(second), |wanted| (wanted >= second).then_some(wanted));
            match in_minute {
                Some(second) if minutes.is_none_or(|wanted| wanted == minute) => Some((hour, minute, second)),
                _ => minutes
                    .map_or(Some(minute + 1).filter(|&minute| minute < 60), |wanted| {
                        (wanted > minute).then_some(wanted)
                    })
                    .map(|minute| (hour, minute, first(seconds))),
            }
        } else {
            None
        };
        let found = found.or_else(|| {
            let later = hours
                .map_or(Some(hour + 1).filter(|&hour| hour < 24), |wanted| (wanted > hour).then_some(wanted));
            later.map(|hour| (hour, first(minutes), first(seconds)))
        });
        let (day, (hour, minute, second)) = match found {
            Some(time) => (day, time),
            None => (day + 1, (first(hours), first(minutes), first(seconds))),
        };
        let at = day * 86_400 + hour * 3_600 + minute * 60 + second;
        at.saturating_add_signed(self.offset.checked_neg()?).checked_mul(SECOND)
    }

    /// What an alarm byte matches: all values, or one. `None`: none at all.
    fn alarm(&self, alarm: u8, field: u8, below: u8) -> Option<Option<u64>> {
        let byte = self.register(alarm);
        if byte >= ANY_VALUE {
            return Some(None);
        }
        let value = self.decode(field, byte);
        (value < below && self.encode(field, value) == byte).then_some(Some(value.into()))
    }

    fn date(&self, now: u64) -> Date {
        Date::from_unix((now / SECOND).saturating_add_signed(self.offset))
    }

    const fn field(&self, date: Date, index: u8) -> u8 {
        match index {
            SECONDS => date.second,
            MINUTES => date.minute,
            HOURS => date.hour,
            // 1 is Sunday.
            WEEKDAY => (date.weekday + self.weekday_offset) % 7 + 1,
            DAY => date.day,
            MONTH => date.month,
            YEAR => (date.year % 100) as u8,
            _ => (date.year / 100 % 100) as u8,
        }
    }

    /// The registers show the time.
    fn show(&mut self, now: u64) {
        let date = self.date(now);
        for index in [SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY] {
            self.bytes[usize::from(index)] = self.encode(index, self.field(date, index));
        }
    }

    /// The time is what the registers show, from now on.
    fn take_over(&mut self, now: u64) {
        let field = |index: u8| self.decode(index, self.register(index));
        let date = Date {
            second: field(SECONDS),
            minute: field(MINUTES),
            hour: field(HOURS),
            day: field(DAY),
            month: field(MONTH),
            year: u64::from(field(CENTURY)) * 100 + u64::from(field(YEAR)),
            weekday: 0,
        };
        let weekday = field(WEEKDAY);
        self.offset = date.to_unix() as i64 - (now / SECOND) as i64;
        self.weekday_offset = (weekday % 7 + 6 + 7 - self.date(now).weekday) % 7;
    }

    /// As register B says: numbers or decimal digits, 24 hours or two times 12.
    const fn encode(&self, index: u8, value: u8) -> u8 {
        let mode = self.register(B);
        let twelve = index == HOURS && mode & B_24_HOURS == 0;
        let (value, half) = match twelve {
            true => ((value + 11) % 12 + 1, if value >= 12 { PM } else { 0 }),
            false => (value, 0),
        };
        half | if mode & B_BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn decode(&self, index: u8, value: u8) -> u8 {
        let mode = self.register(B);
        let twelve = index == HOURS && mode & B_24_HOURS == 0;
        let (value, half) = if twelve { (value & !PM, value & PM != 0) } else { (value, false) };
        let digits = |value: u8| (value >> 4).saturating_mul(10).saturating_add(value & 0xf);
        let value = if mode & B_BINARY != 0 { value } else { digits(value) };
        if twelve { value % 12 + if half { 12 } else { 0 } } else { value }
    }
}
