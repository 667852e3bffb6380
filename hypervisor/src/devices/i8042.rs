//! A keyboard controller with nothing plugged in (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
//! Device Controller"), and system control port A beside it.
//!
//! Kernels and firmware look for it, test it, and reset the PC through it. The address line A20 can be set and read back;
//! memory does not wrap round either way.

/// Data, and status or command.
pub const DATA: u16 = 0x60;
/// Status when read, commands when written.
pub const COMMAND: u16 = 0x64;
/// System control port A.
pub const CONTROL_A: u16 = 0x92;
/// Its interrupt: a byte from the keyboard's side.
pub const IRQ: u8 = 1;

const STATUS_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
const STATUS_TIMEOUT: u8 = 1 << 6;

const CONFIG_INTERRUPT: u8 = 1 << 0;
const CONFIG_SYSTEM: u8 = 1 << 2;
const CONFIG_KEYBOARD_OFF: u8 = 1 << 4;
const CONFIG_MOUSE_OFF: u8 = 1 << 5;

const OUTPUT_NOT_RESET: u8 = 1 << 0;
const OUTPUT_A20: u8 = 1 << 1;
const OUTPUT_FULL: u8 = 1 << 4;

const TEST_PASSED: u8 = 0x55;
const LINES_FINE: u8 = 0x00;
/// There is no second port: its clock line stays low.
const CLOCK_STUCK_LOW: u8 = 0x01;
/// What a device that does not answer is answered for.
const NO_ANSWER: u8 = 0xfe;

/// The controller.
#[derive(Clone, Debug)]
pub struct I8042 {
    config: u8,
    /// What waits to be read, and whether it is for want of an answer.
    output: Option<(u8, bool)>,
    /// The command that the next byte of data belongs to.
    command: Option<u8>,
    was_command: bool,
    a20: bool,
}

impl I8042 {
    /// As after power-up.
    pub const fn new() -> Self {
        Self {
            config: CONFIG_KEYBOARD_OFF | CONFIG_MOUSE_OFF,
            output: None,
            command: None,
            was_command: false,
            a20: true,
        }
    }

    /// Reads a port: 60h, 64h or 92h.
    pub fn read(&mut self, port: u16) -> u8 {
        match port {
            DATA => self.output.take().map_or(0, |(byte, _)| byte),
            COMMAND => {
                let output = match self.output {
                    None => 0,
                    Some((_, false)) => STATUS_FULL,
                    Some((_, true)) => STATUS_FULL | STATUS_TIMEOUT,
                };
                let system = if self.config & CONFIG_SYSTEM != 0 { STATUS_SYSTEM } else { 0 };
                let command = if self.was_command { STATUS_COMMAND } else { 0 };
                STATUS_UNLOCKED | output | system | command
            }
            CONTROL_A => u8::from(self.a20) << 1,
            _ => 0xff,
        }
    }

    /// Writes a port. `true`: the PC is reset.
    pub fn write(&mut self, port: u16, value: u8) -> bool {
        match port {
            DATA => {
                self.was_command = false;
                return self.data(value);
            }
            COMMAND => {
                self.was_command = true;
                return self.command(value);
            }
            CONTROL_A => {
                self.a20 = value & 1 << 1 != 0;
                return value & 1 != 0;
            }
            _ => {}
        }
        false
    }

    fn command(&mut self, command: u8) -> bool {
        self.command = None;
        let answer = match command {
            0x20 => self.config,
            0x60 | 0xd1..=0xd4 => {
                self.command = Some(command);
                return false;
            }
            0xa7 => return self.configure(self.config | CONFIG_MOUSE_OFF),
            0xa8 => return self.configure(self.config & !CONFIG_MOUSE_OFF),
            0xa9 => CLOCK_STUCK_LOW,
            0xaa => {
                self.config |= CONFIG_SYSTEM;
                TEST_PASSED
            }
            0xab => LINES_FINE,
            0xad => return self.configure(self.config | CONFIG_KEYBOARD_OFF),
            0xae => return self.configure(self.config & !CONFIG_KEYBOARD_OFF),
            // Input port: not locked.
            0xc0 => 1 << 7,
            0xd0 => {
                let full = if self.output.is_some() { OUTPUT_FULL } else { 0 };
                OUTPUT_NOT_RESET | if self.a20 { OUTPUT_A20 } else { 0 } | full
            }
            // Pulses those of the output port's lower four lines whose bit is 0; the first is the processor's reset.
            0xf0..=0xff => return command & 1 == 0,
            _ => return false,
        };
        self.output = Some((answer, false));
        false
    }

    const fn configure(&mut self, config: u8) -> bool {
        self.config = config;
        false
    }

    fn data(&mut self, value: u8) -> bool {
        match self.command.take() {
            Some(0x60) => self.config = value,
            Some(0xd1) => {
                self.a20 = value & OUTPUT_A20 != 0;
                return value & OUTPUT_NOT_RESET == 0;
            }
            // As if the keyboard had sent it; also where it should be the second port, which there is not.
            Some(0xd2 | 0xd3) => self.output = Some((value, false)),
            // To a keyboard, or a mouse, that is not there.
            _ => self.output = Some((NO_ANSWER, true)),
        }
        false
    }

    /// Whether the interrupt line is up.
    pub const fn interrupts(&self) -> bool {
        self.output.is_some() && self.config & CONFIG_INTERRUPT != 0
    }
}

impl Default for I8042 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(controller: &mut I8042, command: u8) -> u8 {
        assert!(!controller.write(COMMAND, command));
        assert_eq!(controller.read(COMMAND) & STATUS_FULL, STATUS_FULL);
        controller.read(DATA)
    }

    /// What kernels and firmware do to find it.
    #[test]
    fn it_is_there() {
        let mut controller = I8042::new();
        assert_eq!(controller.read(COMMAND), STATUS_UNLOCKED, "nothing waits, nothing is locked");
        assert_eq!(ask(&mut controller, 0xaa), 0x55);
        assert_eq!(controller.read(COMMAND), STATUS_UNLOCKED | STATUS_SYSTEM | STATUS_COMMAND);
        assert_eq!((ask(&mut controller, 0xab), ask(&mut controller, 0xa9)), (0, 1));
        assert_eq!(ask(&mut controller, 0x20), 0x34);
        for (command, config) in [(0xae, 0x24), (0xa8, 0x04), (0xad, 0x14), (0xa7, 0x34)] {
            controller.write(COMMAND, command);
            assert_eq!(ask(&mut controller, 0x20), config);
        }
        controller.write(COMMAND, 0x60);
        controller.write(DATA, 0x41);
        assert_eq!(ask(&mut controller, 0x20), 0x41);
        assert_eq!(controller.read(0x61), 0xff);
    }

    #[test]
    fn nobody_answers() {
        let mut controller = I8042::new();
        controller.write(DATA, 0xff);
        assert_eq!(controller.read(COMMAND) & (STATUS_FULL | STATUS_TIMEOUT), STATUS_FULL | STATUS_TIMEOUT);
        assert!(!controller.interrupts());
        controller.write(COMMAND, 0x60);
        controller.write(DATA, CONFIG_INTERRUPT);
        assert!(controller.interrupts());
        assert_eq!(controller.read(DATA), 0xfe);
        assert!(!controller.interrupts() && controller.read(COMMAND) & STATUS_FULL == 0);
        controller.write(COMMAND, 0xd2);
        controller.write(DATA, 0x5a);
        assert_eq!(controller.read(DATA), 0x5a);
    }

    #[test]
    fn resets() {
        let reset = |accesses: &[(u16, u8)]| {
            let mut controller = I8042::new();
            accesses.iter().any(|&(port, value)| controller.write(port, value))
        };
        assert!(reset(&[(COMMAND, 0xfe)]) && !reset(&[(COMMAND, 0xff)]));
        assert!(reset(&[(COMMAND, 0xd1), (DATA, 0xfe)]) && !reset(&[(COMMAND, 0xd1), (DATA, 0xdf)]));
        assert!(reset(&[(CONTROL_A, 1)]) && !reset(&[(CONTROL_A, 2)]));
    }

    #[test]
    fn a20() {
        let mut controller = I8042::new();
        for (value, a20) in [(0xdd, 0), (0xdf, 2)] {
            controller.write(COMMAND, 0xd1);
            controller.write(DATA, value);
            assert_eq!((controller.read(CONTROL_A), ask(&mut controller, 0xd0) & OUTPUT_A20), (a20, a20));
        }
        controller.write(CONTROL_A, 0);
        assert_eq!(controller.read(CONTROL_A), 0);
    }

    proptest! {
        /// Whoever reads what waits finds the buffer empty soon: nothing fills it by itself.
        #[test]
        fn nothing_breaks_it(accesses: [(bool, u8, u8); 40]) {
            let mut controller = I8042::new();
            for (writes, place, value) in accesses {
                let port = [DATA, COMMAND, CONTROL_A][usize::from(place) % 3];
                if writes { controller.write(port, value); } else { controller.read(port); }
            }
            controller.read(DATA);
            prop_assert_eq!(controller.read(COMMAND) & STATUS_FULL, 0);
            prop_assert!(!controller.interrupts());
        }
    }
}
