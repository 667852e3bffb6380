//! What is known of each shadow, of each of its entries and of each guest frame: three arrays, given once.
//!
//! They are tied together by lists that run through them, so nothing is ever allocated. Indices come from these lists
//! alone, never from a guest; the accessors at the end are the one place where they are used.

use abi::address::HostPhys;

use super::role::Role;
use crate::frames::ENTRIES;

/// No link.
pub(crate) const NO_LINK: u32 = u32::MAX;
/// No page.
pub(crate) const NO_SLOT: u16 = u16::MAX;

/// One host frame for a shadow table, and what it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub(crate) frame: HostPhys,
    /// The guest frame that holds the table, or where the piece of a large page begins.
    pub(crate) gfn: u32,
    pub(crate) role: Role,
    /// Head of the list of entries that point here.
    pub(crate) parents: u32,
    pub(crate) parent_count: u16,
    /// The next shadow of the same guest frame, or the next free page.
    pub(crate) next: u16,
    /// Neighbours in the order of use.
    pub(crate) newer: u16,
    pub(crate) older: u16,
    /// The guest may write the table at will: until the next flush the shadow may be wrong.
    pub(crate) unsync: bool,
    /// A walk came by since it was last looked for a page to let go.
    pub(crate) used: bool,
    /// Writes that were emulated since a walk last came by.
    pub(crate) writes: u8,
}

impl Page {
    /// A free page in this host frame, whose 512 entries are zero.
    pub const fn new(frame: HostPhys) -> Self {
        Self {
            frame,
            gfn: 0,
            role: Role::NONE,
            parents: NO_LINK,
            parent_count: 0,
            next: NO_SLOT,
            newer: NO_SLOT,
            older: NO_SLOT,
            unsync: false,
            used: false,
            writes: 0,
        }
    }
}

/// The bookkeeping of one entry of a shadow: its place in the list of those that lead to the same.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub(crate) next: u32,
    pub(crate) previous: u32,
    /// What the entry leads to: a guest frame (level 1) or a page (above).
    pub(crate) target: u32,
}

impl Link {
    /// For an entry that is not present.
    pub const UNUSED: Self = Self { next: NO_LINK, previous: NO_LINK, target: 0 };
}

/// The bookkeeping of one frame of the guest's memory.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Head of the list of entries that map it: the reverse map.
    pub(crate) mappings: u32,
    pub(crate) mapping_count: u16,
    /// Its shadows, and the pieces of large pages that begin here.
    pub(crate) shadows: u16,
    /// How many shadows need it write-protected.
    pub(crate) protectors: u16,
    /// How many of these are above level 1.
    pub(crate) upper: u16,
}

impl Frame {
    /// Neither mapped nor a table.
    pub const UNUSED: Self =
        Self { mappings: NO_LINK, mapping_count: 0, shadows: NO_SLOT, protectors: 0, upper: 0 };
}

/// The memory that the shadows of one guest live in; fixed for its life.
#[derive(Debug)]
pub struct Memory<'a> {
    /// The pool of tables.
    pub pages: &'a mut [Page],
    /// 512 for each page.
    pub links: &'a mut [Link],
    /// One for each 4 KiB of guest-physical addresses, from 0 to the end of the guest's memory.
    pub frames: &'a mut [Frame],
}

/// The list that an entry is in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum List {
    /// The mappings of a guest frame.
    Frame(u32),
    /// The parents of a page.
    Page(u16),
}

impl Memory<'_> {
    pub(crate) fn page(&mut self, slot: u16) -> &mut Page {
        &mut self.pages[usize::from(slot)]
    }

    pub(crate) fn frame(&mut self, gfn: u32) -> &mut Frame {
        &mut self.frames[gfn as usize]
    }

    pub(crate) fn link(&mut self, node: u32) -> &mut Link {
        &mut self.links[node as usize]
    }

    fn head(&mut self, list: List) -> (&mut u32, &mut u16) {
        match list {
            List::Frame(gfn) => {
                let frame = self.frame(gfn);
                (&mut frame.mappings, &mut frame.mapping_count)
            }
            List::Page(slot) => {
                let page = self.page(slot);
                (&mut page.parents, &mut page.parent_count)
            }
        }
    }

    /// The newest entry of a list, how many there are, and the oldest.
    pub(crate) fn ends(&mut self, list: List) -> (u32, u16, u32) {
        let (head, count) = self.head(list);
        let (head, count) = (*head, *count);
        let oldest = if head == NO_LINK { NO_LINK } else { self.link(head).previous };
        (head, count, oldest)
    }

    /// Puts an entry at the head of a list, which is a ring.
    pub(crate) fn attach(&mut self, list: List, node: u32) {
        let target = match list {
            List::Frame(gfn) => gfn,
            List::Page(slot) => u32::from(slot),
        };
        let (head, _, oldest) = self.ends(list);
        let (next, previous) = if head == NO_LINK { (node, node) } else { (head, oldest) };
        *self.link(node) = Link { next, previous, target };
        self.link(next).previous = node;
        self.link(previous).next = node;
        let (head, count) = self.head(list);
        *head = node;
        *count += 1;
    }

    /// Takes an entry out of its list.
    pub(crate) fn detach(&mut self, list: List, node: u32) {
        let Link { next, previous, .. } = *self.link(node);
        self.link(next).previous = previous;
        self.link(previous).next = next;
        let (head, count) = self.head(list);
        if *head == node {
            *head = if next == node { NO_LINK } else { next };
        }
        *count -= 1;
        *self.link(node) = Link::UNUSED;
    }
}

/// The bookkeeping of entry `index` of page `slot`.
pub(crate) const fn node(slot: u16, index: usize) -> u32 {
    slot as u32 * ENTRIES as u32 + index as u32
}

/// The page and the entry that a link belongs to.
pub(crate) const fn place(node: u32) -> (u16, usize) {
    ((node / ENTRIES as u32) as u16, node as usize % ENTRIES)
}
