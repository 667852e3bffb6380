//! One 8259A.

/// ICW1's own bit among commands, OCW3's, and what ICW1 says: no ICW3, an ICW4.
const ICW1: u8 = 1 << 4;
const OCW3: u8 = 1 << 3;
const ICW1_SINGLE: u8 = 1 << 1;
const ICW1_WANTS_ICW4: u8 = 1 << 0;
const ICW4_AUTO_END: u8 = 1 << 1;
const ICW4_SPECIAL_NESTED: u8 = 1 << 4;

/// Which word comes next at the data port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Icw2,
    Icw3,
    Icw4,
    /// OCW1: the chip is initialized, or never was.
    Mask,
}

/// A controller.
#[derive(Clone, Copy, Debug)]
pub struct Chip {
    /// Requests that are latched.
    requested: u8,
    in_service: u8,
    masked: u8,
    /// The inputs' levels.
    lines: u8,
    /// ELCR.
    level_triggered: u8,
    /// ICW2.
    base: u8,
    /// The input of highest priority.
    first: u8,
    expects: Expects,
    is_single: bool,
    wants_icw4: bool,
    auto_end: bool,
    auto_rotate: bool,
    special_mask: bool,
    special_nested: bool,
    reads_in_service: bool,
    polls: bool,
    /// The input that a chip of its own is behind.
    slave: Option<u8>,
}

impl Chip {
    pub const fn new(slave: Option<u8>) -> Self {
        Self {
            requested: 0,
            in_service: 0,
            masked: 0,
            lines: 0,
            level_triggered: 0,
            base: 0,
            first: 0,
            expects: Expects::Mask,
            is_single: false,
            wants_icw4: false,
            auto_end: false,
            auto_rotate: false,
            special_mask: false,
            special_nested: false,
            reads_in_service: false,
            polls: false,
            slave,
        }
    }

    /// Raises or lowers an input. A request is gone where its input falls before it is acknowledged, be it an edge or a
    /// level ("Edge and Level Triggered Modes").
    #[inline]
    pub const fn set(&mut self, input: u8, up: bool) {
        let bit = 1 << input;
        if up {
            // A level that was up before is requested already.
            self.requested |= bit & !self.lines;
            self.lines |= bit;
        } else {
            self.lines &= !bit;
            self.requested &= !bit;
        }
    }

    /// Whether an input is up.
    #[inline]
    pub const fn is_up(&self, input: u8) -> bool {
        self.lines & 1 << input != 0
    }

    pub const fn level_triggered(&self) -> u8 {
        self.level_triggered
    }

    pub const fn set_level_triggered(&mut self, inputs: u8) {
        self.level_triggered = inputs;
        self.requested |= self.lines & inputs;
    }

    pub const fn vector(&self, input: u8) -> u8 {
        self.base | input
    }

    /// How far an input is from the one of highest priority.
    const fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.first) & 7
    }

    /// Of a set of inputs the one of highest priority.
    #[inline]
    const fn best(&self, inputs: u8) -> Option<u8> {
        if inputs == 0 {
            return None;
        }
        let rank = inputs.rotate_right(self.first as u32).trailing_zeros() as u8;
        Some((self.first + rank) & 7)
    }

    /// The input that interrupts, if one does.
    #[inline]
    pub const fn pending(&self) -> Option<u8> {
        let Some(input) = self.best(self.requested & !self.masked) else { return None };
        let mut busy = self.in_service;
        if self.special_mask {
            // "Special Mask Mode": what is masked holds nothing back, and what is in service only itself.
            busy &= !self.masked;
        }
        if let (Some(slave), true) = (self.slave, self.special_nested) {
            // "The Special Fully Nested Mode": what the second chip lets through has priority there.
            busy &= !(1 << slave);
        }
        match self.best(busy) {
            Some(busy) if self.rank(input) >= self.rank(busy) => None,
            _ => Some(input),
        }
    }

    pub const fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        if self.level_triggered & bit == 0 {
            self.requested &= !bit;
        }
        if !self.auto_end {
            self.in_service |= bit;
        } else if self.auto_rotate {
            self.first = (input + 1) & 7;
        }
    }

    /// Reads the command port, or the data port. After a poll either acknowledges ("Poll Command").
    pub const fn read(&mut self, data: bool) -> u8 {
        if self.polls {
            self.polls = false;
            let Some(input) = self.pending() else { return 0 };
            self.acknowledge(input);
            return 1 << 7 | input;
        }
        if data {
            self.masked
        } else if self.reads_in_service {
            self.in_service
        } else {
            self.requested
        }
    }

    /// Writes the command port.
    pub const fn command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            // Edge detection starts anew: an input that is up has to fall first.
            *self = Self {
                lines: self.lines,
                level_triggered: self.level_triggered,
                requested: self.lines & self.level_triggered,
                base: self.base,
                expects: Expects::Icw2,
                is_single: value & ICW1_SINGLE != 0,
                wants_icw4: value & ICW1_WANTS_ICW4 != 0,
                ..Self::new(self.slave)
            };
        } else if value & OCW3 != 0 {
            if value & 2 != 0 {
                self.reads_in_service = value & 1 != 0;
            }
            self.polls = value & 1 << 2 != 0;
            if value & 1 << 6 != 0 {
                self.special_mask = value & 1 << 5 != 0;
            }
        } else {
            self.end(value >> 5, value & 7);
        }
    }

    /// OCW2: ends an interrupt, turns priorities round.
    const fn end(&mut self, order: u8, input: u8) {
        match order {
            0 => self.auto_rotate = false,
            4 => self.auto_rotate = true,
            6 => self.first = (input + 1) & 7,
            1 | 5 => {
                // In special mask mode an end that names none does not end what is masked.
                let mask = if self.special_mask { self.masked } else { 0 };
                if let Some(busy) = self.best(self.in_service & !mask) {
                    self.finish(busy, order == 5);
                }
            }
            3 | 7 => self.finish(input, order == 7),
            _ => {}
        }
    }

    const fn finish(&mut self, input: u8, rotates: bool) {
        self.in_service &= !(1 << input);
        if rotates {
            self.first = (input + 1) & 7;
        }
    }

    /// Writes the data port.
    pub const fn data(&mut self, value: u8) {
        let last = if self.wants_icw4 { Expects::Icw4 } else { Expects::Mask };
        match self.expects {
            Expects::Icw2 => {
                self.base = value & 0xf8;
                self.expects = if self.is_single { last } else { Expects::Icw3 };
            }
            // Which inputs have chips behind them is a matter of wires.
            Expects::Icw3 => self.expects = last,
            Expects::Icw4 => {
                self.auto_end = value & ICW4_AUTO_END != 0;
                self.special_nested = value & ICW4_SPECIAL_NESTED != 0;
                self.expects = Expects::Mask;
            }
            Expects::Mask => self.masked = value,
        }
    }

    #[cfg(test)]
    pub const fn in_service(&self) -> u8 {
        self.in_service
    }
}
