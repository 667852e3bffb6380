//! `exchange`: two table sets give each other what they map in a range.

use abi::address::{GuestPhys, HostPhys};

use crate::entry::{Decoded, Entry};
use crate::error::{Invalidation, MapError};
use crate::frames::{ENTRIES, Frames};
use crate::level::{GUEST_ADDRESS_BITS, Level};
use crate::table::Ept;

/// What one entry of a page directory covers: the step of an exchange.
pub const STEP: u64 = 2 << 20;

impl Ept {
    /// Exchanges what this set maps below `end`, a multiple of [`STEP`], for what `other` maps there, by an entry for each 2 MiB.
    /// May leave tables without entries, as [`Ept::clear`] does. Where it fails nothing was exchanged.
    pub fn exchange<F: Frames>(
        &mut self,
        other: &mut Self,
        frames: &mut F,
        end: GuestPhys,
    ) -> Result<Invalidation, MapError> {
        let end = end.as_u64();
        if !end.is_multiple_of(STEP) {
            return Err(MapError::Misaligned);
        }
        if end > 1 << GUEST_ADDRESS_BITS {
            return Err(MapError::OutOfRange);
        }
        let covered = Level::Pdpte.slot_bytes();
        for start in (0..end).step_by(covered as usize) {
            self.directory(frames, start)?;
            other.directory(frames, start)?;
        }
        for start in (0..end).step_by(covered as usize) {
            let (own, theirs) = (self.directory(frames, start)?, other.directory(frames, start)?);
            let entries = ((end - start) / STEP).min(ENTRIES as u64) as usize;
            for index in 0..entries {
                let entry = frames.read(theirs, index);
                let before = frames.swap(own, index, entry);
                frames.write(theirs, index, before);
            }
        }
        Ok(Invalidation::Needed)
    }

    /// The page directory for these addresses, made where there is none.
    fn directory<F: Frames>(&mut self, frames: &mut F, address: u64) -> Result<HostPhys, MapError> {
        let mut table = self.root();
        for level in [Level::Pml4e, Level::Pdpte] {
            let index = (address >> level.shift()) as usize % ENTRIES;
            table = match Entry(frames.read(table, index)).decode(level) {
                Decoded::Table { table, .. } => table,
                // Larger than a step: it would have to be cut first, and nobody maps such.
                Decoded::Page(_) => return Err(MapError::AlreadyMapped(GuestPhys::new(address))),
                Decoded::Empty => {
                    let made = frames.allocate().ok_or(MapError::OutOfFrames)?;
                    frames.write(table, index, Entry::table(made).0);
                    made
                }
            };
        }
        Ok(table)
    }
}
