//! The second serial port: a 16550, which domain 0 owns (ports 0x2f8 to 0x2ff, interrupt 3).
//!
//! Its interrupt is an edge: it comes again only after every cause of it was dealt with. So [`Uart::attend`] goes on
//! until the UART says that none is left. It wakes domain 0 and no more than that; bytes are moved by the loop. What
//! came waits in memory, because the FIFO of 16 bytes overruns while domain 0 builds a guest. What overruns all the
//! same costs frames, which the toolstack sends again: see [`super::session`].

use alloc::collections::VecDeque;

use arrayvec::ArrayVec;
use uart_16550::backend::Backend;
use uart_16550::spec::FIFO_SIZE;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, InterruptType, LSR};
use uart_16550::{BaudRate, Config, Uart16550};

/// First port of the second serial line.
pub const COM2: u16 = 0x2f8;
/// The global system interrupt that ISA interrupt 3 is.
pub const COM2_GSI: u32 = 3;

/// Bytes that wait in memory; more wait in the UART, which stops the sender or loses them.
const BUFFER: usize = 32 * 1024;
/// Looks in a row before the device counts as mad: an interrupt a byte, and some.
const PATIENCE: usize = 1024;

/// A 16550 in use.
pub struct Uart<B: Backend> {
    chip: Uart16550<B>,
    received: VecDeque<u8>,
}

impl<B: Backend> Uart<B> {
    /// Sets the line up: 115200 baud, 8 bits, FIFOs, an interrupt for each byte that came and when the transmitter is
    /// empty. `None`: there is no UART.
    pub fn new(mut chip: Uart16550<B>) -> Option<Self> {
        let config = Config {
            baud_rate: BaudRate::Baud115200,
            fifo_trigger_level: Some(FifoTriggerLevel::One),
            interrupts: IER::DATA_READY | IER::THR_EMPTY,
            ..Config::DEFAULT
        };
        chip.init(config).ok()?;
        let mut uart = Self { chip, received: VecDeque::new() };
        uart.attend();
        Some(uart)
    }

    /// Takes what has come, until no cause for an interrupt is left.
    pub fn attend(&mut self) {
        for _ in 0..PATIENCE {
            self.drain();
            match self.chip.isr().interrupt_type() {
                None => return,
                Some(InterruptType::ReceiverLineStatus) => drop(self.chip.lsr()),
                Some(InterruptType::ModemStatus) => drop(self.chip.msr()),
                // To read the cause was the answer, or the drain will be.
                Some(_) => {}
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
    pub fn send(&mut self, next: impl FnMut() -> Option<u8>) {
        if self.chip.ready_to_send().is_err() {
            return;
        }
        let room = if self.chip.fifo_enabled() { FIFO_SIZE } else { 1 };
        let bytes: ArrayVec<u8, FIFO_SIZE> = core::iter::from_fn(next).take(room).collect();
        self.chip.send_bytes(&bytes);
    }

    /// Whether all that was sent has left.
    pub fn is_idle(&mut self) -> bool {
        self.chip.lsr().contains(LSR::TRANSMITTER_EMPTY)
    }

    fn drain(&mut self) {
        // The bound is the buffer's; a line that is always ready fills it and is left alone then.
        while self.received.len() < BUFFER
            && let Ok(byte) = self.chip.try_receive_byte()
        {
            self.received.push_back(byte);
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "the trait's methods are unsafe, for the sake of those that reach a device")]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use uart_16550::spec::registers::offsets;

    const DATA: u8 = offsets::DATA as u8;
    const INTERRUPT_ENABLE: u8 = offsets::IER as u8;
    const INTERRUPT_ID: u8 = offsets::ISR as u8;
    const LINE_CONTROL: u8 = offsets::LCR as u8;
    const LINE_STATUS: u8 = offsets::LSR as u8;
    const MODEM_STATUS: u8 = offsets::MSR as u8;
    const SCRATCH: u8 = offsets::SPR as u8;

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

    impl Backend for &mut Chip {
        unsafe fn read(&mut self, register: u8) -> u8 {
            match register {
                DATA => self.coming.pop_front().unwrap_or(0xee),
                INTERRUPT_ID if !self.coming.is_empty() => 0xc4,
                INTERRUPT_ID if core::mem::take(&mut self.empty_pending) => 0xc2,
                INTERRUPT_ID => 0xc0 | u8::from(!self.modem_pending),
                LINE_STATUS => {
                    let empty = LSR::THR_EMPTY | LSR::TRANSMITTER_EMPTY;
                    u8::from(!self.coming.is_empty()) | if self.holding == 0 { empty.bits() } else { 0 }
                }
                MODEM_STATUS => {
                    self.modem_pending = false;
                    0
                }
                SCRATCH => self.scratch,
                _ => 0,
            }
        }

        unsafe fn write(&mut self, register: u8, value: u8) {
            match register {
                DATA if self.line_control & 0x80 == 0 => {
                    self.holding += 1;
                    assert!(self.holding <= FIFO_SIZE, "the FIFO overran");
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

    fn uart<B: Backend>(chip: B) -> Option<Uart<B>> {
        // SAFETY: no device is behind it.
        Uart::new(unsafe { Uart16550::new_with_backend(chip) })
    }

    #[test]
    fn all_causes_are_dealt_with() {
        let mut chip = Chip::default();
        let mut line = uart(&mut chip).unwrap();
        assert!(!line.chip.backend().empty_pending, "the first interrupt is answered");
        line.chip.backend_mut().modem_pending = true;
        line.chip.backend_mut().coming.extend(0..40);
        line.attend();
        assert_eq!(core::iter::from_fn(|| line.receive()).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
        assert!(chip.coming.is_empty() && !chip.empty_pending && !chip.modem_pending);
        assert_eq!(chip.enabled, 3);
    }

    #[test]
    fn bytes_leave_a_fifo_at_a_time() {
        let mut chip = Chip::default();
        let mut line = uart(&mut chip).unwrap();
        let mut bytes = 0..100u8;
        line.send(|| bytes.next());
        line.send(|| bytes.next());
        assert!(!line.is_idle());
        line.chip.backend_mut().holding = 0;
        line.send(|| bytes.next());
        assert_eq!(chip.sent, (0..32).collect::<Vec<_>>());
    }

    /// What no device answers reads as ones.
    struct Nothing;

    impl Backend for Nothing {
        unsafe fn read(&mut self, _: u8) -> u8 {
            0xff
        }

        unsafe fn write(&mut self, _: u8, _: u8) {}
    }

    #[test]
    fn where_no_uart_is_there_is_none() {
        assert!(uart(Nothing).is_none());
    }

    #[test]
    fn a_mad_device_is_given_up_on() {
        // SAFETY: no device is behind it.
        let chip = unsafe { Uart16550::new_with_backend(Nothing) };
        let mut line = Uart { chip, received: VecDeque::new() };
        line.attend();
        assert_eq!(line.received.len(), BUFFER);
    }
}
