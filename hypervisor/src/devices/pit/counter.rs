//! One counter of the 8254 (its data sheet, "Mode Definitions").
//!
//! The count register is what is written; the counting element is loaded from it a tick later, at the end of a period, or
//! when the gate triggers, by mode. Between loads the element's count is a function of the time.

/// How much of a count is read or written at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Low = 1,
    High = 2,
    /// Low, then high.
    Both = 3,
}

/// The counting element.
#[derive(Clone, Copy, Debug)]
enum Element {
    /// Nothing has been loaded since the mode was set, or nothing has triggered it.
    Waits,
    /// It was loaded, or would have been, at this tick.
    Counts(i64),
    /// The gate has stopped it so many ticks after it was loaded.
    Stopped(i64),
}

/// A counter.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    mode: u8,
    access: Access,
    is_bcd: bool,
    gate: bool,
    /// The low byte of a count that is not whole yet.
    low: Option<u8>,
    reads_high: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
    /// A count that was written and is not loaded yet.
    written: Option<i64>,
    /// When it will be, if that is known.
    loads_at: Option<i64>,
    /// The count that was loaded last: 1 to 65,536, or 10,000; 0: none.
    count: i64,
    element: Element,
}

/// Ticks as they are reckoned here: also before the first. The clock would need a hundred thousand years for the others.
fn ticks(now: u64) -> i64 {
    now.min(1 << 62) as i64
}

impl Counter {
    /// As after power-up, where anything would be right.
    pub const fn new(gate: bool) -> Self {
        Self {
            mode: 3,
            access: Access::Both,
            is_bcd: false,
            gate,
            low: None,
            reads_high: false,
            latched_count: None,
            latched_status: None,
            written: None,
            loads_at: None,
            count: 0,
            element: Element::Waits,
        }
    }

    const fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// Modes 1 and 5: only the gate's rise loads it.
    const fn is_triggered(&self) -> bool {
        matches!(self.mode, 1 | 5)
    }

    /// The first half of mode 3's period, in which the output is high, is the longer one.
    const fn high_half(&self) -> i64 {
        (self.count + 1) >> 1
    }

    /// Loads the element if it is time.
    fn settle(&mut self, now: i64) {
        let Some(at) = self.loads_at.filter(|&at| at <= now) else { return };
        self.loads_at = None;
        // A new count of mode 3 may begin with its second half.
        let is_second_half = self.mode == 3
            && matches!(self.element, Element::Counts(since) if self.within(at - since - 1) < self.high_half());
        self.count = self.written.take().unwrap_or(self.count);
        let at = if is_second_half { at - self.high_half() } else { at };
        self.element = if self.count == 0 {
            Element::Waits
        } else if self.gate || self.is_triggered() {
            Element::Counts(at)
        } else {
            Element::Stopped(0)
        };
    }

    /// How far into a period.
    const fn within(&self, elapsed: i64) -> i64 {
        elapsed.rem_euclid(if self.count == 0 { 1 } else { self.count })
    }

    fn settled(&self, now: i64) -> Self {
        let mut settled = *self;
        settled.settle(now);
        settled
    }

    /// The output pin.
    pub fn output(&self, now: u64) -> bool {
        let now = ticks(now);
        self.settled(now).level(now)
    }

    fn level(&self, now: i64) -> bool {
        let (elapsed, counts) = match self.element {
            Element::Waits => return self.mode != 0,
            Element::Counts(since) => (now - since, true),
            Element::Stopped(elapsed) => (elapsed, false),
        };
        match self.mode {
            0 | 1 => elapsed >= self.count,
            // A count of 1 is illegal; here it is no pulse.
            2 => !counts || self.count == 1 || self.within(elapsed) != self.count - 1,
            3 => !counts || self.within(elapsed) < self.high_half(),
            // A strobe of one tick.
            _ => elapsed != self.count,
        }
    }

    /// The element's count, in the mode's own steps.
    fn value(&self, now: i64) -> u16 {
        let elapsed = match self.element {
            Element::Waits => 0,
            Element::Counts(since) => now - since,
            Element::Stopped(elapsed) => elapsed,
        };
        let value = match self.mode {
            2 => self.count - self.within(elapsed),
            3 => {
                let (within, high) = (self.within(elapsed), self.high_half());
                (self.count & !1) - 2 * if within < high { within } else { within - high }
            }
            _ => self.count - elapsed,
        };
        // Past zero it goes on from all nines, or all ones.
        if self.is_bcd { to_bcd(value.rem_euclid(10_000) as u16) } else { value as u16 }
    }

    /// When the output rises next after `after`, if nobody touches it.
    pub fn next_rise(&self, after: u64) -> Option<u64> {
        let after = ticks(after);
        let counter = self.settled(after);
        let rise = match (counter.rise(after), counter.loads_at) {
            (Some(rise), Some(at)) if rise <= at => Some(rise),
            (_, Some(at)) => counter.settled(at).rise(at),
            (rise, None) => rise,
        };
        rise.map(|rise| rise as u64)
    }

    fn rise(&self, after: i64) -> Option<i64> {
        let Element::Counts(since) = self.element else { return None };
        match self.mode {
            // An output that is never low does not rise.
            2 | 3 if self.count == 1 => None,
            2 | 3 => Some(since + ((after - since).div_euclid(self.count) + 1) * self.count),
            0 | 1 => Some(since + self.count).filter(|&rise| rise > after),
            _ => Some(since + self.count + 1).filter(|&rise| rise > after),
        }
    }

    /// The control word's part for this counter.
    pub fn control(&mut self, value: u8, now: u64) {
        let access = match value >> 4 & 3 {
            0 => return self.latch_count(now),
            1 => Access::Low,
            2 => Access::High,
            _ => Access::Both,
        };
        // Modes 2 and 3 have a second number each.
        let mode = match value >> 1 & 7 {
            mode @ 0..=5 => mode,
            mode => mode - 4,
        };
        *self = Self { mode, access, is_bcd: value & 1 != 0, ..Self::new(self.gate) };
    }

    /// Writes a byte of a count.
    pub fn write(&mut self, value: u8, now: u64) {
        let now = ticks(now);
        self.settle(now);
        let count = match (self.access, self.low.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::Both, Some(low)) => u16::from(low) | u16::from(value) << 8,
            (Access::Both, None) => {
                self.low = Some(value);
                if self.mode == 0 {
                    // "Writing the first byte disables counting": the output falls.
                    (self.element, self.loads_at, self.written) = (Element::Waits, None, None);
                }
                return;
            }
        };
        let (count, most) =
            if self.is_bcd { (from_bcd(count), 10_000) } else { (i64::from(count), 0x1_0000) };
        self.written = Some(if count == 0 { most } else { count });
        match self.element {
            _ if self.is_triggered() => {}
            // Gated off, these begin with the gate's rise.
            Element::Waits | Element::Stopped(_) if self.is_periodic() && !self.gate => {}
            Element::Counts(since) if self.is_periodic() => {
                let (within, high) = (self.within(now - since), self.high_half());
                let end = if self.mode == 3 && within < high { high } else { self.count };
                self.loads_at = Some(now + end - within);
            }
            _ => {
                if self.mode == 0 {
                    self.element = Element::Waits;
                }
                self.loads_at = Some(now + 1);
            }
        }
    }

    /// Reads a byte: of a status that is latched, of a count that is, or of the count.
    pub fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let now = ticks(now);
        self.settle(now);
        let count = self.latched_count.unwrap_or_else(|| self.value(now));
        let is_high = match self.access {
            Access::Low => false,
            Access::High => true,
            Access::Both => {
                self.reads_high = !self.reads_high;
                !self.reads_high
            }
        };
        if is_high || self.access == Access::Low {
            self.latched_count = None;
        }
        if is_high { (count >> 8) as u8 } else { count as u8 }
    }

    /// Keeps the count for the next read; one that is kept already stays.
    pub fn latch_count(&mut self, now: u64) {
        let now = ticks(now);
        self.settle(now);
        self.latched_count = self.latched_count.or(Some(self.value(now)));
    }

    /// Keeps the status byte for the next read.
    pub fn latch_status(&mut self, now: u64) {
        let now = ticks(now);
        self.settle(now);
        let null_count = self.written.is_some() || self.count == 0;
        let flags = u8::from(self.level(now)) << 7 | u8::from(null_count) << 6;
        let status = flags | (self.access as u8) << 4 | self.mode << 1 | u8::from(self.is_bcd);
        self.latched_status = self.latched_status.or(Some(status));
    }

    /// The gate pin ("Gate Pin Operations Summary").
    pub fn set_gate(&mut self, gate: bool, now: u64) {
        let now = ticks(now);
        self.settle(now);
        let was = core::mem::replace(&mut self.gate, gate);
        match (was, gate, self.mode) {
            (false, true, 1 | 5 | 2 | 3) => {
                if self.written.is_some() || self.count != 0 {
                    self.loads_at = Some(now + 1);
                }
                // The output is high until it is loaded.
                if self.is_periodic() {
                    self.element = Element::Waits;
                }
            }
            (false, true, _) => {
                if let Element::Stopped(elapsed) = self.element {
                    self.element = Element::Counts(now - elapsed);
                }
            }
            (true, false, 0 | 2..=4) => {
                if let Element::Counts(since) = self.element {
                    self.element = Element::Stopped(now - since);
                }
                if self.is_periodic() {
                    self.loads_at = None;
                }
            }
            _ => {}
        }
    }
}

/// Digits above 9 count as they come.
fn from_bcd(value: u16) -> i64 {
    let number = (0..4).rev().fold(0, |sum, digit| sum * 10 + i64::from(value >> (4 * digit) & 0xf));
    if value == 0 { 0 } else { (number - 1) % 10_000 + 1 }
}

fn to_bcd(value: u16) -> u16 {
    (0..4).fold(0, |bcd, digit| bcd | (value / 10u16.pow(digit) % 10) << (4 * digit))
}
