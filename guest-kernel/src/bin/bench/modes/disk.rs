//! A block from an ATA disk. A full guest's holds this very program, and may be written to.

use core::cell::RefCell;

use guest_kernel::platform::atoll::pc::ata::{Disk, SECTOR};
use guest_kernel::say;

use super::Meter;

/// Bytes of a block.
const BLOCK: usize = 4096;
/// How the disk of a full guest begins.
const BEGINS: &[u8] = b"\x7fELF";
/// A sector of the block, not its first.
const WRITTEN: usize = 5;

/// Measures and prints the row, where there is a disk that does what it should.
pub fn measure(meter: &Meter<'_>) {
    let Some(disk) = Disk::find() else { return };
    let mut block = [0; BLOCK];
    if meter.mode != "bare" && !keeps(&disk, &mut block) {
        say!("bench: the disk does not hold what it should");
        return;
    }
    let block = RefCell::new(block);
    meter.seldom("block_4k", || {
        assert!(disk.read_sectors(0, &mut *block.borrow_mut()), "the disk failed");
    });
}

/// Whether the disk holds what it did at first, and then what is written to it.
fn keeps(disk: &Disk, block: &mut [u8; BLOCK]) -> bool {
    if !disk.read_sectors(0, block) || !block.starts_with(BEGINS) {
        return false;
    }
    let mut expected = *block;
    let (sectors, _) = expected.as_chunks_mut::<SECTOR>();
    sectors[WRITTEN] = core::array::from_fn(|at| !(at as u8));
    disk.write_sector(WRITTEN as u32, &sectors[WRITTEN]) && disk.read_sectors(0, block) && *block == expected
}
