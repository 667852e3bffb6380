//! Entries of shadows, each with its place in a list: the reverse map of the frame, or the parents of the table.

use super::leaf::{FLIPPED, PRESENT, WRITABLE, to_table};
use super::outcome::Flush;
use super::store::{List, NO_LINK, node, place};
use super::traits::ShadowTables;
use super::{LOW_ROOT, Shadow};

/// How many entries may lead to one frame, or to one table. Past it the oldest goes: what must be done to all mappings
/// of a frame stays bounded, whatever the guest maps.
const MOST_MAPPINGS: u16 = 1024;

impl<T: ShadowTables> Shadow<'_, T> {
    pub(crate) fn entry(&mut self, slot: u16, index: usize) -> u64 {
        let frame = self.memory.page(slot).frame;
        self.tables.read(frame, index)
    }

    /// Stores an entry over one that has its place already, or is to get it.
    pub(crate) fn store(&mut self, slot: u16, index: usize, entry: u64) {
        let frame = self.memory.page(slot).frame;
        self.tables.write(frame, index, entry);
        self.changed = true;
    }

    /// What the entry, which is present, leads to.
    pub(crate) fn target(&mut self, slot: u16, index: usize) -> u32 {
        self.memory.link(node(slot, index)).target
    }

    fn list_of(&mut self, slot: u16, index: usize) -> List {
        let target = self.target(slot, index);
        // Pages are numbered in 16 bits, and this is one.
        if self.memory.page(slot).role.level() == 1 { List::Frame(target) } else { List::Page(target as u16) }
    }

    /// Takes an entry out, if it is present.
    pub(crate) fn drop_entry(&mut self, slot: u16, index: usize, flush: Flush) {
        if self.entry(slot, index) & PRESENT != 0 {
            self.drop_present(slot, index, flush);
        }
    }

    pub(crate) fn drop_present(&mut self, slot: u16, index: usize, flush: Flush) {
        let list = self.list_of(slot, index);
        self.store(slot, index, 0);
        self.memory.detach(list, node(slot, index));
        self.flush = self.flush.and(flush);
    }

    /// Drops all entries of a list.
    pub(crate) fn drop_list(&mut self, list: List) {
        loop {
            let (head, ..) = self.memory.ends(list);
            if head == NO_LINK {
                return;
            }
            let (slot, index) = place(head);
            self.drop_present(slot, index, Flush::All);
        }
    }

    fn make_room(&mut self, list: List) {
        let (_, count, oldest) = self.memory.ends(list);
        if count >= MOST_MAPPINGS {
            let (slot, index) = place(oldest);
            self.drop_present(slot, index, Flush::All);
        }
    }

    /// Maps a frame where nothing is mapped.
    pub(crate) fn map(&mut self, slot: u16, index: usize, gfn: u32, entry: u64) {
        self.make_room(List::Frame(gfn));
        self.memory.attach(List::Frame(gfn), node(slot, index));
        self.store(slot, index, entry);
    }

    /// Makes an entry that is not present lead to a table.
    pub(crate) fn hang(&mut self, slot: u16, index: usize, below: u16) {
        self.make_room(List::Page(below));
        self.memory.attach(List::Page(below), node(slot, index));
        let frame = self.memory.page(below).frame;
        self.store(slot, index, to_table(frame, slot == LOW_ROOT));
    }

    /// Takes the right to write from all mappings of a frame.
    pub(crate) fn protect(&mut self, gfn: u32) {
        let (head, count, _) = self.memory.ends(List::Frame(gfn));
        let mut at = head;
        for _ in 0..count {
            let next = self.memory.link(at).next;
            let (slot, index) = place(at);
            let entry = self.entry(slot, index);
            if entry & FLIPPED != 0 {
                self.drop_present(slot, index, Flush::All);
            } else if entry & WRITABLE != 0 {
                self.store(slot, index, entry & !WRITABLE);
                self.flush = Flush::All;
            }
            at = next;
        }
    }
}
