//! A 16550A (National Semiconductor's PC16550D data sheet): the PC's serial port.
//!
//! What is transmitted is handed to the caller at once, so that the transmitter is empty but while the caller has no room
//! ([`Uart::hold`]). There is no line, so no speed and no errors on it; the divisor is only kept.

use heapless::Deque;

/// Bytes of the receiver's FIFO.
const FIFO: usize = 16;

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const INTERRUPT_ID: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const MODEM_STATUS: u16 = 6;

const ENABLE_RECEIVED: u8 = 1 << 0;
const ENABLE_TRANSMITTER: u8 = 1 << 1;
const ENABLE_LINE_STATUS: u8 = 1 << 2;
const ENABLE_MODEM_STATUS: u8 = 1 << 3;
const DIVISOR_LATCH: u8 = 1 << 7;
const FIFO_ENABLE: u8 = 1 << 0;
const FIFO_CLEAR_RECEIVER: u8 = 1 << 1;
const MODEM_RTS: u8 = 1 << 1;
const MODEM_DTR: u8 = 1 << 0;
const MODEM_OUT1: u8 = 1 << 2;
const MODEM_OUT2: u8 = 1 << 3;
const LOOPBACK: u8 = 1 << 4;
const STATUS_READY: u8 = 1 << 0;
const STATUS_OVERRUN: u8 = 1 << 1;
const STATUS_HOLDING_EMPTY: u8 = 1 << 5;
const STATUS_IDLE: u8 = 1 << 6;
/// CTS, DSR, and a carrier: somebody listens.
const MODEM_CONNECTED: u8 = 1 << 4 | 1 << 5 | 1 << 7;

/// A serial port.
#[derive(Clone, Debug)]
pub struct Uart {
    received: Deque<u8, FIFO>,
    /// The transmitter has a byte that nobody took yet.
    holds: bool,
    /// The transmitter became empty, and nobody was told yet.
    transmitter_empty: bool,
    interrupt_enable: u8,
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    line_errors: u8,
    modem_before: u8,
    modem_changes: u8,
    scratch: u8,
    divisor: u16,
}

impl Uart {
    /// As after reset.
    pub const fn new() -> Self {
        Self {
            received: Deque::new(),
            holds: false,
            transmitter_empty: false,
            interrupt_enable: 0,
            fifo_control: 0,
            line_control: 0,
            modem_control: 0,
            line_errors: 0,
            modem_before: MODEM_CONNECTED,
            modem_changes: 0,
            scratch: 0,
            divisor: 12,
        }
    }

    /// Reads a register.
    pub fn read(&mut self, register: u16) -> u8 {
        let latch = self.line_control & DIVISOR_LATCH != 0;
        match register {
            DATA if latch => self.divisor as u8,
            INTERRUPT_ENABLE if latch => (self.divisor >> 8) as u8,
            DATA => self.received.pop_front().unwrap_or(0),
            INTERRUPT_ENABLE => self.interrupt_enable,
            INTERRUPT_ID => self.identify(),
            LINE_CONTROL => self.line_control,
            MODEM_CONTROL => self.modem_control,
            LINE_STATUS => {
                let ready = if self.received.is_empty() { 0 } else { STATUS_READY };
                let empty = if self.holds { 0 } else { STATUS_HOLDING_EMPTY | STATUS_IDLE };
                core::mem::take(&mut self.line_errors) | ready | empty
            }
            MODEM_STATUS => self.modem_lines() | core::mem::take(&mut self.modem_changes),
            _ => self.scratch,
        }
    }

    /// Writes a register. What is to be transmitted comes back.
    pub fn write(&mut self, register: u16, value: u8) -> Option<u8> {
        let latch = self.line_control & DIVISOR_LATCH != 0;
        match register {
            DATA if latch => self.divisor = self.divisor & 0xff00 | u16::from(value),
            INTERRUPT_ENABLE if latch => self.divisor = self.divisor & 0xff | u16::from(value) << 8,
            DATA => {
                self.transmitter_empty = true;
                if self.modem_control & LOOPBACK == 0 {
                    return Some(value);
                }
                self.receive(value);
            }
            INTERRUPT_ENABLE => {
                // Who enables the interrupt of an empty transmitter has one at once.
                let enabled = value & !self.interrupt_enable & ENABLE_TRANSMITTER != 0;
                self.transmitter_empty |= enabled && !self.holds;
                self.interrupt_enable = value & 0xf;
            }
            INTERRUPT_ID => {
                if value & FIFO_CLEAR_RECEIVER != 0 || (value ^ self.fifo_control) & FIFO_ENABLE != 0 {
                    self.received.clear();
                }
                self.fifo_control = value & (FIFO_ENABLE | 0xc0);
            }
            LINE_CONTROL => self.line_control = value,
            MODEM_CONTROL => {
                self.modem_control = value & 0x1f;
                self.note_modem_changes();
            }
            LINE_STATUS | MODEM_STATUS => {}
            _ => self.scratch = value,
        }
        None
    }

    /// The byte that was transmitted could not be taken: the transmitter is not empty until [`Uart::release`].
    pub fn hold(&mut self) {
        self.holds = true;
        self.transmitter_empty = false;
    }

    /// It was taken.
    pub fn release(&mut self) {
        self.holds = false;
        self.transmitter_empty = true;
    }

    /// Whether a byte can be received without loss.
    pub fn has_room(&self) -> bool {
        let size = if self.fifo_control & FIFO_ENABLE != 0 { FIFO } else { 1 };
        self.modem_control & LOOPBACK == 0 && self.received.len() < size
    }

    /// A byte arrives.
    pub fn receive(&mut self, byte: u8) {
        let size = if self.fifo_control & FIFO_ENABLE != 0 { FIFO } else { 1 };
        if self.received.len() >= size || self.received.push_back(byte).is_err() {
            self.line_errors |= STATUS_OVERRUN;
        }
    }

    /// Whether the interrupt line is up. OUT2 connects it, on a PC.
    pub fn interrupts(&self) -> bool {
        self.modem_control & (MODEM_OUT2 | LOOPBACK) == MODEM_OUT2 && self.cause().is_some()
    }

    /// "Interrupt Identification Register": what is most urgent, as its bits 3 to 1.
    fn cause(&self) -> Option<u8> {
        let enabled = |bit: u8| self.interrupt_enable & bit != 0;
        if enabled(ENABLE_LINE_STATUS) && self.line_errors != 0 {
            Some(0b0110)
        } else if enabled(ENABLE_RECEIVED) && !self.received.is_empty() {
            // Below the trigger level it is what the receiver's time-out would be, which has no time here.
            Some(if self.received.len() >= self.trigger() { 0b0100 } else { 0b1100 })
        } else if enabled(ENABLE_TRANSMITTER) && self.transmitter_empty {
            Some(0b0010)
        } else if enabled(ENABLE_MODEM_STATUS) && self.modem_changes != 0 {
            Some(0)
        } else {
            None
        }
    }

    fn trigger(&self) -> usize {
        match self.fifo_control >> 6 {
            _ if self.fifo_control & FIFO_ENABLE == 0 => 1,
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }

    fn identify(&mut self) -> u8 {
        const NONE: u8 = 1;
        const TRANSMITTER: u8 = 0b0010;
        let cause = self.cause();
        if cause == Some(TRANSMITTER) {
            self.transmitter_empty = false;
        }
        let fifos = if self.fifo_control & FIFO_ENABLE != 0 { 0xc0 } else { 0 };
        cause.unwrap_or(NONE) | fifos
    }

    /// CTS, DSR, RI, DCD. In loopback they are RTS, DTR, OUT1, OUT2.
    fn modem_lines(&self) -> u8 {
        if self.modem_control & LOOPBACK == 0 {
            return MODEM_CONNECTED;
        }
        [(MODEM_RTS, 4), (MODEM_DTR, 5), (MODEM_OUT1, 6), (MODEM_OUT2, 7)]
            .iter()
            .filter(|(output, _)| self.modem_control & output != 0)
            .fold(0, |lines, (_, input)| lines | 1 << input)
    }

    fn note_modem_changes(&mut self) {
        const RING: u8 = 1 << 6;
        let (before, now) = (self.modem_before, self.modem_lines());
        // The ring indicator counts where it ends.
        let changed = (before ^ now) & !RING | before & !now & RING;
        self.modem_changes |= changed >> 4;
        self.modem_before = now;
    }
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}
