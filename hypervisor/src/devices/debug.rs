//! Ports that programs leave word at: 80h, where firmware says how far it is, and those that print: E9h, as Bochs has it,
//! and 402h, where SeaBIOS looks for it.

/// Firmware's progress.
pub const PROGRESS: u16 = 0x80;
/// Prints a byte.
pub const PRINT: u16 = 0xe9;
/// The same for SeaBIOS.
pub const PRINT_SEABIOS: u16 = 0x402;
/// Who reads this knows that it prints.
const PRINTS: u8 = 0xe9;

/// The ports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debug {
    /// What was last written to port 80h.
    pub progress: u8,
}

impl Debug {
    /// Nothing was written yet.
    pub const fn new() -> Self {
        Self { progress: 0 }
    }

    /// Reads a port.
    pub const fn read(&self, port: u16) -> u8 {
        match port {
            PROGRESS => self.progress,
            PRINT | PRINT_SEABIOS => PRINTS,
            _ => 0xff,
        }
    }

    /// Writes a port. What it prints comes back.
    pub const fn write(&mut self, port: u16, value: u8) -> Option<u8> {
        match port {
            PROGRESS => self.progress = value,
            PRINT | PRINT_SEABIOS => return Some(value),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let mut debug = Debug::default();
        assert_eq!(
            (debug.write(0xe9, b'a'), debug.write(0x402, b'b'), debug.write(0x80, 7)),
            (Some(b'a'), Some(b'b'), None)
        );
        assert_eq!(
            (debug.read(0xe9), debug.read(0x402), debug.read(0x80), debug.read(0x81)),
            (0xe9, 0xe9, 7, 0xff)
        );
        assert_eq!(debug.write(0x81, 1), None);
    }
}
