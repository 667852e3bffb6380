//! The transfer disk ([`abi::control::transfer`]): an ATA disk that pieces of images are read from, sector by sector,
//! by programmed I/O. It is never written.
//!
//! Interrupts of the disk are off: a piece is there within moments, and domain 0 waits for it. What the disk says is
//! bounded like all that comes from outside; a disk that does not answer costs [`PATIENCE`] looks at it.

use alloc::vec::Vec;

use abi::control::transfer::{COMMAND_PORT, CONTROL_PORT, MAGIC, MAX_BYTES, SECTOR};

/// Looks at a busy disk before it counts as dead.
const PATIENCE: u32 = 20_000_000;
/// The most sectors of one command.
const MOST: usize = 256;

/// Status: the disk is busy with a command.
const BUSY: u8 = 0x80;
/// Status: a sector waits to be read.
const DATA_REQUEST: u8 = 0x08;
/// Status: the command failed, or the disk has.
const FAILED: u8 = 0x21;
/// Status of a channel without a disk, where nobody drives the lines; or of one that reads as nought.
const NOBODY: [u8; 2] = [0xff, 0x00];
/// Command: read sectors by number.
const READ_SECTORS: u8 = 0x20;
/// The master, addressed by sector number.
const MASTER: u8 = 0xe0;
/// Control: no interrupts.
const NO_INTERRUPTS: u8 = 0x02;

/// The ports of the channel.
pub trait Ports {
    /// Reads a byte.
    fn read(&mut self, port: u16) -> u8;
    /// Writes a byte.
    fn write(&mut self, port: u16, value: u8);
    /// Reads a sector's words, 16 bits each, from one port.
    fn read_sector(&mut self, port: u16, sector: &mut [u8; SECTOR]);
}

/// The first `bytes` that lie on the disk behind its header. `None`: there is no such disk, it failed, or so many do not
/// lie there.
pub fn read(ports: &mut impl Ports, bytes: usize) -> Option<Vec<u8>> {
    if bytes > MAX_BYTES {
        return None;
    }
    let mut piece = Vec::with_capacity(SECTOR + bytes.next_multiple_of(SECTOR));
    let sectors = 1 + bytes.div_ceil(SECTOR);
    for first in (0..sectors).step_by(MOST) {
        read_sectors(ports, first, (sectors - first).min(MOST), &mut piece)?;
        if !piece.starts_with(MAGIC) {
            return None;
        }
    }
    piece.drain(..SECTOR);
    piece.truncate(bytes);
    Some(piece)
}

fn read_sectors(ports: &mut impl Ports, first: usize, count: usize, into: &mut Vec<u8>) -> Option<()> {
    ports.write(CONTROL_PORT, NO_INTERRUPTS);
    ports.write(COMMAND_PORT + 6, MASTER);
    if NOBODY.contains(&ports.read(COMMAND_PORT + 7)) {
        return None;
    }
    wait(ports)?;
    let [low, middle, high, ..] = (first as u32).to_le_bytes();
    // 256 sectors are told as nought.
    for (register, value) in [(2, count as u8), (3, low), (4, middle), (5, high), (7, READ_SECTORS)] {
        ports.write(COMMAND_PORT + register, value);
    }
    for _ in 0..count {
        // The disk has 400 ns to become busy, which four looks at it take.
        for _ in 0..4 {
            ports.read(CONTROL_PORT);
        }
        let status = wait(ports)?;
        if status & FAILED != 0 || status & DATA_REQUEST == 0 {
            return None;
        }
        let mut sector = [0; SECTOR];
        ports.read_sector(COMMAND_PORT, &mut sector);
        into.extend_from_slice(&sector);
    }
    Some(())
}

/// Waits until the disk is not busy: its status then.
fn wait(ports: &mut impl Ports) -> Option<u8> {
    (0..PATIENCE).map(|_| ports.read(COMMAND_PORT + 7)).find(|status| status & BUSY == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// A disk as the standard has it, as far as it matters here.
    struct Disk {
        content: Vec<u8>,
        registers: [u8; 8],
        position: usize,
        left: usize,
        busy: u32,
        fails: bool,
    }

    impl Disk {
        fn new(data: &[u8]) -> Self {
            let mut content = vec![0; SECTOR];
            content[..MAGIC.len()].copy_from_slice(MAGIC);
            content.extend_from_slice(data);
            content.resize(SECTOR + MAX_BYTES, 0);
            Self { content, registers: [0; 8], position: 0, left: 0, busy: 0, fails: false }
        }
    }

    impl Ports for Disk {
        fn read(&mut self, port: u16) -> u8 {
            assert!(port == COMMAND_PORT + 7 || port == CONTROL_PORT);
            if port == COMMAND_PORT + 7 && self.busy > 0 {
                self.busy -= 1;
                return BUSY | DATA_REQUEST;
            }
            0x50 | if self.left > 0 { DATA_REQUEST } else { 0 } | u8::from(self.fails)
        }

        fn write(&mut self, port: u16, value: u8) {
            if port == CONTROL_PORT {
                assert_eq!(value, NO_INTERRUPTS);
                return;
            }
            let register = usize::from(port - COMMAND_PORT);
            self.registers[register] = value;
            if register == 7 {
                assert_eq!((value, self.registers[6]), (READ_SECTORS, MASTER));
                let [_, _, count, low, middle, high, ..] = self.registers;
                self.left = if count == 0 { MOST } else { count.into() };
                self.position = u32::from_le_bytes([low, middle, high, 0]) as usize * SECTOR;
                self.busy = 10;
            }
        }

        fn read_sector(&mut self, port: u16, sector: &mut [u8; SECTOR]) {
            assert!(port == COMMAND_PORT && self.busy == 0 && self.left > 0, "no sector waits");
            sector.copy_from_slice(&self.content[self.position..][..SECTOR]);
            (self.position, self.left, self.busy) = (self.position + SECTOR, self.left - 1, 3);
        }
    }

    #[test]
    fn pieces_of_all_lengths() {
        let data: Vec<u8> = (0..MAX_BYTES).map(|at| (at * 7 + at / 509) as u8).collect();
        for length in [0, 1, 511, 512, 513, 255 * 512, 256 * 512, 300_000, MAX_BYTES] {
            assert!(read(&mut Disk::new(&data), length).unwrap() == data[..length], "{length} bytes");
        }
        assert_eq!(read(&mut Disk::new(&data), MAX_BYTES + 1), None);
    }

    #[test]
    fn another_disk_is_left_alone() {
        let mut disk = Disk::new(b"data");
        disk.content[3] ^= 1;
        assert_eq!(read(&mut disk, 4), None);
    }

    #[test]
    fn a_disk_that_fails_or_never_answers() {
        let mut disk = Disk::new(b"data");
        disk.fails = true;
        assert_eq!(read(&mut disk, 4), None);

        struct Constant(u8);
        impl Ports for Constant {
            fn read(&mut self, _: u16) -> u8 {
                self.0
            }
            fn write(&mut self, _: u16, _: u8) {}
            fn read_sector(&mut self, _: u16, _: &mut [u8; SECTOR]) {}
        }
        for status in [0xff, 0x00, BUSY, 0x50] {
            assert_eq!(read(&mut Constant(status), 4), None, "status {status:#x}");
        }
    }
}
