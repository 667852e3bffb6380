//! The second serial port: a 16550, which domain 0 owns (ports 0x2f8 to 0x2ff, interrupt 3).
//!
//! Its interrupt is an edge: it comes again only after every cause of it was dealt with. So [`Uart::attend`] goes on
//! until the UART says that none is left. It wakes domain 0 and no more than that; bytes are moved by the loop. What
//! came waits in memory, because the FIFO of 16 bytes overruns while domain 0 builds a guest.

use alloc::collections::VecDeque;

/// First port of the second serial line.
pub const COM2: u16 = 0x2f8;
/// The global system interrupt that ISA interrupt 3 is.
pub const COM2_GSI: u32 = 3;

/// Receiver buffer (read), transmitter holding (write); divisor's low byte while DLAB is set.
const DATA: u16 = 0;
/// Interrupt enable; divisor's high byte while DLAB is set.
const INTERRUPT_ENABLE: u16 = 1;
/// Interrupt identification (read), FIFO control (write).
const INTERRUPT_ID: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const MODEM_STATUS: u16 = 6;
const SCRATCH: u16 = 7;

/// Line status: a byte has come; the transmitter takes bytes; the transmitter has sent all.
const DATA_READY: u8 = 1 << 0;
const HOLDING_EMPTY: u8 = 1 << 5;
const ALL_SENT: u8 = 1 << 6;

/// Bytes the transmitter takes when it is empty.
const FIFO: usize = 16;
/// Bytes that wait in memory; more wait in the UART, which stops the sender or loses them.
const BUFFER: usize = 32 * 1024;
/// Looks in a row before the device counts as mad: an interrupt a byte, and some.
const PATIENCE: usize = 1024;

/// The eight registers of a UART.
pub trait Registers {
    /// Reads the register at this offset.
    fn read(&mut self, register: u16) -> u8;
    /// Writes the register at this offset.
    fn write(&mut self, register: u16, value: u8);
}

/// A 16550 in use.
pub struct Uart<R> {
    registers: R,
    received: VecDeque<u8>,
}

impl<R: Registers> Uart<R> {
    /// Sets the line up: 115200 baud, 8 bits, FIFOs, interrupts. `None`: there is no UART.
    pub fn new(mut registers: R) -> Option<Self> {
        for probe in [0x5a, 0xa5] {
            registers.write(SCRATCH, probe);
            if registers.read(SCRATCH) != probe {
                return None;
            }
        }
        let set_up = [
            (INTERRUPT_ENABLE, 0),
            // DLAB; divisor 1; 8 bits, no parity, one stop bit.
            (LINE_CONTROL, 0x80),
            (DATA, 1),
            (INTERRUPT_ENABLE, 0),
            (LINE_CONTROL, 0x03),
            // FIFOs on and empty, an interrupt for each byte.
            (INTERRUPT_ID, 0x07),
            // DTR, RTS, and OUT2, which lets the interrupt out of a PC's UART.
            (MODEM_CONTROL, 0x0b),
            // A byte came; the transmitter is empty.
            (INTERRUPT_ENABLE, 0x03),
        ];
        for (register, value) in set_up {
            registers.write(register, value);
        }
        let mut uart = Self { registers, received: VecDeque::new() };
        uart.attend();
        Some(uart)
    }

    /// Takes what has come, until no cause for an interrupt is left.
    pub fn attend(&mut self) {
        for _ in 0..PATIENCE {
            self.drain();
            let cause = self.registers.read(INTERRUPT_ID);
            if cause & 1 != 0 {
                return;
            }
            match cause >> 1 & 7 {
                // Reading the cause was the answer, or the drain will be.
                1 | 2 | 6 => {}
                3 => drop(self.registers.read(LINE_STATUS)),
                _ => drop(self.registers.read(MODEM_STATUS)),
            }
            if self.received.len() >= BUFFER {
                return;
            }
        }
    }

    /// The next byte that came.
    pub fn receive(&mut self) -> Option<u8> {
        self.received.pop_front()
    }

    /// Whether bytes that came wait to be received.
    pub fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// Sends what `next` gives, as far as the transmitter takes it. The interrupt tells when it takes more.
    pub fn send(&mut self, mut next: impl FnMut() -> Option<u8>) {
        if self.registers.read(LINE_STATUS) & HOLDING_EMPTY == 0 {
            return;
        }
        for byte in core::iter::from_fn(&mut next).take(FIFO) {
            self.registers.write(DATA, byte);
        }
    }

    /// Whether all that was sent has left.
    pub fn is_idle(&mut self) -> bool {
        self.registers.read(LINE_STATUS) & ALL_SENT != 0
    }

    fn drain(&mut self) {
        // The bound is the buffer's; a line that is always ready fills it and is left alone then.
        while self.received.len() < BUFFER && self.registers.read(LINE_STATUS) & DATA_READY != 0 {
            self.received.push_back(self.registers.read(DATA));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// A UART as the data sheet has it, as far as it matters here.
    #[derive(Default)]
    struct Chip {
        coming: VecDeque<u8>,
        sent: Vec<u8>,
        scratch: u8,
        enabled: u8,
        line_control: u8,
        holding: usize,
        empty_pending: bool,
        modem_pending: bool,
    }

    impl Registers for &mut Chip {
        fn read(&mut self, register: u16) -> u8 {
            match register {
                DATA => self.coming.pop_front().unwrap_or(0xee),
                INTERRUPT_ID if !self.coming.is_empty() => 0xc4,
                INTERRUPT_ID if core::mem::take(&mut self.empty_pending) => 0xc2,
                INTERRUPT_ID => 0xc0 | u8::from(!self.modem_pending),
                LINE_STATUS => {
                    let empty = if self.holding == 0 { HOLDING_EMPTY | ALL_SENT } else { 0 };
                    u8::from(!self.coming.is_empty()) | empty
                }
                MODEM_STATUS => {
                    self.modem_pending = false;
                    0
                }
                SCRATCH => self.scratch,
                _ => 0,
            }
        }

        fn write(&mut self, register: u16, value: u8) {
            match register {
                DATA if self.line_control & 0x80 == 0 => {
                    self.holding += 1;
                    assert!(self.holding <= FIFO, "the FIFO overran");
                    self.sent.push(value);
                }
                INTERRUPT_ENABLE if self.line_control & 0x80 == 0 => {
                    self.enabled = value;
                    self.empty_pending = value & 2 != 0;
                }
                LINE_CONTROL => self.line_control = value,
                SCRATCH => self.scratch = value,
                _ => {}
            }
        }
    }

    #[test]
    fn all_causes_are_dealt_with() {
        let mut chip = Chip { modem_pending: true, coming: (0..40).collect(), ..Chip::default() };
        let mut uart = Uart::new(&mut chip).unwrap();
        assert_eq!(core::iter::from_fn(|| uart.receive()).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
        assert!(chip.read_cause_is_none());
        assert_eq!(chip.enabled, 3);
    }

    impl Chip {
        fn read_cause_is_none(&self) -> bool {
            self.coming.is_empty() && !self.empty_pending && !self.modem_pending
        }
    }

    #[test]
    fn bytes_leave_a_fifo_at_a_time() {
        let mut chip = Chip::default();
        let mut uart = Uart::new(&mut chip).unwrap();
        let mut bytes = 0..100u8;
        uart.send(|| bytes.next());
        uart.send(|| bytes.next());
        assert!(!uart.is_idle());
        uart.registers.holding = 0;
        uart.send(|| bytes.next());
        assert_eq!(chip.sent, (0..32).collect::<Vec<_>>());
    }

    /// What no device answers reads as ones.
    struct Nothing;

    impl Registers for Nothing {
        fn read(&mut self, _: u16) -> u8 {
            0xff
        }

        fn write(&mut self, _: u16, _: u8) {}
    }

    #[test]
    fn where_no_uart_is_there_is_none() {
        assert!(Uart::new(Nothing).is_none());
    }

    #[test]
    fn a_mad_device_is_given_up_on() {
        let mut uart = Uart { registers: Nothing, received: VecDeque::new() };
        uart.attend();
        assert_eq!(uart.received.len(), BUFFER);
    }
}
