//! The commands, by their codes.

/// Which way a sector goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToProcessor,
    FromProcessor,
}

/// A command. The flag is for those of a 48-bit address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Identify,
    Move(Direction, bool),
    Verify(bool),
    Flush,
    Diagnose,
    SetFeatures,
    CheckPower,
    /// There is nothing to do for it.
    Nothing,
    Unknown,
}

impl Command {
    pub const fn from_code(code: u8) -> Self {
        match code {
            0xec => Self::Identify,
            // READ SECTORS, with and without retries, and READ SECTORS EXT; WRITE, READ VERIFY likewise.
            0x20 | 0x21 => Self::Move(Direction::ToProcessor, false),
            0x24 => Self::Move(Direction::ToProcessor, true),
            0x30 | 0x31 => Self::Move(Direction::FromProcessor, false),
            0x34 => Self::Move(Direction::FromProcessor, true),
            0x40 | 0x41 => Self::Verify(false),
            0x42 => Self::Verify(true),
            // FLUSH CACHE, FLUSH CACHE EXT.
            0xe7 | 0xea => Self::Flush,
            0x90 => Self::Diagnose,
            0xef => Self::SetFeatures,
            0xe5 => Self::CheckPower,
            // RECALIBRATE, SEEK, INITIALIZE DEVICE PARAMETERS, and what changes the power mode.
            0x10..=0x1f | 0x70..=0x7f | 0x91 | 0xe0..=0xe3 => Self::Nothing,
            _ => Self::Unknown,
        }
    }
}
