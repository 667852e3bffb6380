//! What a change of the tables can answer.

use core::fmt;

use abi::address::GuestPhys;

use crate::entry::Permissions;

/// Why a change was refused. The tables are as they were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// This page, the lowest such of the request, is mapped already.
    AlreadyMapped(GuestPhys),
    /// There was no frame for a table.
    OutOfFrames,
    /// An address is not that of a 4 KiB page.
    Misaligned,
    /// The request reaches past the guest's or the host's physical address space.
    OutOfRange,
    /// The processor knows no such entry: nothing allowed, writes without reads, or, where it cannot, fetches without
    /// reads.
    Permissions(Permissions),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyMapped(gpa) => write!(f, "guest-physical address {gpa} is mapped already"),
            Self::OutOfFrames => f.write_str("no frame left for page tables"),
            Self::Misaligned => f.write_str("address is not a multiple of 4 KiB"),
            Self::OutOfRange => f.write_str("range reaches past the physical address space"),
            Self::Permissions(permissions) => write!(f, "no mapping can allow {permissions:?}"),
        }
    }
}

impl core::error::Error for MapError {}

/// Whether the processor may still hold translations that the tables no longer say.
///
/// The rule (SDM 3C, "Guidelines for Use of the INVEPT Instruction"): not-present entries are not cached, so filling
/// one needs nothing; taking a right away, changing an address or a memory type, and turning a page into a table or
/// back all need it. Adding a right to a present entry does not strictly: the stale translation costs the guest one
/// EPT violation more, which removes it. This room asks for the INVEPT then, too, because a handler that sees such a
/// violation would blame the guest for it.
#[must_use = "stale translations reach unmapped memory until INVEPT has run"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalidation {
    /// The processor can have cached nothing that changed.
    None,
    /// Single-context INVEPT with this table set's EPTP, on the core that runs it, before the guest goes on.
    Needed,
}

impl Invalidation {
    /// What two changes need together.
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, Self::None) => Self::None,
            _ => Self::Needed,
        }
    }
}
