//! The command block's registers. Those that a 48-bit address needs hold two values each: what was written, and what was
//! before ("48-bit Address feature set").

/// Bits of the status register.
pub mod status {
    pub const ERROR: u8 = 1 << 0;
    pub const DATA_REQUEST: u8 = 1 << 3;
    pub const SEEK_COMPLETE: u8 = 1 << 4;
    pub const READY: u8 = 1 << 6;
    pub const BUSY: u8 = 1 << 7;
}

/// Bits of the error register.
pub mod error {
    pub const ABORTED: u8 = 1 << 2;
    pub const NOT_FOUND: u8 = 1 << 4;
    pub const UNCORRECTABLE: u8 = 1 << 6;
}

const FEATURES: u16 = 1;
const COUNT: u16 = 2;
const DEVICE: u16 = 6;
/// Device register: the second drive, addresses of blocks; two bits that were always ones once.
const SECOND: u8 = 1 << 4;
const LBA: u8 = 1 << 6;
const OBSOLETE: u8 = 0xa0;
/// Heads and sectors a track, for programs that address by them.
pub const HEADS: u64 = 16;
pub const SECTORS_A_TRACK: u64 = 63;
/// SET FEATURES' transfer modes.
const SET_TRANSFER_MODE: u8 = 0x03;
const FIRST_DMA_MODE: u8 = 0x10;

/// The registers, but data and status.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    pub error: u8,
    /// The error register holds a diagnosis, which is no error.
    pub is_diagnosed: bool,
    features: u8,
    /// Count, low, middle and high part of the address: now, and before.
    parts: [[u8; 2]; 4],
    device: u8,
}

impl Registers {
    /// After a reset or a diagnosis: the drive is well, and no packet device.
    pub const fn new() -> Self {
        Self { error: 1, is_diagnosed: true, features: 0, parts: [[1, 0], [1, 0], [0, 0], [0, 0]], device: 0 }
    }

    pub fn read(&self, register: u16, previous: bool) -> u8 {
        match register {
            FEATURES => self.error,
            DEVICE => self.device | OBSOLETE,
            _ => self
                .parts
                .get(usize::from(register.wrapping_sub(COUNT)))
                .map_or(0xff, |part| part[usize::from(previous)]),
        }
    }

    pub fn write(&mut self, register: u16, value: u8) {
        match register {
            FEATURES => self.features = value,
            DEVICE => self.device = value,
            _ => {
                if let Some(part) = self.parts.get_mut(usize::from(register.wrapping_sub(COUNT))) {
                    *part = [value, part[0]];
                }
            }
        }
    }

    pub const fn selects_second(&self) -> bool {
        self.device & SECOND != 0
    }

    /// Where a command is to begin, and how many sectors it is for; 0 is as many as there are numbers.
    pub fn extent(&self, wide: bool) -> (Option<u64>, u32) {
        let now = self.parts.map(|[now, _]| u64::from(now));
        let before = self.parts.map(|[_, before]| u64::from(before));
        if wide {
            let count = (before[0] << 8 | now[0]) as u32;
            let high = before[3] << 40 | before[2] << 32 | before[1] << 24;
            let lba = high | now[3] << 16 | now[2] << 8 | now[1];
            return (Some(lba), if count == 0 { 0x1_0000 } else { count });
        }
        let count = if now[0] == 0 { 0x100 } else { now[0] as u32 };
        let head = u64::from(self.device & 0xf);
        if self.device & LBA != 0 {
            return (Some(head << 24 | now[3] << 16 | now[2] << 8 | now[1]), count);
        }
        // Cylinder, head and sector, which counts from 1.
        let track = (now[3] << 8 | now[2]) * HEADS + head;
        (now[1].checked_sub(1).map(|sector| track * SECTORS_A_TRACK + sector), count)
    }

    /// SET FEATURES for a transfer mode that the drive does not have.
    pub const fn asks_for_dma(&self) -> bool {
        self.features == SET_TRANSFER_MODE && self.parts[0][0] >= FIRST_DMA_MODE
    }

    /// CHECK POWER MODE: active.
    pub const fn answer_power(&mut self) {
        self.parts[0][0] = 0xff;
    }
}
