//! What makes two shadows of one guest frame differ.

use crate::guest_walk::{Features, Format, Mode, Paging, Rights};

const LEVEL: u32 = 0b111;
const MODE_SHIFT: u32 = 3;
const PART_SHIFT: u32 = 5;
const DIRECT: u32 = 1 << 7;
const RIGHTS_SHIFT: u32 = 8;
const KEY_SHIFT: u32 = 11;
const CLEAN: u32 = 1 << 15;
const NXE: u32 = 1 << 16;
const PSE: u32 = 1 << 17;
const NO_WRITE_PROTECT: u32 = 1 << 18;
const SMEP: u32 = 1 << 19;
const FLIPS: u32 = 1 << 20;

/// All that the entries of a shadow depend on besides the guest frame that it stands for, packed so that to compare is
/// one instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Role(u32);

impl Role {
    /// That of a page that is free.
    pub(crate) const NONE: Self = Self(0);

    /// What the registers say: the part that all shadows in use share.
    pub(crate) const fn of(paging: &Paging) -> Self {
        let mode = paging.mode();
        let mut bits = (mode as u32) << MODE_SHIFT;
        if paging.execute_disable() && !matches!(mode, Mode::Off) {
            bits |= NXE;
        }
        if paging.page_size_extensions() && matches!(mode, Mode::TwoLevel) {
            bits |= PSE;
        }
        if !paging.write_protect() && !matches!(mode, Mode::Off) {
            bits |= NO_WRITE_PROTECT;
            if paging.smep() {
                bits |= SMEP;
            }
            if !paging.smap() && !paging.protection_keys() {
                bits |= FLIPS;
            }
        }
        Self(bits)
    }

    /// The same registers; a shadow of a guest table at `level`, reached with `rights`. `part`: which half or quarter of
    /// the table, where its entries are 32-bit ones.
    pub(crate) const fn table(self, level: u8, rights: Rights, part: u8) -> Self {
        Self(
            self.0
                | level as u32 & LEVEL
                | (rights.bits() as u32) << RIGHTS_SHIFT
                | (part as u32 & 3) << PART_SHIFT,
        )
    }

    /// The same registers; a piece of one page that is larger than what the level below maps.
    pub(crate) const fn piece(self, level: u8, rights: Rights, key: u8, dirty: bool) -> Self {
        let clean = if dirty { 0 } else { CLEAN };
        let role = self.table(level, rights, 0);
        Self(role.0 | DIRECT | clean | (key as u32 & 15) << KEY_SHIFT)
    }

    /// The level of its entries, from 1.
    pub(crate) const fn level(self) -> u8 {
        (self.0 & LEVEL) as u8
    }

    /// Whether it is a piece of a large page, not a shadow of a table.
    pub(crate) const fn is_piece(self) -> bool {
        self.0 & DIRECT != 0
    }

    /// What the guest's entries above allow; for a piece, all that the page allows.
    pub(crate) const fn rights(self) -> Rights {
        Rights::from_bits_truncate((self.0 >> RIGHTS_SHIFT) as u8)
    }

    pub(crate) const fn part(self) -> usize {
        (self.0 >> PART_SHIFT & 3) as usize
    }

    pub(crate) const fn mode(self) -> Mode {
        match self.0 >> MODE_SHIFT & 3 {
            0 => Mode::Off,
            1 => Mode::TwoLevel,
            2 => Mode::Pae,
            _ => Mode::FourLevel,
        }
    }

    /// Whether supervisor writes obey R/W.
    pub(crate) const fn write_protect(self) -> bool {
        self.0 & NO_WRITE_PROTECT == 0
    }

    /// Whether SMEP counts where a page flips.
    pub(crate) const fn smep(self) -> bool {
        self.0 & SMEP != 0
    }

    /// Whether a user page that only the supervisor may write (CR0.WP clear) can take turns: for the supervisor
    /// to write or for the user to read. With SMAP or protection keys that would lift these.
    pub(crate) const fn flips(self) -> bool {
        self.0 & FLIPS != 0
    }

    /// How the guest's entries are to be read.
    pub(crate) const fn format(self, features: Features) -> Format {
        Format::of(self.mode(), self.0 & NXE != 0, self.0 & PSE != 0, features)
    }
}
