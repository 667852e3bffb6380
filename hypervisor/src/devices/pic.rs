//! A pair of 8259A interrupt controllers, wired as in a PC (Intel's 8259A data sheet): the second one's output is input 2 of
//! the first. ELCR, at ports 4D0h and 4D1h, says which inputs interrupt by level (82371SB data sheet, "Edge/Level Control
//! Register"); ICW1's bit for that is not looked at.

mod chip;

#[cfg(test)]
mod tests;

use chip::Chip;

/// The input of the first chip that the second is behind.
const CASCADE: u8 = 2;
/// Inputs whose trigger can be a level: not the timer, the keyboard, the cascade, the clock, the coprocessor.
const ELCR_WRITABLE: [u8; 2] = [0xf8, 0xde];
/// The input that tells of an interrupt that has gone meanwhile.
const SPURIOUS: u8 = 7;

/// The pair.
#[derive(Clone, Debug)]
pub struct Pic {
    chips: [Chip; 2],
}

impl Pic {
    /// As after power-up.
    pub const fn new() -> Self {
        Self { chips: [Chip::new(Some(CASCADE)), Chip::new(None)] }
    }

    /// Raises or lowers an ISA interrupt's line, 0 to 15; 2 is none.
    #[inline]
    pub fn set(&mut self, line: u8, up: bool) {
        let (index, input) = (usize::from(line / 8), line % 8);
        let Some(chip) = self.chips.get_mut(index).filter(|_| line != CASCADE) else { return };
        if chip.is_up(input) == up {
            return;
        }
        chip.set(input, up);
        if index == 1 {
            self.cascade();
        }
    }

    /// Whether an interrupt is offered to the processor.
    #[inline]
    pub fn interrupts(&self) -> bool {
        self.chips[0].pending().is_some()
    }

    /// The processor takes the interrupt: its vector.
    pub fn acknowledge(&mut self) -> u8 {
        let [first, second] = &mut self.chips;
        let Some(input) = first.pending() else { return first.vector(SPURIOUS) };
        first.acknowledge(input);
        if input != CASCADE {
            return first.vector(input);
        }
        let taken = second.pending();
        if let Some(input) = taken {
            second.acknowledge(input);
        }
        let vector = second.vector(taken.unwrap_or(SPURIOUS));
        // The second's output falls with what it has sent, and rises again where another waits.
        first.set(CASCADE, false);
        self.cascade();
        vector
    }

    /// Reads a port: 20h, 21h, A0h, A1h, 4D0h, 4D1h.
    pub fn read(&mut self, port: u16) -> u8 {
        let chip = &mut self.chips[chip_of(port)];
        if port >= 0x4d0 {
            return chip.level_triggered();
        }
        let value = chip.read(port & 1 != 0);
        self.cascade();
        value
    }

    /// Writes a port.
    pub fn write(&mut self, port: u16, value: u8) {
        let index = chip_of(port);
        let chip = &mut self.chips[index];
        if port >= 0x4d0 {
            chip.set_level_triggered(value & ELCR_WRITABLE[index]);
        } else if port & 1 == 0 {
            chip.command(value);
        } else {
            chip.data(value);
        }
        self.cascade();
    }

    fn cascade(&mut self) {
        let up = self.chips[1].pending().is_some();
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
