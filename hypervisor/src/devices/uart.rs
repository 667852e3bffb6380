//! A 16550A (National Semiconductor's PC16550D data sheet): the PC's serial port.
//!
//! There is no line, so no speed and no errors on it; the divisor is only kept. What is written waits in the transmitter
//! until the caller takes it ([`Uart::outgoing`], [`Uart::sent`]), which may be at once, or when there is room elsewhere.
//! The caller looks at the interrupt line after the write and again after it has taken what was written: an edge lies
//! between the two.

use heapless::Deque;

/// Bytes of each FIFO.
pub const FIFO: usize = 16;

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
const FIFO_CLEAR_TRANSMITTER: u8 = 1 << 2;
const FIFO_TRIGGER: u8 = 3 << 6;
const MODEM_DTR: u8 = 1 << 0;
const MODEM_RTS: u8 = 1 << 1;
const MODEM_OUT1: u8 = 1 << 2;
const MODEM_OUT2: u8 = 1 << 3;
const LOOPBACK: u8 = 1 << 4;
const STATUS_READY: u8 = 1 << 0;
const STATUS_OVERRUN: u8 = 1 << 1;
const STATUS_HOLDING_EMPTY: u8 = 1 << 5;
const STATUS_IDLE: u8 = 1 << 6;
const RING: u8 = 1 << 6;
/// CTS, DSR, and a carrier: somebody listens.
const MODEM_CONNECTED: u8 = 1 << 4 | 1 << 5 | 1 << 7;
/// Interrupt identification, bits 3 to 0.
const ID_NONE: u8 = 0b0001;
const ID_LINE_STATUS: u8 = 0b0110;
const ID_RECEIVED: u8 = 0b0100;
const ID_RECEIVER_TIMEOUT: u8 = 0b1100;
const ID_TRANSMITTER: u8 = 0b0010;
const ID_MODEM_STATUS: u8 = 0b0000;

/// A serial port.
#[derive(Clone, Debug)]
pub struct Uart {
    received: Deque<u8, FIFO>,
    sending: Deque<u8, FIFO>,
    /// The transmitter has become empty, and nobody was told yet.
    tells_empty: bool,
    interrupt_enable: u8,
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    overrun: bool,
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
            sending: Deque::new(),
            tells_empty: false,
            interrupt_enable: 0,
            fifo_control: 0,
            line_control: 0,
            modem_control: 0,
            overrun: false,
            modem_before: MODEM_CONNECTED,
            modem_changes: 0,
            scratch: 0,
            divisor: 12,
        }
    }

    /// Reads a register, 0 to 7.
    pub fn read(&mut self, register: u16) -> u8 {
        let latch = self.line_control & DIVISOR_LATCH != 0;
        match register & 7 {
            DATA if latch => self.divisor as u8,
            INTERRUPT_ENABLE if latch => (self.divisor >> 8) as u8,
            DATA => self.received.pop_front().unwrap_or(0),
            INTERRUPT_ENABLE => self.interrupt_enable,
            INTERRUPT_ID => self.identify(),
            LINE_CONTROL => self.line_control,
            MODEM_CONTROL => self.modem_control,
            LINE_STATUS => {
                let ready = if self.received.is_empty() { 0 } else { STATUS_READY };
                let empty = if self.sending.is_empty() { STATUS_HOLDING_EMPTY | STATUS_IDLE } else { 0 };
                let overrun = if core::mem::take(&mut self.overrun) { STATUS_OVERRUN } else { 0 };
                ready | empty | overrun
            }
            MODEM_STATUS => self.modem_lines() | core::mem::take(&mut self.modem_changes),
            _ => self.scratch,
        }
    }

    /// Writes a register, 0 to 7. `true`: there is something to take ([`Uart::outgoing`]).
    pub fn write(&mut self, register: u16, value: u8) -> bool {
        let latch = self.line_control & DIVISOR_LATCH != 0;
        match register & 7 {
            DATA if latch => self.divisor = self.divisor & 0xff00 | u16::from(value),
            INTERRUPT_ENABLE if latch => self.divisor = self.divisor & 0xff | u16::from(value) << 8,
            DATA => return self.transmit(value),
            INTERRUPT_ENABLE => {
                // Who enables the interrupt of an empty transmitter has one at once.
                let enabled = value & !self.interrupt_enable & ENABLE_TRANSMITTER != 0;
                self.tells_empty |= enabled && self.sending.is_empty();
                self.interrupt_enable = value & 0xf;
            }
            INTERRUPT_ID => self.control_fifos(value),
            LINE_CONTROL => self.line_control = value,
            MODEM_CONTROL => {
                self.modem_control = value & 0x1f;
                self.note_modem_changes();
            }
            LINE_STATUS | MODEM_STATUS => {}
            _ => self.scratch = value,
        }
        false
    }

    const fn has_fifos(&self) -> bool {
        self.fifo_control & FIFO_ENABLE != 0
    }

    const fn capacity(&self) -> usize {
        if self.has_fifos() { FIFO } else { 1 }
    }

    fn transmit(&mut self, byte: u8) -> bool {
        self.tells_empty = false;
        if self.modem_control & LOOPBACK != 0 {
            self.arrive(byte);
            self.tells_empty = true;
            return false;
        }
        if self.sending.len() >= self.capacity() {
            // Nobody may do that; the last byte is overwritten.
            self.sending.pop_back();
        }
        // There is room by the capacity just looked at.
        let _ = self.sending.push_back(byte);
        true
    }

    /// The byte that is to be transmitted next.
    pub fn outgoing(&self) -> Option<u8> {
        self.sending.front().copied()
    }

    /// It was taken.
    pub fn sent(&mut self) {
        if self.sending.pop_front().is_some() && self.sending.is_empty() {
            self.tells_empty = true;
        }
    }

    /// FIFO control register. Its other bits count only together with the enabling one.
    fn control_fifos(&mut self, value: u8) {
        let changes = (value ^ self.fifo_control) & FIFO_ENABLE != 0;
        let enables = value & FIFO_ENABLE != 0;
        if changes || enables && value & FIFO_CLEAR_RECEIVER != 0 {
            self.received.clear();
        }
        if changes || enables && value & FIFO_CLEAR_TRANSMITTER != 0 {
            self.tells_empty |= !self.sending.is_empty();
            self.sending.clear();
        }
        self.fifo_control = if enables { value & (FIFO_ENABLE | FIFO_TRIGGER) } else { 0 };
    }

    /// Whether a byte can be received without loss.
    pub fn has_room(&self) -> bool {
        self.modem_control & LOOPBACK == 0 && self.received.len() < self.capacity()
    }

    /// A byte comes down the line, which is cut while the port is in loopback.
    pub fn receive(&mut self, byte: u8) {
        if self.modem_control & LOOPBACK == 0 {
            self.arrive(byte);
        }
    }

    /// "Line Status Register", overrun: the FIFO keeps what it has, the single register takes the new byte.
    fn arrive(&mut self, byte: u8) {
        if self.received.len() >= self.capacity() {
            self.overrun = true;
            if self.has_fifos() {
                return;
            }
            self.received.clear();
        }
        // There is room by the capacity just looked at.
        let _ = self.received.push_back(byte);
    }

    /// Whether the interrupt line is up. On a PC, OUT2 connects it; loopback takes OUT2 off.
    pub fn interrupts(&self) -> bool {
        self.modem_control & (MODEM_OUT2 | LOOPBACK) == MODEM_OUT2 && self.cause() != ID_NONE
    }

    /// "Interrupt Identification Register": what is most urgent.
    fn cause(&self) -> u8 {
        let enabled = |bit: u8| self.interrupt_enable & bit != 0;
        if enabled(ENABLE_LINE_STATUS) && self.overrun {
            ID_LINE_STATUS
        } else if enabled(ENABLE_RECEIVED) && !self.received.is_empty() {
            // Bytes come at once, so those below the trigger level have waited for longer than the time-out already.
            if self.received.len() >= self.trigger() { ID_RECEIVED } else { ID_RECEIVER_TIMEOUT }
        } else if enabled(ENABLE_TRANSMITTER) && self.tells_empty {
            ID_TRANSMITTER
        } else if enabled(ENABLE_MODEM_STATUS) && self.modem_changes != 0 {
            ID_MODEM_STATUS
        } else {
            ID_NONE
        }
    }

    const fn trigger(&self) -> usize {
        match self.fifo_control >> 6 {
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }

    fn identify(&mut self) -> u8 {
        let cause = self.cause();
        if cause == ID_TRANSMITTER {
            self.tells_empty = false;
        }
        cause | if self.has_fifos() { 0xc0 } else { 0 }
    }

    /// CTS, DSR, RI, DCD. In loopback they are RTS, DTR, OUT1, OUT2.
    fn modem_lines(&self) -> u8 {
        if self.modem_control & LOOPBACK == 0 {
            return MODEM_CONNECTED;
        }
        [(MODEM_RTS, 1 << 4), (MODEM_DTR, 1 << 5), (MODEM_OUT1, RING), (MODEM_OUT2, 1 << 7)]
            .iter()
            .filter(|(output, _)| self.modem_control & output != 0)
            .fold(0, |lines, (_, input)| lines | input)
    }

    fn note_modem_changes(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a driver leaves it: FIFOs, OUT2.
    fn ready(interrupts: u8) -> Uart {
        let mut uart = Uart::new();
        uart.write(INTERRUPT_ID, 0xc7);
        uart.write(MODEM_CONTROL, MODEM_OUT2 | MODEM_DTR | MODEM_RTS);
        uart.write(INTERRUPT_ENABLE, interrupts);
        uart
    }

    fn take(uart: &mut Uart) -> Vec<u8> {
        core::iter::from_fn(|| uart.outgoing().inspect(|_| uart.sent())).collect()
    }

    use std::vec::Vec;

    /// Table "UART Reset Configuration".
    #[test]
    fn after_reset() {
        let mut uart = Uart::new();
        assert_eq!([1, 2, 3, 4, 5, 6].map(|register| uart.read(register)), [0, 1, 0, 0, 0x60, 0xb0]);
        assert!(!uart.interrupts() && uart.outgoing().is_none());
    }

    /// What drivers do to find out which chip it is.
    #[test]
    fn it_is_a_16550a() {
        let mut uart = Uart::new();
        for (value, read) in [(0x00, 0x00), (0x0f, 0x0f), (0xff, 0x0f)] {
            uart.write(INTERRUPT_ENABLE, value);
            assert_eq!(uart.read(INTERRUPT_ENABLE), read);
        }
        uart.write(MODEM_CONTROL, LOOPBACK | MODEM_OUT2 | MODEM_RTS);
        assert_eq!(uart.read(MODEM_STATUS) & 0xf0, 0x90, "loopback test");
        uart.write(MODEM_CONTROL, 0xff);
        assert_eq!(uart.read(MODEM_CONTROL), 0x1f, "no automatic flow control");
        uart.write(7, 0xa5);
        assert_eq!(uart.read(7), 0xa5, "scratch");
        uart.write(INTERRUPT_ID, 1);
        assert_eq!(uart.read(INTERRUPT_ID) >> 6, 3, "FIFOs that work");
        uart.write(LINE_CONTROL, DIVISOR_LATCH | 3);
        uart.write(DATA, 0x34);
        uart.write(INTERRUPT_ENABLE, 0x12);
        assert_eq!((uart.read(DATA), uart.read(INTERRUPT_ENABLE)), (0x34, 0x12));
        assert_eq!(uart.read(INTERRUPT_ID) & 0x20, 0, "no FIFO of 64 bytes");
        uart.write(LINE_CONTROL, 3);
        assert_eq!(uart.read(INTERRUPT_ENABLE), 0x0f, "the latch hides it only");
    }

    #[test]
    fn it_transmits() {
        let mut uart = ready(0);
        assert!(uart.write(DATA, b'a'));
        assert_eq!(uart.read(LINE_STATUS), 0, "nobody took it yet");
        for byte in 1..16 {
            uart.write(DATA, byte);
        }
        assert_eq!(take(&mut uart).len(), 16);
        assert_eq!(uart.read(LINE_STATUS), 0x60);
        uart.write(INTERRUPT_ID, 0);
        uart.write(DATA, 1);
        uart.write(DATA, 2);
        assert_eq!(take(&mut uart), [2], "a single register");
    }

    /// "Transmitter Holding Register Empty" interrupt: by becoming empty, by being enabled; gone by reading or writing.
    #[test]
    fn an_empty_transmitter_interrupts() {
        let mut uart = ready(0);
        uart.write(INTERRUPT_ENABLE, ENABLE_TRANSMITTER);
        assert!(uart.interrupts());
        assert_eq!((uart.read(INTERRUPT_ID), uart.read(INTERRUPT_ID)), (0xc2, 0xc1));
        assert!(!uart.interrupts(), "reading which one it is ends it");
        uart.write(INTERRUPT_ENABLE, 0);
        uart.write(INTERRUPT_ENABLE, ENABLE_TRANSMITTER);
        assert!(uart.interrupts(), "enabling it again");
        uart.write(DATA, 1);
        assert!(!uart.interrupts(), "writing ends it");
        uart.write(DATA, 2);
        uart.sent();
        assert!(!uart.interrupts());
        uart.sent();
        assert!(uart.interrupts());
    }

    #[test]
    fn it_receives() {
        let mut uart = ready(ENABLE_RECEIVED | ENABLE_LINE_STATUS);
        uart.receive(1);
        assert_eq!(uart.read(INTERRUPT_ID), 0xcc, "below the trigger level");
        for byte in 2..=14 {
            uart.receive(byte);
        }
        assert_eq!(uart.read(INTERRUPT_ID), 0xc4);
        uart.receive(15);
        uart.receive(16);
        assert!(!uart.has_room());
        uart.receive(17);
        assert_eq!(uart.read(INTERRUPT_ID), 0xc6);
        assert_eq!((uart.read(LINE_STATUS), uart.read(LINE_STATUS)), (0x63, 0x61));
        for byte in 1..=16 {
            assert!(uart.interrupts());
            assert_eq!(uart.read(DATA), byte);
        }
        assert!(!uart.interrupts());
        assert_eq!((uart.read(LINE_STATUS), uart.read(INTERRUPT_ID)), (0x60, 0xc1));
    }

    #[test]
    fn the_single_register_is_overwritten() {
        let mut uart = Uart::new();
        uart.receive(1);
        assert!(!uart.has_room());
        uart.receive(2);
        assert_eq!((uart.read(LINE_STATUS), uart.read(DATA)), (0x63, 2));
    }

    #[test]
    fn fifos_are_cleared() {
        let mut uart = ready(0);
        uart.receive(1);
        uart.write(DATA, 1);
        uart.write(INTERRUPT_ID, FIFO_CLEAR_RECEIVER | FIFO_ENABLE);
        assert_eq!(uart.read(LINE_STATUS), 0);
        uart.write(INTERRUPT_ID, FIFO_CLEAR_TRANSMITTER | FIFO_ENABLE);
        assert_eq!(uart.read(LINE_STATUS), 0x60);
        uart.receive(1);
        uart.write(INTERRUPT_ID, 0xc0);
        assert_eq!((uart.read(LINE_STATUS), uart.read(INTERRUPT_ID)), (0x60, 1), "turned off, both are");
    }

    #[test]
    fn loopback() {
        let mut uart = ready(ENABLE_RECEIVED | ENABLE_MODEM_STATUS);
        uart.read(MODEM_STATUS);
        uart.write(MODEM_CONTROL, LOOPBACK | MODEM_OUT2);
        assert!(!uart.interrupts(), "no line to the outside");
        assert!(!uart.write(DATA, 0x5a));
        uart.receive(1);
        assert_eq!((uart.read(DATA), uart.read(LINE_STATUS)), (0x5a, 0x60));
        assert_eq!(uart.read(MODEM_STATUS), 0x83, "CTS and DSR went, DCD is OUT2");
        uart.write(MODEM_CONTROL, LOOPBACK | MODEM_OUT1);
        assert_eq!(uart.read(MODEM_STATUS), 0x48);
        uart.write(MODEM_CONTROL, LOOPBACK);
        assert_eq!(uart.read(INTERRUPT_ID), 0xc0);
        assert_eq!(uart.read(MODEM_STATUS), 0x04, "the ring's trailing edge");
        assert_eq!(uart.read(INTERRUPT_ID), 0xc1);
    }

    proptest! {
        /// Bytes go through in order, whatever is done to the rest.
        #[test]
        fn nothing_breaks_it(steps: [(u8, u16, u8); 40]) {
            let mut uart = Uart::new();
            for (what, register, value) in steps {
                match what % 4 {
                    0 => { uart.read(register); }
                    1 => prop_assert_eq!(uart.write(register, value) && uart.outgoing().is_none(), false),
                    2 => {
                        let (room, lost) = (uart.has_room(), uart.overrun);
                        uart.receive(value);
                        prop_assert!(!room || uart.overrun == lost);
                    }
                    _ => uart.sent(),
                }
                prop_assert!(uart.received.len() <= uart.capacity() && uart.sending.len() <= uart.capacity());
                prop_assert_eq!(uart.cause() == ID_NONE, uart.clone().identify() & 0xf == ID_NONE);
                prop_assert_eq!(uart.read(LINE_STATUS) & STATUS_READY != 0, !uart.received.is_empty());
            }
        }

        #[test]
        fn bytes_keep_their_order(bytes: Vec<u8>) {
            let (mut uart, mut out, mut back) = (ready(0), Vec::new(), Vec::new());
            for chunk in bytes.chunks(FIFO) {
                for &byte in chunk {
                    uart.write(DATA, byte);
                    uart.receive(byte);
                }
                out.extend(take(&mut uart));
                while uart.read(LINE_STATUS) & STATUS_READY != 0 {
                    back.push(uart.read(DATA));
                }
            }
            prop_assert_eq!(&out, &bytes);
            prop_assert_eq!(&back, &bytes);
        }
    }
}
