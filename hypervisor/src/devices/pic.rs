//! A pair of 8259A interrupt controllers, wired as in a PC (Intel's 8259A data sheet): the second one's output is input 2 of
//! the first.

/// One controller.
#[derive(Clone, Copy, Debug, Default)]
struct Chip {
    requested: u8,
    in_service: u8,
    masked: u8,
    /// The inputs' levels.
    lines: u8,
    /// ELCR: inputs that interrupt by level.
    level_triggered: u8,
    /// ICW2.
    base: u8,
    /// The input of highest priority.
    first: u8,
    /// Which initialization command word comes next; 0: none.
    expects: u8,
    wants_icw4: bool,
    auto_end: bool,
    auto_rotate: bool,
    special_mask: bool,
    special_nested: bool,
    reads_in_service: bool,
    polls: bool,
}

impl Chip {
    const fn new() -> Self {
        Self {
            requested: 0,
            in_service: 0,
            masked: 0,
            lines: 0,
            level_triggered: 0,
            base: 0,
            first: 0,
            expects: 0,
            wants_icw4: false,
            auto_end: false,
            auto_rotate: false,
            special_mask: false,
            special_nested: false,
            reads_in_service: false,
            polls: false,
        }
    }

    fn set(&mut self, input: u8, up: bool) {
        let bit = 1 << input;
        let was_up = self.lines & bit != 0;
        self.lines = if up { self.lines | bit } else { self.lines & !bit };
        if self.level_triggered & bit != 0 {
            self.requested = self.requested & !bit | self.lines & bit;
        } else if up && !was_up {
            self.requested |= bit;
        } else if !up {
            // An edge is latched, but taken back where the line falls before it is acknowledged.
            self.requested &= !bit;
        }
    }

    /// How far an input is from the one of highest priority.
    const fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.first) & 7
    }

    fn best(&self, inputs: u8) -> Option<u8> {
        (0..8).map(|rank| (self.first + rank) & 7).find(|input| inputs & 1 << input != 0)
    }

    /// The input that interrupts, if one does. `slave`: the input that a chip of its own is behind.
    fn pending(&self, slave: Option<u8>) -> Option<u8> {
        let input = self.best(self.requested & !self.masked)?;
        let mut serving = self.in_service;
        if self.special_mask {
            serving &= !self.masked;
        }
        if let Some(slave) = slave.filter(|_| self.special_nested) {
            serving &= !(1 << slave);
        }
        let is_above = self.best(serving).is_none_or(|busy| self.rank(input) < self.rank(busy));
        is_above.then_some(input)
    }

    fn acknowledge(&mut self, input: u8) {
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

    fn command(&mut self, value: u8) {
        const ICW1: u8 = 1 << 4;
        const OCW3: u8 = 1 << 3;
        if value & ICW1 != 0 {
            // Edge detection starts anew; ELCR is not the chip's own, and stays.
            *self = Self {
                lines: self.lines,
                level_triggered: self.level_triggered,
                requested: self.lines & self.level_triggered,
                expects: 2,
                wants_icw4: value & 1 != 0,
                ..Self::new()
            };
        } else if value & OCW3 != 0 {
            match value & 3 {
                2 => self.reads_in_service = false,
                3 => self.reads_in_service = true,
                _ => {}
            }
            self.polls = value & 1 << 2 != 0;
            match value >> 5 & 3 {
                2 => self.special_mask = false,
                3 => self.special_mask = true,
                _ => {}
            }
        } else {
            self.end(value >> 5, value & 7);
        }
    }

    /// OCW2.
    fn end(&mut self, order: u8, input: u8) {
        let busy = self.best(self.in_service);
        match order {
            0 => self.auto_rotate = false,
            4 => self.auto_rotate = true,
            6 => self.first = (input + 1) & 7,
            1 | 5 => {
                if let Some(busy) = busy {
                    self.in_service &= !(1 << busy);
                    if order == 5 {
                        self.first = (busy + 1) & 7;
                    }
                }
            }
            3 | 7 => {
                self.in_service &= !(1 << input);
                if order == 7 {
                    self.first = (input + 1) & 7;
                }
            }
            _ => {}
        }
    }

    fn data(&mut self, value: u8) {
        match self.expects {
            2 => {
                self.base = value & 0xf8;
                // A PC's chips are always a pair, so ICW3 always comes.
                self.expects = 3;
            }
            3 => self.expects = if self.wants_icw4 { 4 } else { 0 },
            4 => {
                self.auto_end = value & 1 << 1 != 0;
                self.special_nested = value & 1 << 4 != 0;
                self.expects = 0;
            }
            _ => self.masked = value,
        }
    }
}

/// The input of the first chip that the second is behind.
const CASCADE: u8 = 2;
/// Inputs whose trigger can be a level: not the timer, the keyboard, the cascade, the clock, the coprocessor.
const ELCR_WRITABLE: [u8; 2] = [0xf8, 0xde];

/// The pair.
#[derive(Clone, Debug)]
pub struct Pic {
    chips: [Chip; 2],
}

impl Pic {
    /// As after power-up.
    pub const fn new() -> Self {
        Self { chips: [Chip::new(); 2] }
    }

    /// Raises or lowers an ISA interrupt's line, 0 to 15.
    pub fn set(&mut self, line: u8, up: bool) {
        if let Some(chip) = self.chips.get_mut(usize::from(line / 8)) {
            chip.set(line % 8, up);
            self.cascade();
        }
    }

    /// Whether an interrupt is offered to the processor.
    pub fn interrupts(&self) -> bool {
        self.chips[0].pending(Some(CASCADE)).is_some()
    }

    /// The processor takes the interrupt: its vector. Where it has gone meanwhile it is input 7 of the chip.
    pub fn acknowledge(&mut self) -> u8 {
        const SPURIOUS: u8 = 7;
        let [first, second] = &mut self.chips;
        let Some(input) = first.pending(Some(CASCADE)) else { return first.base + SPURIOUS };
        first.acknowledge(input);
        let vector = if input == CASCADE {
            match second.pending(None) {
                Some(input) => {
                    second.acknowledge(input);
                    // Its output falls, and rises again where another waits.
                    first.set(CASCADE, false);
                    second.base + input
                }
                None => second.base + SPURIOUS,
            }
        } else {
            first.base + input
        };
        self.cascade();
        vector
    }

    /// Reads a port: 20h, 21h, A0h, A1h, 4D0h, 4D1h.
    pub fn read(&mut self, port: u16) -> u8 {
        let index = chip_of(port);
        if port >= 0x4d0 {
            return self.chips[index].level_triggered;
        }
        let slave = if index == 0 { Some(CASCADE) } else { None };
        let chip = &mut self.chips[index];
        if core::mem::take(&mut chip.polls) {
            let Some(input) = chip.pending(slave) else { return 0 };
            chip.acknowledge(input);
            self.cascade();
            return 1 << 7 | input;
        }
        match port & 1 {
            1 => chip.masked,
            _ if chip.reads_in_service => chip.in_service,
            _ => chip.requested,
        }
    }

    /// Writes a port.
    pub fn write(&mut self, port: u16, value: u8) {
        let index = chip_of(port);
        let chip = &mut self.chips[index];
        if port >= 0x4d0 {
            chip.level_triggered = value & ELCR_WRITABLE[index];
        } else if port & 1 == 0 {
            chip.command(value);
        } else {
            chip.data(value);
        }
        self.cascade();
    }

    fn cascade(&mut self) {
        let up = self.chips[1].pending(None).is_some();
        self.chips[0].set(CASCADE, up);
    }
}

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

/// The chip that a port is of.
const fn chip_of(port: u16) -> usize {
    if port >= 0x4d0 { (port & 1) as usize } else { (port >= 0xa0) as usize }
}
