//! What IDENTIFY DEVICE tells.

use super::SECTOR;
use super::registers::{HEADS, SECTORS_A_TRACK};

/// Words of strings, which have their bytes swapped.
const SERIAL: core::ops::Range<usize> = 10..20;
const FIRMWARE: core::ops::Range<usize> = 23..27;
const MODEL: core::ops::Range<usize> = 27..47;
const CYLINDERS_AT_MOST: u64 = 16_383;
const NARROW_AT_MOST: u64 = 0x0fff_ffff;
/// Words 83 and 86: 48-bit addresses, FLUSH CACHE and FLUSH CACHE EXT.
const WIDE_AND_FLUSH: u16 = 1 << 10 | 1 << 12 | 1 << 13;
/// Word 83 and 84: their content is valid.
const VALID: u16 = 1 << 14;

pub fn data(sectors: u64) -> [u8; SECTOR] {
    let mut words = [0u16; SECTOR / 2];
    let cylinders = (sectors / (HEADS * SECTORS_A_TRACK)).min(CYLINDERS_AT_MOST);
    let by_chs = (cylinders * HEADS * SECTORS_A_TRACK) as u32;
    let narrow = sectors.min(NARROW_AT_MOST) as u32;
    for (word, value) in [
        // A fixed disk.
        (0, 1 << 6),
        (1, cylinders as u16),
        (3, HEADS as u16),
        (6, SECTORS_A_TRACK as u16),
        // LBA; IORDY.
        (49, 1 << 9 | 1 << 11),
        (50, 1 << 14),
        // PIO mode 2 of old, words 54 to 58 and 64 to 70 are valid.
        (51, 2 << 8),
        (53, 0b011),
        (54, cylinders as u16),
        (55, HEADS as u16),
        (56, SECTORS_A_TRACK as u16),
        (57, by_chs as u16),
        (58, (by_chs >> 16) as u16),
        (60, narrow as u16),
        (61, (narrow >> 16) as u16),
        // PIO modes 3 and 4, and their cycle times.
        (64, 0b11),
        (67, 120),
        (68, 120),
        // ATA/ATAPI-4 to 6.
        (80, 0b111_0000),
        (83, VALID | WIDE_AND_FLUSH),
        (84, VALID),
        (86, WIDE_AND_FLUSH),
        (87, VALID),
        (100, sectors as u16),
        (101, (sectors >> 16) as u16),
        (102, (sectors >> 32) as u16),
    ] {
        words[word] = value;
    }
    for (range, text) in [(SERIAL, "1"), (FIRMWARE, "1"), (MODEL, "Atoll disk")] {
        let mut bytes = text.bytes().chain(core::iter::repeat(b' '));
        for word in &mut words[range] {
            *word = u16::from_be_bytes([bytes.next().unwrap_or(b' '), bytes.next().unwrap_or(b' ')]);
        }
    }
    let mut data = [0; SECTOR];
    for (bytes, word) in data.chunks_exact_mut(2).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    data
}
