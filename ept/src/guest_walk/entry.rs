//! One entry, by the formats that SDM 3A gives for each mode.

use super::registers::{Features, Mode, Paging};
use super::rights::Rights;

pub(crate) const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
pub(crate) const ACCESSED: u64 = 1 << 5;
pub(crate) const DIRTY: u64 = 1 << 6;
/// PS, in entries above the lowest level.
const PAGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const EXECUTE_DISABLE: u64 = 1 << 63;
/// Bits 51:12.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// How the entries of one kind of tables are to be read. Levels count from 1, that of PTEs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    mode: Mode,
    /// Address bits 51:M, reserved in each 64-bit entry; more in PAE's.
    beyond: u64,
    pse: bool,
    /// The widest address of a 4 MiB page: 32 without PSE-36.
    pse36_bits: u8,
    gigabyte_pages: bool,
}

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    NotPresent,
    Reserved,
    /// Points to a table at this address.
    Table(u64),
    /// Maps a page, which begins at this address.
    Page(u64),
}

impl Format {
    pub(crate) const fn new(paging: &Paging) -> Self {
        Self::of(paging.mode(), paging.execute_disable(), paging.page_size_extensions(), paging.features)
    }

    /// `execute_disable`: EFER.NXE; `pse`: CR4.PSE.
    pub(crate) const fn of(mode: Mode, execute_disable: bool, pse: bool, features: Features) -> Self {
        let xd = if execute_disable { 0 } else { EXECUTE_DISABLE };
        let wide = !features.address_mask() & ADDRESS | xd;
        let beyond = match mode {
            Mode::FourLevel => wide,
            // Bits 62:52 as well.
            _ => wide | 0x7ff0_0000_0000_0000,
        };
        let widest = if features.address_bits < 40 { features.address_bits } else { 40 };
        let pse36_bits = if features.pse36 && widest > 32 { widest } else { 32 };
        Self { mode, beyond, pse, pse36_bits, gigabyte_pages: features.gigabyte_pages }
    }

    /// The lowest bit of a linear address that selects an entry at `level`.
    pub(crate) const fn shift(&self, level: u8) -> u32 {
        match self.mode {
            Mode::TwoLevel => 2 + 10 * level as u32,
            _ => 3 + 9 * level as u32,
        }
    }

    pub(crate) fn kind(&self, entry: u64, level: u8) -> Kind {
        if entry & PRESENT == 0 {
            return Kind::NotPresent;
        }
        if self.mode == Mode::TwoLevel {
            return self.kind32(entry, level);
        }
        if entry & self.beyond != 0 {
            return Kind::Reserved;
        }
        let address = entry & ADDRESS;
        match (level, entry & PAGE != 0) {
            (1, _) => Kind::Page(address),
            (_, false) => Kind::Table(address),
            (3, true) if !self.gigabyte_pages => Kind::Reserved,
            (2 | 3, true) => {
                // The bits between PAT (12) and the page's address are reserved.
                let within = (1u64 << self.shift(level)) - 1;
                if entry & within & !0x1fff != 0 { Kind::Reserved } else { Kind::Page(address & !within) }
            }
            _ => Kind::Reserved,
        }
    }

    /// 32-bit paging. The address of a 4 MiB page has its bits from 32 on in bits 13 and up of the entry.
    const fn kind32(&self, entry: u64, level: u8) -> Kind {
        let entry = entry & 0xffff_ffff;
        if level == 1 {
            return Kind::Page(entry & ADDRESS);
        }
        if entry & PAGE == 0 || !self.pse {
            return Kind::Table(entry & ADDRESS);
        }
        let high = entry >> 13 & 0x1ff;
        if high >> (self.pse36_bits - 32) != 0 {
            return Kind::Reserved;
        }
        Kind::Page(entry & 0xffc0_0000 | high << 32)
    }

    /// Where a 64-bit entry leads that is no page and wrong in nothing: most of what walks meet.
    #[inline]
    pub(crate) const fn plain_table(&self, entry: u64, level: u8) -> Option<u64> {
        let is_plain = level > 1 && entry & (PRESENT | PAGE | self.beyond) == PRESENT;
        if is_plain { Some(entry & ADDRESS) } else { None }
    }

    /// What entries let through together, of which `all` are the bits that each has, and `any` those that one has.
    #[inline]
    pub(crate) fn product(&self, all: u64, any: u64) -> Rights {
        self.rights(all & !EXECUTE_DISABLE | any & EXECUTE_DISABLE)
    }

    /// What the entry lets through.
    pub(crate) fn rights(&self, entry: u64) -> Rights {
        let mut rights = Rights::EXECUTE;
        rights.set(Rights::USER, entry & USER != 0);
        rights.set(Rights::WRITE, entry & WRITABLE != 0);
        if self.mode != Mode::TwoLevel {
            // Where XD does not exist its bit is reserved, and the entry did not come this far.
            rights.set(Rights::EXECUTE, entry & EXECUTE_DISABLE == 0);
        }
        rights
    }

    /// The protection key of an entry that maps a page: bits 62:59, which mean something in 4-level paging only.
    pub(crate) const fn key(&self, entry: u64) -> u8 {
        match self.mode {
            Mode::FourLevel => (entry >> 59) as u8 & 15,
            _ => 0,
        }
    }

    pub(crate) const fn is_global(entry: u64) -> bool {
        entry & GLOBAL != 0
    }
}
