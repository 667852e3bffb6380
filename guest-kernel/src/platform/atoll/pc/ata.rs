//! An ATA disk, by programmed I/O and without interrupts (ATA/ATAPI-6, "PIO data-in command protocol").

use core::arch::asm;

use x86::io::{inb, outb};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// The first ports of a PC's two channels, and the control port of each.
const CHANNELS: [(u16, u16); 2] = [(0x1f0, 0x3f6), (0x170, 0x376)];
/// Registers, from the channel's first port on.
const COUNT: u16 = 2;
const DEVICE: u16 = 6;
const COMMAND: u16 = 7;
/// The first drive, addressed by sector.
const MASTER: u8 = 0xe0;
const NO_INTERRUPTS: u8 = 1 << 1;
const IDENTIFY: u8 = 0xec;
const READ_SECTORS: u8 = 0x20;
const WRITE_SECTORS: u8 = 0x30;
/// Status.
const BUSY: u8 = 1 << 7;
const WANTS_DATA: u8 = 1 << 3;
const FAILED: u8 = 1 << 5 | 1 << 0;
/// Looks at a busy drive before it counts as dead.
const PATIENCE: u32 = 10_000_000;

/// The first drive of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    port: u16,
}

impl Disk {
    /// The first disk there is. A drive that is none, as one for CDs, refuses to identify itself.
    pub fn find() -> Option<Self> {
        let disk = |(port, control)| {
            // SAFETY: the registers of a channel, which nobody else uses; where there is none, nothing happens.
            unsafe { outb(control, NO_INTERRUPTS) };
            let disk = Self { port };
            disk.write(DEVICE, MASTER);
            // A channel without drives floats, or is pulled down.
            if [0, 0xff].contains(&disk.read(COMMAND)) {
                return None;
            }
            disk.write(COMMAND, IDENTIFY);
            disk.take(&mut [0; SECTOR]).then_some(disk)
        };
        CHANNELS.into_iter().find_map(disk)
    }

    /// Reads sectors, from this one on, that fill `into`: at most 255. `false`: the drive failed.
    pub fn read_sectors(&self, first: u32, into: &mut [u8]) -> bool {
        let (sectors, _) = into.as_chunks_mut::<SECTOR>();
        self.command(READ_SECTORS, first, sectors.len() as u8);
        sectors.iter_mut().all(|sector| self.take(sector))
    }

    /// Writes a sector. `false`: the drive failed.
    pub fn write_sector(&self, number: u32, sector: &[u8; SECTOR]) -> bool {
        self.command(WRITE_SECTORS, number, 1);
        if !self.wants_data() {
            return false;
        }
        // SAFETY: the data port, written from the sector and no further.
        unsafe {
            asm!("rep outsw", in("dx") self.port, inout("rsi") sector.as_ptr() => _,
                 inout("rcx") SECTOR / 2 => _, options(nostack, preserves_flags, readonly));
        }
        self.status() & (BUSY | FAILED | WANTS_DATA) == 0
    }

    fn command(&self, command: u8, first: u32, sectors: u8) {
        let [low, middle, high, top] = first.to_le_bytes();
        self.write(DEVICE, MASTER | top & 0xf);
        for (register, value) in (COUNT..).zip([sectors, low, middle, high]) {
            self.write(register, value);
        }
        self.write(COMMAND, command);
    }

    /// The status as soon as the drive is no longer busy.
    fn status(&self) -> u8 {
        let mut patience = PATIENCE;
        loop {
            let status = self.read(COMMAND);
            patience -= 1;
            if status & BUSY == 0 || patience == 0 {
                return status;
            }
            core::hint::spin_loop();
        }
    }

    fn wants_data(&self) -> bool {
        self.status() & (BUSY | FAILED | WANTS_DATA) == WANTS_DATA
    }

    /// Takes a sector as soon as the drive has it.
    fn take(&self, sector: &mut [u8; SECTOR]) -> bool {
        if !self.wants_data() {
            return false;
        }
        // SAFETY: the data port, read into the sector and no further.
        unsafe {
            asm!("rep insw", in("dx") self.port, inout("rdi") sector.as_mut_ptr() => _,
                 inout("rcx") SECTOR / 2 => _, options(nostack, preserves_flags));
        }
        true
    }

    fn read(&self, register: u16) -> u8 {
        // SAFETY: a register of the channel's, which nobody else uses.
        unsafe { inb(self.port + register) }
    }

    fn write(&self, register: u16, value: u8) {
        // SAFETY: as above; interrupts are off.
        unsafe { outb(self.port + register, value) }
    }
}
