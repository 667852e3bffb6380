//! Shadow pages: found by what they stand for, made, ordered by use, and let go.

use super::outcome::Flush;
use super::role::Role;
use super::store::{List, NO_SLOT};
use super::traits::{GuestSpace, ShadowTables};
use super::{NOTHING, Shadow};
use crate::frames::ENTRIES;

/// How many shadows and pieces may begin at one guest frame. More than a walk needs at a time, four.
const MOST_SHADOWS: usize = 16;
/// How many pages in use one search for pages to let go passes over.
const MOST_SPARED: u16 = 64;

impl<T: ShadowTables> Shadow<'_, T> {
    /// The shadow of a frame in a role, if there is one.
    pub(crate) fn find(&mut self, gfn: u32, role: Role) -> Option<u16> {
        let mut slot = self.memory.frame(gfn).shadows;
        while slot != NO_SLOT {
            let page = self.memory.page(slot);
            if page.role == role {
                return Some(slot);
            }
            slot = page.next;
        }
        None
    }

    /// Makes sure that so many pages are free.
    #[inline]
    pub(crate) fn reserve(&mut self, count: u16) {
        if self.free_count < count {
            self.let_go(count);
        }
    }

    /// Lets the oldest pages go, but such as walks came by meanwhile: these count as new.
    #[cold]
    fn let_go(&mut self, count: u16) {
        let mut spared = 0;
        while self.free_count < count {
            let mut oldest = self.oldest;
            if oldest == self.root {
                oldest = self.memory.page(oldest).newer;
            }
            if oldest == NO_SLOT {
                return;
            }
            if core::mem::take(&mut self.memory.page(oldest).used) && spared < MOST_SPARED {
                spared += 1;
                self.take_out(oldest);
                self.append(oldest);
            } else {
                self.release(oldest);
            }
        }
    }

    /// The shadow of a frame in a role, empty if it has to be made. `None`: there is no page left for it.
    pub(crate) fn obtain<G: GuestSpace>(&mut self, guest: &G, gfn: u32, role: Role) -> Option<u16> {
        if let Some(slot) = self.find(gfn, role) {
            self.touch(slot);
            return Some(slot);
        }
        let slot = self.free;
        if slot == NO_SLOT {
            return None;
        }
        self.free = self.memory.page(slot).next;
        self.free_count -= 1;
        let next = self.memory.frame(gfn).shadows;
        let page = self.memory.page(slot);
        (page.gfn, page.role, page.next) = (gfn, role, next);
        (page.unsync, page.writes, page.used) = (false, 0, true);
        self.memory.frame(gfn).shadows = slot;
        self.append(slot);
        self.made = true;
        if !role.is_piece() {
            // From here on the frame is protected, so no shadow of it is out of sync any more.
            self.sync_frame(guest, gfn);
            self.guard(gfn, role);
        }
        Some(slot)
    }

    /// Counts one shadow more that needs its frame write-protected.
    pub(crate) fn guard(&mut self, gfn: u32, role: Role) {
        let frame = self.memory.frame(gfn);
        frame.protectors += 1;
        frame.upper += u16::from(role.level() > 1);
        if frame.protectors == 1 {
            self.protect(gfn);
        }
    }

    /// Counts one less.
    pub(crate) fn unguard(&mut self, gfn: u32, role: Role) {
        let frame = self.memory.frame(gfn);
        frame.protectors -= 1;
        frame.upper -= u16::from(role.level() > 1);
    }

    /// Lets a page go, with all that leads there.
    pub(crate) fn release(&mut self, slot: u16) {
        if slot == self.root {
            self.root = NOTHING;
        }
        self.drop_list(List::Page(slot));
        self.clear(slot);
        let page = *self.memory.page(slot);
        if page.unsync {
            self.forget_unsync(slot);
        } else if !page.role.is_piece() {
            self.unguard(page.gfn, page.role);
        }
        self.unchain(slot, page.gfn, page.next);
        self.take_out(slot);
        let next = self.free;
        let page = self.memory.page(slot);
        (page.role, page.next, page.unsync) = (Role::NONE, next, false);
        self.free = slot;
        self.free_count += 1;
    }

    /// Empties a page.
    pub(crate) fn clear(&mut self, slot: u16) {
        for index in 0..ENTRIES {
            self.drop_entry(slot, index, Flush::All);
        }
    }

    fn unchain(&mut self, slot: u16, gfn: u32, next: u16) {
        let frame = self.memory.frame(gfn);
        if frame.shadows == slot {
            frame.shadows = next;
            return;
        }
        let mut at = frame.shadows;
        while at != NO_SLOT {
            let page = self.memory.page(at);
            if page.next == slot {
                page.next = next;
                return;
            }
            at = page.next;
        }
    }

    /// Where the last fault made pages, lets shadows of the same frames go that are too many.
    pub(crate) fn trim_path(&mut self) {
        if !core::mem::take(&mut self.made) {
            return;
        }
        for slot in self.path {
            // It may be free by now; its frame still is one.
            let gfn = self.memory.page(slot).gfn;
            self.trim(gfn);
        }
    }

    /// The shadow that was made first is the last in the chain.
    fn trim(&mut self, gfn: u32) {
        let (mut count, mut last, mut slot) = (0, NO_SLOT, self.memory.frame(gfn).shadows);
        while slot != NO_SLOT {
            count += 1;
            if slot != self.root {
                last = slot;
            }
            slot = self.memory.page(slot).next;
        }
        if count > MOST_SHADOWS && last != NO_SLOT {
            self.release(last);
        }
    }

    /// Lets all shadows of a frame go, but not the root that is in use.
    pub(crate) fn release_frame(&mut self, gfn: u32) {
        let mut slot = self.memory.frame(gfn).shadows;
        while slot != NO_SLOT {
            let next = self.memory.page(slot).next;
            if slot != self.root {
                self.release(slot);
            }
            slot = next;
        }
    }

    /// A walk came by.
    #[inline]
    pub(crate) fn touch(&mut self, slot: u16) {
        let page = self.memory.page(slot);
        (page.writes, page.used) = (0, true);
    }

    /// Makes a page the newest.
    fn append(&mut self, slot: u16) {
        let older = self.newest;
        let page = self.memory.page(slot);
        (page.older, page.newer) = (older, NO_SLOT);
        match older {
            NO_SLOT => self.oldest = slot,
            older => self.memory.page(older).newer = slot,
        }
        self.newest = slot;
    }

    /// Takes a page out of the order of use.
    fn take_out(&mut self, slot: u16) {
        let page = *self.memory.page(slot);
        match page.older {
            NO_SLOT => self.oldest = page.newer,
            older => self.memory.page(older).newer = page.newer,
        }
        match page.newer {
            NO_SLOT => self.newest = page.older,
            newer => self.memory.page(newer).older = page.older,
        }
    }
}
