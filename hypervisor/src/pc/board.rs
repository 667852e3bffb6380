//! The devices that a full guest's processors share, wired as on a PC's board. Its home core has them; a sibling that
//! wants something of them asks home.
//!
//! Time is system time in nanoseconds. Interrupt lines go to the 8259 pair and to the I/O APIC alike, and it is the guest's
//! to say which of the two it listens to; what the I/O APIC sends gathers in an outbox, for the core to post.

use arrayvec::ArrayVec;

use super::console::Console;
use super::disk::Disk;
use crate::cpuid_policy::apic_id;
use crate::devices::ata;
use crate::devices::cmos::{self, Cmos};
use crate::devices::debug::{self, Debug};
use crate::devices::fw_cfg::{self, FwCfg};
use crate::devices::i8042::{self, I8042};
use crate::devices::io_apic::{IoApic, PINS};
use crate::devices::message::Message;
use crate::devices::pci::{self, Pci};
use crate::devices::pic::Pic;
use crate::devices::pit::{self, Pit};
use crate::devices::pm::{self, Pm};
use crate::devices::uart::Uart;

/// ISA interrupts.
const TIMER: u8 = 0;
const SERIAL: u8 = 4;
const SCI: u8 = 9;
/// The I/O APIC's input that the timer is wired to; all others are on that of their number.
const TIMER_PIN: usize = 2;
/// APIC id of the I/O APIC, as the guest's MADT has it.
const IO_APIC_ID: u8 = 0xf;
const COM1: u16 = 0x3f8;
/// Type of memory in a memory map.
const RAM: u32 = 1;
const RESET_CONTROL: u16 = 0xcf9;
/// The port behind PCI's configuration data.
const PCI_END: u16 = pci::DATA + 4;
/// The port behind the ATA controller's first block.
const ATA_END: u16 = ata::COMMAND_BLOCK + 8;

/// What a guest may do to its PC as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Nothing.
    Stays,
    /// It resets it.
    Reset,
    /// It switches it off.
    Off,
}

/// The board.
#[derive(Debug)]
pub struct Board {
    pic: Pic,
    pit: Pit,
    io_apic: IoApic,
    uart: Uart,
    cmos: Cmos,
    pm: Pm,
    pci: Pci,
    /// Where the power-management block is, as [`Pci::power_base`] has it; 0: nowhere.
    power_base: u16,
    keyboard: I8042,
    debug: Debug,
    /// What firmware asks the board, where there is firmware.
    pub fw_cfg: Option<FwCfg>,
    /// The drive of the ATA controller, if there is one.
    pub disk: Option<Disk>,
    /// Where the serial port leads; `None`: nowhere.
    pub console: Option<Console>,
    /// Printed since domain 0 was told.
    pub has_printed: bool,
    /// Something happened that an interrupt may follow from, or domain 0 is to be told.
    pub has_changed: bool,
    /// The next deadline may be another.
    pub is_retimed: bool,
    /// The interrupt lines as they are, a bit each.
    lines: u16,
    /// Interrupts that the I/O APIC has sent.
    pub outbox: ArrayVec<Message, { 2 * PINS }>,
    /// Nanoseconds from the machine's system time to the time of day.
    epoch: u64,
}

/// A clock's ticks a nanosecond, as a fraction of 2^64.
const fn rate(hz: u64) -> u128 {
    ((hz as u128) << 64) / 1_000_000_000
}

/// How often a clock of this rate has ticked by now.
const fn ticks(ns: u64, hz: u64) -> u64 {
    ((ns as u128 * rate(hz)) >> 64) as u64
}

/// The least time at which such a clock has counted so far.
const fn nanoseconds(ticks: u64, hz: u64) -> u64 {
    (((ticks & 0xffff_ffff_ffff) as u128) << 64).div_ceil(rate(hz)) as u64
}

impl Board {
    /// Tells firmware what the board has: so many bytes of memory, and processors.
    pub fn describe(&mut self, memory: u64, processors: u16) {
        const FIRST_DISK: u8 = 2;
        self.cmos.put_memory(memory, 0);
        self.cmos.put(cmos::MORE_PROCESSORS, processors.saturating_sub(1) as u8);
        self.cmos.put(cmos::BOOT_ORDER, FIRST_DISK);
        let mut fw_cfg = FwCfg::new();
        let described = fw_cfg
            .describe(memory, processors, apic_id(processors.saturating_sub(1).into()) as u16 + 1)
            .and_then(|()| fw_cfg.add_memory_map(&[(0, memory, RAM)]))
            .and_then(|()| fw_cfg.add_file("etc/sercon-port", &COM1.to_le_bytes()));
        debug_assert!(described.is_ok(), "the store has room for what every board says");
        self.fw_cfg = Some(fw_cfg);
    }

    /// A board at power-up. `epoch`: nanoseconds from 1970 to the machine's start.
    pub const fn new(epoch: u64) -> Self {
        Self {
            pic: Pic::new(),
            pit: Pit::new(),
            io_apic: IoApic::new(IO_APIC_ID),
            uart: Uart::new(),
            cmos: Cmos::new(epoch),
            pm: Pm::new(),
            pci: Pci::new(),
            power_base: pm::EVENT,
            keyboard: I8042::new(),
            debug: Debug::new(),
            fw_cfg: None,
            disk: None,
            console: None,
            has_printed: false,
            has_changed: true,
            is_retimed: true,
            lines: 0,
            outbox: ArrayVec::new_const(),
            epoch,
        }
    }

    /// Reads a port. Where nothing is, the bus floats: all ones.
    #[inline]
    pub fn read_port(&mut self, port: u16, bytes: u8, now: u64) -> u32 {
        if bytes == 1 { self.read_byte(port, now).into() } else { self.read_wide(port, bytes, now) }
    }

    #[inline(never)]
    fn read_wide(&mut self, port: u16, bytes: u8, now: u64) -> u32 {
        if (port, bytes) == (pci::ADDRESS, 4) {
            return self.pci.address();
        }
        if port == ata::COMMAND_BLOCK {
            return self.read_disk(port, bytes);
        }
        (0..bytes).rev().fold(0, |value, byte| {
            value << 8 | u32::from(self.read_byte(port.wrapping_add(byte.into()), now))
        })
    }

    /// Reads a port again and again, for as many elements as `into` has room for, or until something happens: how many.
    pub fn read_run(&mut self, port: u16, bytes: u8, into: &mut [u8], now: u64) -> usize {
        if port == ata::COMMAND_BLOCK
            && bytes > 1
            && let Some(disk) = &mut self.disk
        {
            let moved = disk.read_run(bytes, into);
            let is_up = disk.interrupts();
            self.set(ata::IRQ, is_up);
            return moved;
        }
        let mut moved = 0;
        for element in into.chunks_exact_mut(bytes.into()) {
            let value = self.read_port(port, bytes, now);
            element.copy_from_slice(&value.to_le_bytes()[..usize::from(bytes)]);
            moved += 1;
            if self.has_changed {
                break;
            }
        }
        moved
    }

    /// Writes a port again and again, for as many elements as `from` has, or fewer: how many. 0: it is not one that takes
    /// more than one at once.
    pub fn write_run(&mut self, port: u16, bytes: u8, from: &[u8]) -> usize {
        let Some(disk) = self.disk.as_mut().filter(|_| port == ata::COMMAND_BLOCK && bytes > 1) else {
            return 0;
        };
        let moved = disk.write_run(bytes, from);
        let is_up = disk.interrupts();
        self.set(ata::IRQ, is_up);
        moved
    }

    /// Writes a port.
    #[inline(never)]
    pub fn write_port(&mut self, port: u16, bytes: u8, value: u32, now: u64) -> Power {
        if bytes == 1 {
            self.write_byte(port, value as u8, now)
        } else {
            self.write_wide(port, bytes, value, now)
        }
    }

    #[inline(never)]
    fn write_wide(&mut self, port: u16, bytes: u8, value: u32, now: u64) -> Power {
        match (port, bytes) {
            (pci::ADDRESS, 4) => {
                self.pci.set_address(value);
                return Power::Stays;
            }
            (ata::COMMAND_BLOCK, _) => {
                self.write_disk(port, bytes, value);
                return Power::Stays;
            }
            (fw_cfg::SELECTOR, 2) => {
                if let Some(fw_cfg) = &mut self.fw_cfg {
                    fw_cfg.select(value as u16);
                }
                return Power::Stays;
            }
            _ => {}
        }
        let mut power = Power::Stays;
        for byte in 0..bytes {
            let done = self.write_byte(port.wrapping_add(byte.into()), (value >> (8 * byte)) as u8, now);
            if done != Power::Stays {
                power = done;
            }
        }
        power
    }

    #[inline(never)]
    fn read_byte(&mut self, port: u16, now: u64) -> u8 {
        match port {
            COM1..0x400 => self.read_serial(port),
            0x40..=0x43 | 0x61 => self.pit.read(port, ticks(now, pit::HZ)),
            _ => self.read_seldom(port, now),
        }
    }

    #[inline]
    fn read_serial(&mut self, port: u16) -> u8 {
        let value = self.uart.read(port - COM1);
        if port == COM1 {
            self.take_keys();
        }
        self.set(SERIAL, self.uart.interrupts());
        value
    }

    /// What no program reads in a loop.
    #[inline(never)]
    fn read_seldom(&mut self, port: u16, now: u64) -> u8 {
        match port {
            0x20 | 0x21 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1 => self.pic.read(port),
            cmos::INDEX | cmos::DATA => {
                let value = self.cmos.read(port, self.epoch + now);
                self.set_clock(now);
                value
            }
            i8042::DATA | i8042::COMMAND | i8042::CONTROL_A => {
                let value = self.keyboard.read(port);
                self.set(i8042::IRQ, self.keyboard.interrupts());
                value
            }
            ata::COMMAND_BLOCK..ATA_END | ata::CONTROL => self.read_disk(port, 1) as u8,
            pci::DATA..PCI_END => self.pci.read(port),
            fw_cfg::DATA => self.fw_cfg.as_mut().map_or(0xff, FwCfg::read),
            // Firmware that asks the board prints on the serial port, and not all twice.
            debug::PRINT_SEABIOS if self.fw_cfg.is_some() => 0xff,
            debug::PROGRESS | debug::PRINT | debug::PRINT_SEABIOS => self.debug.read(port),
            _ => match self.power_port(port) {
                Some(port) => {
                    let value = self.pm.read(port, ticks(now, pm::HZ));
                    self.set_power(now);
                    value
                }
                None => 0xff,
            },
        }
    }

    #[inline(never)]
    fn write_byte(&mut self, port: u16, value: u8, now: u64) -> Power {
        const HARD_RESET: u8 = 1 << 2;
        if let COM1..0x400 = port {
            if self.uart.write(port - COM1, value) {
                self.set(SERIAL, self.uart.interrupts());
                self.print();
            }
            self.set(SERIAL, self.uart.interrupts());
            return Power::Stays;
        }
        // Another deadline may follow, or that an interrupt is offered no more.
        (self.has_changed, self.is_retimed) = (true, true);
        match port {
            0x20 | 0x21 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1 => self.pic.write(port, value),
            0x40..=0x43 | 0x61 => self.pit.write(port, value, ticks(now, pit::HZ)),
            cmos::INDEX | cmos::DATA => {
                self.cmos.write(port, value, self.epoch + now);
                self.set_clock(now);
            }
            RESET_CONTROL if value & HARD_RESET != 0 => return Power::Reset,
            i8042::DATA | i8042::COMMAND | i8042::CONTROL_A => {
                let is_reset = self.keyboard.write(port, value);
                self.set(i8042::IRQ, self.keyboard.interrupts());
                if is_reset {
                    return Power::Reset;
                }
            }
            ata::COMMAND_BLOCK..ATA_END | ata::CONTROL => self.write_disk(port, 1, value.into()),
            pci::DATA..PCI_END => {
                self.pci.write(port, value);
                self.power_base = self.pci.power_base().unwrap_or(0);
            }
            debug::PRINT_SEABIOS if self.fw_cfg.is_some() => {}
            debug::PROGRESS | debug::PRINT | debug::PRINT_SEABIOS => {
                if let Some(byte) = self.debug.write(port, value) {
                    self.print_debug(byte);
                }
            }
            _ => {
                if let Some(port) = self.power_port(port) {
                    let is_off = self.pm.write(port, value, ticks(now, pm::HZ));
                    self.set_power(now);
                    if is_off {
                        return Power::Off;
                    }
                }
            }
        }
        Power::Stays
    }

    /// The power-management block's port that this is, as if the block were at its usual place.
    fn power_port(&self, port: u16) -> Option<u16> {
        let offset = port.checked_sub(self.power_base).filter(|_| self.power_base != 0)?;
        (offset < pm::END - pm::EVENT).then_some(pm::EVENT + offset)
    }

    /// Reads a register of the I/O APIC's.
    pub fn read_io_apic(&self, offset: u32) -> u32 {
        self.io_apic.read(offset)
    }

    /// Writes one.
    pub fn write_io_apic(&mut self, offset: u32, value: u32) {
        let messages = self.io_apic.write(offset, value);
        self.post(messages);
    }

    /// A level-triggered interrupt has ended at some local APIC.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        let messages = self.io_apic.end(vector);
        self.post(messages);
    }

    /// Whether the 8259 pair offers an interrupt.
    pub fn offers_external(&self) -> bool {
        self.pic.interrupts()
    }

    /// The processor takes it.
    pub fn acknowledge_external(&mut self) -> u8 {
        self.has_changed = true;
        self.pic.acknowledge()
    }

    /// Moves what is printed and typed, as far as there is room: domain 0 has said that it did its part.
    pub fn pump(&mut self) {
        self.print();
        self.take_keys();
        self.set(SERIAL, self.uart.interrupts());
    }

    /// Lets time go by.
    pub fn advance(&mut self, now: u64) {
        if self.pit.expire(ticks(now, pit::HZ)) {
            self.set(TIMER, false);
            self.set(TIMER, true);
        }
        if !self.pit.output(ticks(now, pit::HZ)) {
            self.set(TIMER, false);
        }
        self.set_clock(now);
        self.set_power(now);
        (self.has_changed, self.is_retimed) = (true, true);
    }

    /// When something is due next, in nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        let pit = self.pit.deadline().map(|due| nanoseconds(due, pit::HZ));
        let cmos = self.cmos.deadline().map(|due| due.saturating_sub(self.epoch));
        let pm = self.pm.deadline().map(|due| nanoseconds(due, pm::HZ));
        [pit, cmos, pm].into_iter().flatten().min()
    }

    /// Takes what is to be transmitted, as far as there is room for it.
    fn print(&mut self) {
        while let Some(byte) = self.uart.outgoing() {
            if let Some(console) = &mut self.console {
                if !console.print(byte) {
                    break;
                }
                (self.has_printed, self.has_changed) = (true, true);
            }
            self.uart.sent();
        }
    }

    /// What is printed by way of a debug port goes to the console too; what finds no room there is lost.
    fn print_debug(&mut self, byte: u8) {
        if let Some(console) = &mut self.console {
            // The write was noted as a change already.
            self.has_printed |= console.print(byte);
        }
    }

    fn take_keys(&mut self) {
        let Some(console) = &mut self.console else { return };
        while self.uart.has_room() {
            let Some(key) = console.key() else { break };
            self.uart.receive(key);
        }
    }

    /// Where there is no disk there is no controller, and the bus floats.
    fn read_disk(&mut self, port: u16, bytes: u8) -> u32 {
        let Some(disk) = &mut self.disk else { return u32::MAX };
        let value = disk.read(port, bytes);
        let is_up = disk.interrupts();
        self.set(ata::IRQ, is_up);
        value
    }

    fn write_disk(&mut self, port: u16, bytes: u8, value: u32) {
        let Some(disk) = &mut self.disk else { return };
        disk.write(port, bytes, value);
        let is_up = disk.interrupts();
        self.set(ata::IRQ, is_up);
    }

    fn set_clock(&mut self, now: u64) {
        let is_up = self.cmos.interrupts(self.epoch + now);
        self.set(cmos::IRQ, is_up);
    }

    fn set_power(&mut self, now: u64) {
        let is_up = self.pm.interrupts(ticks(now, pm::HZ));
        self.set(SCI, is_up);
    }

    /// Brings an interrupt line to where its device has it.
    #[inline]
    fn set(&mut self, line: u8, up: bool) {
        if (self.lines & 1 << line != 0) == up {
            return;
        }
        self.turn(line, up);
    }

    #[inline(never)]
    fn turn(&mut self, line: u8, up: bool) {
        self.lines ^= 1 << line;
        self.has_changed = true;
        self.is_retimed |= line != SERIAL;
        self.pic.set(line, up);
        let pin = if line == TIMER { TIMER_PIN } else { usize::from(line) };
        let message = self.io_apic.set(pin, up);
        self.post(message);
    }

    /// The outbox is emptied after every access; one access sends no more than it holds.
    fn post(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            let is_full = self.outbox.try_push(message).is_err();
            debug_assert!(!is_full, "an access sends each input's interrupt twice at most");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::message::Delivery;

    #[test]
    fn clocks_agree_both_ways() {
        for ns in [0, 1, 838, 839, 1_000_000_000, 1 << 55] {
            let count = ticks(ns, pit::HZ);
            let next = nanoseconds(count + 1, pit::HZ);
            assert_eq!(ticks(next, pit::HZ), count + 1);
            assert_eq!(ticks(next - 1, pit::HZ), count);
        }
        assert_eq!(ticks(10_000_000_000, pit::HZ), 11_931_819);
    }

    #[test]
    fn the_timer_interrupts_by_both_controllers() {
        let mut board = Board::new(0);
        for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xfe)] {
            board.write_port(port, 1, value, 0);
        }
        board.write_io_apic(0, 0x10 + 2 * TIMER_PIN as u32);
        board.write_io_apic(0x10, 0x31);
        board.write_port(0x43, 1, 0x34, 0);
        board.write_port(0x40, 1, 0xa9, 0);
        board.write_port(0x40, 1, 0x04, 0);
        let due = board.deadline().unwrap();
        assert!((999_000..1_001_000).contains(&due), "{due}");
        board.advance(due - 2_000);
        assert!(!board.offers_external() && board.outbox.is_empty());
        board.advance(due);
        assert_eq!(board.outbox.pop().map(|message| message.delivery), Some(Delivery::Fixed(0x31)));
        assert_eq!(board.acknowledge_external(), 0x20);
    }

    #[test]
    fn firmware_asks_the_board_in_runs() {
        let mut board = Board::new(0);
        let mut bytes = [0; 6];
        board.write_port(fw_cfg::SELECTOR, 2, 0, 0);
        board.has_changed = false;
        assert_eq!(
            (board.read_run(fw_cfg::DATA, 1, &mut bytes, 0), bytes),
            (6, [0xff; 6]),
            "nobody is there"
        );
        board.describe(64 << 20, 2);
        assert_eq!((board.read_run(fw_cfg::DATA, 1, &mut bytes, 0), &bytes), (6, b"QEMU\0\0"));
        board.write_port(cmos::INDEX, 1, 0x35, 0);
        assert_eq!(board.read_port(cmos::DATA, 1, 0), 0x03, "48 MiB from 16 MiB up");
        board.has_changed = true;
        assert_eq!(board.read_run(fw_cfg::DATA, 1, &mut bytes, 0), 1, "something happens");
    }

    #[test]
    fn a_guest_switches_its_pc_off_and_resets_it() {
        let mut board = Board::new(0);
        assert_eq!(board.write_port(0x604, 2, 0x3401, 0), Power::Off);
        board.write_port(0xcf8, 4, 0x8000_0b40, 0);
        board.write_port(0xcfc, 4, 0xb001, 0);
        assert_eq!(board.write_port(0x604, 2, 0x3401, 0), Power::Stays, "it has moved");
        assert_eq!(board.write_port(0xb004, 2, 0x2001, 0), Power::Off, "as the PIIX4's tables say");
        assert_eq!(board.write_port(0xcf9, 1, 6, 0), Power::Reset);
        assert_eq!(board.write_port(0x64, 1, 0xfe, 0), Power::Reset);
        assert_eq!(board.write_port(0x92, 1, 1, 0), Power::Reset);
        assert_eq!(board.read_port(0x1234, 4, 0), u32::MAX);
        // There is no disk, and so no controller.
        assert_eq!((board.read_port(0x1f7, 1, 0), board.read_port(0x1f0, 2, 0)), (0xff, u32::MAX));
    }

    #[test]
    fn a_guest_finds_its_bridges() {
        let mut board = Board::new(0);
        board.write_port(0xcfb, 1, 1, 0);
        board.write_port(0xcf8, 4, 0x8000_0000, 0);
        assert_eq!(board.read_port(0xcf8, 4, 0), 0x8000_0000);
        assert_eq!(board.read_port(0xcfc, 4, 0), 0x1237_8086);
        assert_eq!(board.read_port(0xcfe, 2, 0), 0x1237);
    }
}
