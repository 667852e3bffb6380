//! The local APIC's timer (SDM 3A, "APIC Timer"): one shot, periodic, or at a value of the time-stamp counter.

/// How it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    OneShot,
    Periodic,
    TscDeadline,
}

/// The timer. It counts ticks of the time-stamp counter, divided.
#[derive(Clone, Debug)]
pub struct Timer {
    mode: Mode,
    initial: u32,
    divide: u32,
    /// When it fires next; 0: never.
    due: u64,
}

impl Timer {
    pub(super) const fn new() -> Self {
        Self { mode: Mode::OneShot, initial: 0, divide: 0, due: 0 }
    }

    /// Ticks that a count takes ("Divide Configuration Register"): bits 0, 1 and 3 are a power of two, less one.
    const fn shift(&self) -> u32 {
        ((self.divide & 3 | self.divide >> 1 & 4) + 1) & 7
    }

    const fn period(&self) -> u64 {
        (self.initial as u64) << self.shift()
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        (self.due != 0).then_some(self.due)
    }

    /// Whether it has fired by now; then it is set anew, or off.
    pub(super) fn expire(&mut self, now: u64) -> bool {
        if self.due == 0 || now < self.due {
            return false;
        }
        if self.mode == Mode::Periodic {
            // Periods that went by unseen are one interrupt, as for a processor that had interrupts off.
            let missed = (now - self.due) / self.period().max(1);
            self.due += (missed + 1) * self.period();
        } else {
            self.due = 0;
        }
        true
    }

    pub(super) const fn initial_count(&self) -> u32 {
        self.initial
    }

    pub(super) fn current_count(&self, now: u64) -> u32 {
        if self.due == 0 || self.mode == Mode::TscDeadline {
            return 0;
        }
        (self.due.saturating_sub(now) >> self.shift()) as u32
    }

    pub(super) const fn divide(&self) -> u32 {
        self.divide
    }

    pub(super) const fn tsc_deadline(&self) -> u64 {
        if matches!(self.mode, Mode::TscDeadline) { self.due } else { 0 }
    }

    pub(super) fn set_tsc_deadline(&mut self, value: u64) {
        if self.mode == Mode::TscDeadline {
            self.due = value;
        }
    }

    /// Writes the initial count, which starts it; 0 stops it.
    pub(super) fn start(&mut self, count: u32, now: u64) {
        if self.mode != Mode::TscDeadline {
            self.initial = count;
            self.restart(now);
        }
    }

    /// A change of the divisor counts from now on with what is left.
    pub(super) fn set_divide(&mut self, value: u32, now: u64) {
        let left = self.current_count(now);
        self.divide = value & 0b1011;
        if self.due != 0 && self.mode != Mode::TscDeadline {
            self.due = now + (u64::from(left) << self.shift());
        }
    }

    /// The mode bits of its entry in the local vector table. To and from deadline mode it is disarmed.
    pub(super) fn set_mode(&mut self, bits: u32, now: u64) {
        let mode = match bits {
            0 => Mode::OneShot,
            1 => Mode::Periodic,
            2 => Mode::TscDeadline,
            _ => return,
        };
        if (mode == Mode::TscDeadline) != (self.mode == Mode::TscDeadline) {
            (self.initial, self.due) = (0, 0);
        } else if mode == Mode::Periodic && self.mode == Mode::OneShot && self.due == 0 && self.initial != 0 {
            self.mode = mode;
            self.restart(now);
        }
        self.mode = mode;
    }

    fn restart(&mut self, now: u64) {
        self.due = if self.initial == 0 { 0 } else { now + self.period() };
    }
}
