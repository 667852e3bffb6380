//! An ATA disk on a PC's first channel (ATA/ATAPI-6): one drive, sectors moved by the processor, a sector to an interrupt.
//! No DMA, no multiple-sector commands; the second drive is absent.
//!
//! The drive holds one sector. When it wants one from the medium, or has one for it, [`Ata::request`] tells, and the drive
//! is busy until the caller has answered, at once or later.

mod command;
mod identify;
mod registers;

#[cfg(test)]
mod tests;

use command::{Command, Direction};
use registers::{Registers, error, status};

/// The channel's eight registers, of which the first is the data's.
pub const COMMAND_BLOCK: u16 = 0x1f0;
/// Device control, and the status that acknowledges nothing.
pub const CONTROL: u16 = 0x3f6;
/// Its interrupt.
pub const IRQ: u8 = 14;
/// Bytes of a sector.
pub const SECTOR: usize = 512;

const DATA: u16 = 0;
const STATUS: u16 = 7;
/// Device control: holds the drive in reset, keeps its interrupt off, shows what registers held before.
const SOFT_RESET: u8 = 1 << 2;
const NO_INTERRUPT: u8 = 1 << 1;
const SHOW_PREVIOUS: u8 = 1 << 7;

/// What a drive asks of its medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A sector is to be read: [`Ata::fetched`] answers.
    Fetch(u64),
    /// The sector in [`Ata::sector`] is to be written: [`Ata::stored`] answers.
    Store(u64),
    /// What was written is to last: [`Ata::stored`] answers.
    Flush,
}

/// The medium did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediumError;

/// What the drive is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// The medium has not answered yet.
    Busy(Request),
    /// The processor is to move the sector's bytes; so many have been moved.
    Moves(Direction, usize),
}

/// The channel and its drive.
#[derive(Clone, Debug)]
pub struct Ata {
    registers: Registers,
    state: State,
    /// The command under way: the next sector, how many are left.
    lba: u64,
    left: u32,
    sector: [u8; SECTOR],
    sectors: u64,
    interrupt: bool,
    control: u8,
}

impl Ata {
    /// A drive of so many sectors, after power-up. 0: there is no drive, and the channel floats.
    pub const fn new(sectors: u64) -> Self {
        Self {
            registers: Registers::new(),
            state: State::Idle,
            lba: 0,
            left: 0,
            sector: [0; SECTOR],
            sectors,
            interrupt: false,
            control: 0,
        }
    }

    /// Reads a port of the channel's; 16 or 32 bits at once only of the data port, and 8 of the others.
    pub fn read(&mut self, port: u16, bytes: u8) -> u32 {
        if self.sectors == 0 {
            return u32::MAX;
        }
        match port.wrapping_sub(COMMAND_BLOCK) {
            DATA => self.read_data(bytes),
            STATUS => {
                self.interrupt = false;
                self.status().into()
            }
            register @ 1..STATUS => self.registers.read(register, self.control & SHOW_PREVIOUS != 0).into(),
            _ if port == CONTROL => self.status().into(),
            _ => u32::MAX,
        }
    }

    /// Reads the data port again and again, 16 or 32 bits at once, for as many elements as `into` has room for, or until the
    /// sector's end: how often.
    pub fn read_run(&mut self, bytes: u8, into: &mut [u8]) -> usize {
        let width = width(bytes);
        let count = self.run(Direction::ToProcessor, bytes, into.len());
        if let State::Moves(Direction::ToProcessor, at) = self.state
            && let Some((run, from)) =
                into.get_mut(..count * width).zip(self.sector.get(at..at + count * width))
            && count > 0
        {
            run.copy_from_slice(from);
            self.has_read(at + count * width);
            return count;
        }
        let value = self.read(COMMAND_BLOCK, bytes).to_le_bytes();
        into.iter_mut().zip(value).take(width).for_each(|(to, from)| *to = from);
        1
    }

    /// Writes it again and again: how often.
    pub fn write_run(&mut self, bytes: u8, from: &[u8]) -> usize {
        let width = width(bytes);
        let count = self.run(Direction::FromProcessor, bytes, from.len());
        if let State::Moves(Direction::FromProcessor, at) = self.state
            && let Some((run, to)) =
                from.get(..count * width).zip(self.sector.get_mut(at..at + count * width))
            && count > 0
        {
            to.copy_from_slice(run);
            self.has_written(at + count * width);
            return count;
        }
        let mut value = [0; 4];
        value.iter_mut().zip(from).take(width).for_each(|(to, from)| *to = *from);
        self.write(COMMAND_BLOCK, bytes, u32::from_le_bytes(value));
        1
    }

    /// How many whole elements of `room` bytes the sector has left, or room for.
    fn run(&self, way: Direction, bytes: u8, room: usize) -> usize {
        match self.state {
            State::Moves(direction, at) if direction == way => {
                room.min(SECTOR.saturating_sub(at)) / width(bytes)
            }
            _ => 0,
        }
    }

    /// Writes a port of the channel's.
    pub fn write(&mut self, port: u16, bytes: u8, value: u32) {
        if self.sectors == 0 {
            return;
        }
        match port.wrapping_sub(COMMAND_BLOCK) {
            DATA => self.write_data(bytes, value),
            STATUS if self.takes_commands() => self.start(value as u8),
            register @ 1..STATUS if !self.is_busy() => {
                self.control &= !SHOW_PREVIOUS;
                self.registers.write(register, value as u8);
            }
            _ if port == CONTROL => self.write_control(value as u8),
            _ => {}
        }
    }

    /// Whether the interrupt line is up.
    pub const fn interrupts(&self) -> bool {
        self.interrupt && self.control & NO_INTERRUPT == 0 && !self.registers.selects_second()
    }

    /// What the drive waits for.
    pub const fn request(&self) -> Option<Request> {
        match self.state {
            State::Busy(request) if self.control & SOFT_RESET == 0 => Some(request),
            _ => None,
        }
    }

    /// The sector that is to be stored.
    pub const fn sector(&self) -> &[u8; SECTOR] {
        &self.sector
    }

    /// The sector that was asked for. Ignored where none was, as after a reset.
    pub fn fetched(&mut self, answer: Result<&[u8; SECTOR], MediumError>) {
        let State::Busy(Request::Fetch(_)) = self.state else { return };
        match answer {
            Ok(sector) => {
                self.sector = *sector;
                self.state = State::Moves(Direction::ToProcessor, 0);
                self.interrupt = true;
            }
            Err(MediumError) => self.fail(error::UNCORRECTABLE),
        }
    }

    /// The sector is stored, or what was stored lasts. Ignored where nothing was asked for.
    pub fn stored(&mut self, answer: Result<(), MediumError>) {
        let State::Busy(request @ (Request::Store(_) | Request::Flush)) = self.state else { return };
        match answer {
            Err(MediumError) => self.fail(error::UNCORRECTABLE),
            Ok(()) if request == Request::Flush => self.complete(),
            Ok(()) => {
                self.advance();
                if self.left == 0 {
                    self.complete();
                } else {
                    self.state = State::Moves(Direction::FromProcessor, 0);
                    self.interrupt = true;
                }
            }
        }
    }

    const fn is_busy(&self) -> bool {
        matches!(self.state, State::Busy(_)) || self.control & SOFT_RESET != 0
    }

    /// Commands are for the drive that is selected; a drive whose sector is being moved takes a new one, and forgets it.
    const fn takes_commands(&self) -> bool {
        !self.is_busy() && !self.registers.selects_second()
    }

    /// "Device 0 only configurations": the absent drive's status is 0.
    fn status(&self) -> u8 {
        if self.is_busy() {
            return status::BUSY;
        }
        if self.registers.selects_second() {
            return 0;
        }
        let moves = if matches!(self.state, State::Moves(..)) { status::DATA_REQUEST } else { 0 };
        let failed =
            if self.registers.error != 0 && !self.registers.is_diagnosed { status::ERROR } else { 0 };
        status::READY | status::SEEK_COMPLETE | moves | failed
    }

    fn write_control(&mut self, value: u8) {
        if self.control & SOFT_RESET != 0 && value & SOFT_RESET == 0 {
            // "Software reset protocol".
            *self = Self::new(self.sectors);
        } else if value & SOFT_RESET != 0 {
            (self.state, self.interrupt) = (State::Idle, false);
        }
        self.control = value & (SOFT_RESET | NO_INTERRUPT | SHOW_PREVIOUS);
    }

    fn start(&mut self, code: u8) {
        self.interrupt = false;
        (self.registers.error, self.registers.is_diagnosed) = (0, false);
        self.control &= !SHOW_PREVIOUS;
        match Command::from_code(code) {
            Command::Identify => {
                self.sector = identify::data(self.sectors);
                self.left = 1;
                self.state = State::Moves(Direction::ToProcessor, 0);
                self.interrupt = true;
            }
            Command::Move(direction, wide) => self.start_moving(direction, wide),
            Command::Verify(wide) => {
                let (lba, count) = self.registers.extent(wide);
                if self.has(lba, count) { self.complete() } else { self.fail(error::NOT_FOUND) }
            }
            Command::Flush => self.state = State::Busy(Request::Flush),
            Command::Diagnose => {
                self.registers = Registers::new();
                self.complete();
            }
            Command::SetFeatures if self.registers.asks_for_dma() => self.fail(error::ABORTED),
            Command::Nothing | Command::SetFeatures => self.complete(),
            Command::CheckPower => {
                self.registers.answer_power();
                self.complete();
            }
            Command::Unknown => self.fail(error::ABORTED),
        }
    }

    fn has(&self, lba: Option<u64>, count: u32) -> bool {
        lba.and_then(|lba| lba.checked_add(count.into())).is_some_and(|end| end <= self.sectors)
    }

    fn start_moving(&mut self, direction: Direction, wide: bool) {
        let (lba, count) = self.registers.extent(wide);
        // Where only the end is missing, what there is could be moved first; nobody asks for that.
        let Some(lba) = lba.filter(|_| self.has(lba, count)) else { return self.fail(error::NOT_FOUND) };
        (self.lba, self.left) = (lba, count);
        self.state = match direction {
            Direction::ToProcessor => State::Busy(Request::Fetch(lba)),
            // "PIO data-out": the first sector is asked for without an interrupt.
            Direction::FromProcessor => State::Moves(direction, 0),
        };
    }

    fn complete(&mut self) {
        (self.state, self.interrupt) = (State::Idle, true);
    }

    fn fail(&mut self, error: u8) {
        self.registers.error = error;
        self.complete();
    }

    fn advance(&mut self) {
        self.left -= self.left.min(1);
        self.lba = self.lba.wrapping_add(1);
    }

    fn read_data(&mut self, bytes: u8) -> u32 {
        // Where nothing is to be moved the bus holds what it held.
        let State::Moves(Direction::ToProcessor, at) = self.state else { return 0 };
        let width = width(bytes);
        let mut value = [0; 4];
        for (to, from) in value.iter_mut().zip(self.sector.iter().skip(at).take(width)) {
            *to = *from;
        }
        self.has_read(at + width);
        u32::from_le_bytes(value)
    }

    /// The processor has read the sector up to here.
    fn has_read(&mut self, at: usize) {
        self.state = State::Moves(Direction::ToProcessor, at);
        if at >= SECTOR {
            self.advance();
            self.state = if self.left == 0 { State::Idle } else { State::Busy(Request::Fetch(self.lba)) };
        }
    }

    fn write_data(&mut self, bytes: u8, value: u32) {
        let State::Moves(Direction::FromProcessor, at) = self.state else { return };
        let width = width(bytes);
        for (to, from) in self.sector.iter_mut().skip(at).take(width).zip(value.to_le_bytes()) {
            *to = from;
        }
        self.has_written(at + width);
    }

    /// The processor has written the sector up to here.
    fn has_written(&mut self, at: usize) {
        self.state = if at >= SECTOR {
            State::Busy(Request::Store(self.lba))
        } else {
            State::Moves(Direction::FromProcessor, at)
        };
    }
}

/// The data port moves 16 bits, or twice that.
const fn width(bytes: u8) -> usize {
    if bytes == 4 { 4 } else { 2 }
}
