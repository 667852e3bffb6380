//! Writes to tables that the hypervisor makes for the guest, or knows of.

use abi::address::GuestPhys;

use super::Shadow;
use super::leaf::PRESENT;
use super::outcome::Flush;
use super::role::Role;
use super::store::NO_SLOT;
use super::traits::{GuestSpace, ShadowTables};
use crate::frames::ENTRIES;
use crate::guest_walk::{ACCESSED, Kind, Mode};

/// After so many emulated writes, with no walk in between, a frame is no table any more: it becomes writable.
const MOST_WRITES: u8 = 16;

impl<T: ShadowTables> Shadow<'_, T> {
    /// Whether a write to this address must be told to [`Shadow::written`].
    pub fn is_table(&self, gpa: GuestPhys) -> bool {
        usize::try_from(gpa.as_u64() >> 12)
            .ok()
            .and_then(|gfn| self.memory.frames.get(gfn))
            .is_some_and(|frame| frame.protectors > 0)
    }

    /// The guest's memory from `gpa` on has just been written for it: an instruction that was emulated, a device, a
    /// hypercall. `bytes` ends with the page at the latest.
    pub fn written<G: GuestSpace>(&mut self, guest: &G, gpa: GuestPhys, bytes: u64) -> Flush {
        let (offset, last) = (gpa.page_offset(4096), gpa.page_offset(4096) + bytes.saturating_sub(1));
        let (offset, last) = (offset as usize, last.min(4095) as usize);
        let Some((gfn, _)) = self.memory_at(guest, gpa.as_u64()) else { return Flush::None };
        let mut slot = self.memory.frame(gfn).shadows;
        while slot != NO_SLOT {
            let page = *self.memory.page(slot);
            if !page.role.is_piece() && !page.unsync {
                let width = page.role.mode().width().bytes() as usize;
                for entry in offset / width..=last / width {
                    self.follow(guest, slot, page.role, entry);
                }
                self.count_write(slot, page.role);
            }
            slot = page.next;
        }
        self.take_flush()
    }

    /// The guest's entry `entry` of the table that `slot` shadows may have changed.
    fn follow<G: GuestSpace>(&mut self, guest: &G, slot: u16, role: Role, entry: usize) {
        let (first, count) = match (role.mode(), role.level()) {
            // A guest's entry covers 4 MiB: two of the shadow's, in one of four shadows.
            (Mode::TwoLevel, 2) if entry >> 8 == role.part() => ((entry & 255) * 2, 2),
            (Mode::TwoLevel, 1) if entry >> 9 == role.part() => (entry & 511, 1),
            (Mode::TwoLevel, _) => return,
            _ => (entry % ENTRIES, 1),
        };
        for index in first..first + count {
            if role.level() == 1 {
                self.check(guest, slot, index);
            } else if self.entry(slot, index) & PRESENT != 0 && !self.leads_there(guest, slot, index, entry) {
                self.drop_present(slot, index, Flush::All);
            }
        }
    }

    /// Whether the guest's entry still leads to the table that the shadow's entry leads to.
    fn leads_there<G: GuestSpace>(&mut self, guest: &G, slot: u16, index: usize, entry: usize) -> bool {
        let page = *self.memory.page(slot);
        let below = self.target(slot, index) as u16;
        let below = *self.memory.page(below);
        let width = page.role.mode().width();
        let at = GuestPhys::new((u64::from(page.gfn) << 12) + entry as u64 * width.bytes());
        let Some(value) = guest.read(at, width) else { return false };
        let format = page.role.format(self.paging.features);
        let Kind::Table(table) = format.kind(value, page.role.level()) else { return false };
        let rights = page.role.rights() & format.rights(value);
        !below.role.is_piece()
            && u64::from(below.gfn) == table >> 12
            && below.role.rights() == rights
            && value & ACCESSED != 0
    }

    fn count_write(&mut self, slot: u16, role: Role) {
        let page = self.memory.page(slot);
        page.writes = page.writes.saturating_add(1);
        if page.writes > MOST_WRITES && role.level() > 1 && slot != self.root {
            self.release(slot);
        }
    }

    /// Forgets the shadows of the frame at `gpa`, so that the guest may write to it: for a write to a table by an
    /// instruction that cannot be emulated. If the same write faults as one to a table again, the frame is a table of
    /// its own translation or the root in use, and that instruction cannot be executed.
    pub fn unshadow<G: GuestSpace>(&mut self, guest: &G, gpa: GuestPhys) -> Flush {
        if let Some((gfn, _)) = self.memory_at(guest, gpa.as_u64()) {
            self.release_frame(gfn);
        }
        self.take_flush()
    }
}
