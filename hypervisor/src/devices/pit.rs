//! An 8254 interval timer (Intel's 8254 data sheet) as a PC has it: counter 0 interrupts, counter 1 refreshes memory that
//! needs none, counter 2 is gated by port 61h and heard there.
//!
//! Nothing ticks: a counter knows when it was loaded, and its count and output follow from the time, which is passed in as
//! ticks of its own clock, 1.193182 MHz.

/// Its clock in Hz.
pub const HZ: u64 = 1_193_182;

/// How much of a count is read or written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Low,
    High,
    /// Low, then high.
    Both,
}

/// One counter.
#[derive(Clone, Copy, Debug)]
struct Counter {
    mode: u8,
    access: Access,
    bcd: bool,
    /// The low byte of a count that is not whole yet.
    low: Option<u8>,
    /// The high byte is read next.
    reads_high: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
    /// Initial count, 1 to 65536; 0: none was written since the mode was set.
    initial: u32,
    /// When the count was loaded.
    started: u64,
    gate: bool,
    /// Modes 1 and 5: the gate has triggered it.
    triggered: bool,
    /// The gate stopped it at this count.
    stopped_at: Option<u32>,
}

impl Counter {
    const fn new(gate: bool) -> Self {
        Self {
            mode: 3,
            access: Access::Both,
            bcd: false,
            low: None,
            reads_high: false,
            latched_count: None,
            latched_status: None,
            initial: 0,
            started: 0,
            gate,
            triggered: false,
            stopped_at: None,
        }
    }

    const fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    const fn waits_for_trigger(&self) -> bool {
        matches!(self.mode, 1 | 5) && !self.triggered
    }

    fn elapsed(&self, now: u64) -> u64 {
        now.saturating_sub(self.started)
    }

    /// The counting element.
    fn count(&self, now: u64) -> u32 {
        if let Some(count) = self.stopped_at {
            return count;
        }
        if self.initial == 0 || self.waits_for_trigger() {
            return self.initial;
        }
        let (initial, elapsed) = (u64::from(self.initial), self.elapsed(now));
        let wrap: u64 = if self.bcd { 10_000 } else { 0x1_0000 };
        (match self.mode {
            2 => initial - elapsed % initial,
            // Counts by two, the whole twice a period.
            3 => (initial - 2 * elapsed % initial) & !1,
            _ => (initial + wrap - elapsed % wrap) % wrap,
        }) as u32
    }

    /// The output.
    fn output(&self, now: u64) -> bool {
        let idle = self.mode != 0;
        if self.initial == 0 {
            return idle;
        }
        let (initial, elapsed) = (u64::from(self.initial), self.elapsed(now));
        match self.mode {
            0 => self.stopped_at.is_none() && elapsed >= initial,
            1 => !self.triggered || elapsed >= initial,
            2 => self.stopped_at.is_some() || elapsed % initial != initial - 1,
            3 => self.stopped_at.is_some() || elapsed % initial < initial.div_ceil(2),
            // A strobe of one tick.
            _ => self.waits_for_trigger() || elapsed != initial,
        }
    }

    /// When the output rises next after `now`.
    fn next_rise(&self, now: u64) -> Option<u64> {
        if self.initial == 0 || self.stopped_at.is_some() || self.waits_for_trigger() {
            return None;
        }
        let initial = u64::from(self.initial);
        if self.is_periodic() {
            return Some(self.started + (self.elapsed(now) / initial + 1) * initial);
        }
        let strobe = u64::from(matches!(self.mode, 4 | 5));
        Some(self.started + initial + strobe).filter(|&rise| rise > now)
    }

    fn control(&mut self, value: u8) {
        let access = match value >> 4 & 3 {
            1 => Access::Low,
            2 => Access::High,
            _ => Access::Both,
        };
        // Modes 2 and 3 have a second number each.
        let mode = match value >> 1 & 7 {
            mode @ 0..=5 => mode,
            mode => mode - 4,
        };
        *self = Self { mode, access, bcd: value & 1 != 0, ..Self::new(self.gate) };
    }

    fn write(&mut self, value: u8, now: u64) {
        let count = match (self.access, self.low.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::Both, None) => {
                self.low = Some(value);
                return;
            }
            (Access::Both, Some(low)) => u16::from(low) | u16::from(value) << 8,
        };
        let (count, most) = if self.bcd { (from_bcd(count), 10_000) } else { (count.into(), 0x1_0000) };
        let was_running = self.initial != 0;
        self.initial = if count == 0 { most } else { count };
        // Periodic modes take a new count at the end of a period; this one begins it, which no one can tell apart but by
        // the length of one period.
        if !matches!(self.mode, 1 | 5) || !was_running {
            self.started = now;
            self.stopped_at = if self.gate || matches!(self.mode, 1 | 5) { None } else { Some(self.initial) };
        }
    }

    fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let count = self.latched_count.unwrap_or_else(|| self.shown(now));
        let high = match self.access {
            Access::Low => false,
            Access::High => true,
            Access::Both => {
                self.reads_high = !self.reads_high;
                !self.reads_high
            }
        };
        if high || self.access == Access::Low {
            self.latched_count = None;
        }
        if high { (count >> 8) as u8 } else { count as u8 }
    }

    fn shown(&self, now: u64) -> u16 {
        let count = self.count(now);
        if self.bcd { to_bcd(count) } else { count as u16 }
    }

    fn latch_count(&mut self, now: u64) {
        self.latched_count = self.latched_count.or(Some(self.shown(now)));
    }

    fn latch_status(&mut self, now: u64) {
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::Both => 3,
        };
        let (output, null) = (u8::from(self.output(now)) << 7, u8::from(self.initial == 0) << 6);
        let status = output | null | access << 4 | self.mode << 1 | u8::from(self.bcd);
        self.latched_status = self.latched_status.or(Some(status));
    }

    fn set_gate(&mut self, gate: bool, now: u64) {
        let was = core::mem::replace(&mut self.gate, gate);
        match (was, gate, self.mode) {
            (false, true, 1 | 5) => (self.triggered, self.started) = (true, now),
            (false, true, 2 | 3) => (self.stopped_at, self.started) = (None, now),
            (false, true, _) => {
                if let Some(count) = self.stopped_at.take() {
                    self.started = now.saturating_sub(u64::from(self.initial.saturating_sub(count)));
                }
            }
            (true, false, 0 | 2..=4) => self.stopped_at = Some(self.count(now)),
            _ => {}
        }
    }
}

fn from_bcd(value: u16) -> u32 {
    (0..4).rev().fold(0, |sum, digit| sum * 10 + u32::from(value >> (4 * digit) & 0xf))
}

fn to_bcd(value: u32) -> u16 {
    (0..4).fold(0, |bcd, digit| bcd | ((value / 10u32.pow(digit) % 10) << (4 * digit)) as u16)
}

/// The timer, and the port by which counter 2 is gated and heard.
#[derive(Clone, Debug)]
pub struct Pit {
    counters: [Counter; 3],
    speaker: u8,
    refreshes: bool,
    /// Up to when counter 0 has been looked at.
    seen: u64,
}

impl Pit {
    /// As after power-up: nothing counts.
    pub const fn new() -> Self {
        Self {
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            speaker: 0,
            refreshes: false,
            seen: 0,
        }
    }

    /// Reads a port: 40h to 43h, or 61h.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        match port {
            0x40..=0x42 => self.counters[usize::from(port & 3)].read(now),
            0x61 => {
                // Refreshing toggles a bit that old programs wait by.
                self.refreshes = !self.refreshes;
                let output = u8::from(self.counters[2].output(now)) << 5;
                self.speaker | u8::from(self.refreshes) << 4 | output
            }
            _ => 0xff,
        }
    }

    /// Writes a port.
    pub fn write(&mut self, port: u16, value: u8, now: u64) {
        match port {
            0x40..=0x42 => self.counters[usize::from(port & 3)].write(value, now),
            0x43 if value >> 6 == 3 => self.read_back(value, now),
            0x43 => {
                let counter = &mut self.counters[usize::from(value >> 6)];
                if value >> 4 & 3 == 0 { counter.latch_count(now) } else { counter.control(value) }
            }
            0x61 => {
                self.speaker = value & 0xf;
                self.counters[2].set_gate(value & 1 != 0, now);
            }
            _ => {}
        }
        self.seen = self.seen.max(now);
    }

    fn read_back(&mut self, value: u8, now: u64) {
        for (index, counter) in self.counters.iter_mut().enumerate() {
            if value & 2 << index != 0 {
                if value & 1 << 5 == 0 {
                    counter.latch_count(now);
                }
                if value & 1 << 4 == 0 {
                    counter.latch_status(now);
                }
            }
        }
    }

    /// When counter 0 interrupts next.
    pub fn deadline(&self) -> Option<u64> {
        self.counters[0].next_rise(self.seen)
    }

    /// Whether counter 0's output has risen since this was last asked.
    pub fn expire(&mut self, now: u64) -> bool {
        let rose = self.deadline().is_some_and(|rise| rise <= now);
        self.seen = self.seen.max(now);
        rose
    }
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}
