//! How shadows follow the guest's tables: at once above level 1, lazily at level 1.
//!
//! A frame with shadows is mapped read-only, so the first write to it faults. Where it is a table of level 1 alone, the
//! guest then gets to write it freely, and its shadows count as out of sync: as with a TLB, what they still say may be
//! old until the guest flushes. An INVLPG drops the one entry; a load of CR3 unlinks these shadows from everything, and
//! they are read over when a walk comes by again, and protected again.

use abi::address::{GuestPhys, GuestVirt};

use super::fault::index;
use super::leaf::{FLIPPED, Leaf, PRESENT, WRITABLE};
use super::outcome::Flush;
use super::role::Role;
use super::store::{List, NO_SLOT};
use super::traits::{GuestSpace, ShadowTables};
use super::{LOW_ROOT, Shadow};
use crate::frames::ENTRIES;
use crate::guest_walk::{ACCESSED, DIRTY, Kind, Mode};

/// How many shadows may be out of sync at a time.
pub(crate) const MOST_UNSYNC: usize = 32;

impl<T: ShadowTables> Shadow<'_, T> {
    /// INVLPG by the guest. The answer includes the flush of that address.
    pub fn invalidate<G: GuestSpace>(&mut self, guest: &G, address: GuestVirt) -> Flush {
        let address = self.cut(address);
        self.flush = self.flush.and(Flush::Address(address));
        if let Some((slot, index)) = self.lowest(address)
            && self.memory.page(slot).unsync
        {
            self.drop_entry(slot, index, Flush::Address(address));
            self.refill(guest, slot, index);
        }
        self.take_flush()
    }

    /// The entry of level 1 for an address, as far as there are tables.
    fn lowest(&mut self, address: GuestVirt) -> Option<(u16, usize)> {
        let mut slot = self.root;
        let mut level = if slot == LOW_ROOT { 3 } else { 4 };
        while level > 1 {
            let index = index(address, level);
            if self.entry(slot, index) & PRESENT == 0 {
                return None;
            }
            slot = self.target(slot, index) as u16;
            level -= 1;
        }
        Some((slot, index(address, 1)))
    }

    /// Maps at once what the guest has just changed: most often it is used next.
    fn refill<G: GuestSpace>(&mut self, guest: &G, slot: u16, index: usize) {
        let Some((gfn, flags)) = self.wanted(guest, slot, index) else { return };
        if let Some((gfn, backing)) = self.memory_at(guest, u64::from(gfn) << 12) {
            let entry = self.leaf_entry(flags, gfn, backing);
            self.map(slot, index, gfn, entry);
        }
    }

    /// Lets the guest write to a frame that has shadows of level 1 only.
    pub(crate) fn open<G: GuestSpace>(&mut self, guest: &G, gfn: u32) {
        let mut slot = self.memory.frame(gfn).shadows;
        while slot != NO_SLOT {
            let page = *self.memory.page(slot);
            if !page.role.is_piece() && !page.unsync {
                if self.unsync_count == MOST_UNSYNC {
                    self.sync(guest, self.unsync[0]);
                }
                self.unsync[self.unsync_count] = slot;
                self.unsync_count += 1;
                self.memory.page(slot).unsync = true;
                self.unguard(gfn, page.role);
            }
            slot = page.next;
        }
    }

    /// Takes a shadow off the list of those that are out of sync.
    pub(crate) fn forget_unsync(&mut self, slot: u16) {
        let listed = &mut self.unsync[..self.unsync_count];
        if let Some(at) = listed.iter().position(|&one| one == slot) {
            listed[at..].rotate_left(1);
            self.unsync_count -= 1;
        }
    }

    /// Brings all shadows of a frame in sync.
    pub(crate) fn sync_frame<G: GuestSpace>(&mut self, guest: &G, gfn: u32) {
        let mut slot = self.memory.frame(gfn).shadows;
        while slot != NO_SLOT {
            let page = *self.memory.page(slot);
            if page.unsync {
                self.sync(guest, slot);
            }
            slot = page.next;
        }
    }

    /// Reads over a shadow that is out of sync, and protects its frame.
    pub(crate) fn sync<G: GuestSpace>(&mut self, guest: &G, slot: u16) {
        for index in 0..ENTRIES {
            self.check(guest, slot, index);
        }
        self.forget_unsync(slot);
        let page = self.memory.page(slot);
        page.unsync = false;
        let (gfn, role) = (page.gfn, page.role);
        self.guard(gfn, role);
    }

    /// Takes from an entry of level 1 what the guest's entry no longer says.
    pub(crate) fn check<G: GuestSpace>(&mut self, guest: &G, slot: u16, index: usize) {
        let entry = self.entry(slot, index);
        if entry & PRESENT == 0 {
            return;
        }
        let wanted = self.wanted(guest, slot, index);
        let keep = match wanted {
            Some((gfn, flags)) => {
                let same = (entry ^ flags) & !(super::leaf::ADDRESS | WRITABLE) == 0;
                same && self.target(slot, index) == gfn
            }
            None => false,
        };
        let writable = wanted.is_some_and(|(_, flags)| flags & WRITABLE != 0);
        if !keep || entry & FLIPPED != 0 {
            self.drop_present(slot, index, Flush::All);
        } else if entry & WRITABLE != 0 && !writable {
            self.store(slot, index, entry & !WRITABLE);
            self.flush = Flush::All;
        }
    }

    /// The frame and the flags that the guest's entry asks for, if it maps anything that was used already.
    fn wanted<G: GuestSpace>(&mut self, guest: &G, slot: u16, index: usize) -> Option<(u32, u64)> {
        let page = *self.memory.page(slot);
        let format = page.role.format(self.paging.features);
        let entry = guest.read(entry_at(page.gfn, page.role, index), page.role.mode().width())?;
        let Kind::Page(start) = format.kind(entry, 1) else { return None };
        if entry & ACCESSED == 0 {
            return None;
        }
        let rights = page.role.rights() & format.rights(entry);
        let leaf = Leaf { rights, key: format.key(entry), dirty: entry & DIRTY != 0 };
        Some(((start >> 12) as u32, leaf.flags(page.role)))
    }

    /// Unlinks all that is out of sync, so that no walk of the processor gets there.
    pub(crate) fn unlink_unsync(&mut self) {
        for at in 0..self.unsync_count {
            self.drop_list(List::Page(self.unsync[at]));
        }
    }
}

/// Where the guest's entry lies that entry `index` of a shadow of level 1 stands for.
fn entry_at(gfn: u32, role: Role, index: usize) -> GuestPhys {
    let index = match role.mode() {
        Mode::TwoLevel => role.part() * ENTRIES + index,
        _ => index,
    };
    GuestPhys::new((u64::from(gfn) << 12) + index as u64 * role.mode().width().bytes())
}
