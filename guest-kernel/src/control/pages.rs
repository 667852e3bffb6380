//! The memory domain 0 shares with guests, all of it made at start for as many slots as the machine has cores.
//!
//! It is never freed and never moves: a guest that maps a page keeps it for life, and its successor in the slot
//! gets the same page, made fresh. Who may make what fresh, and when, is [membership](super::membership)'s to say.

use alloc::{boxed::Box, vec::Vec};

use abi::mesh::{MAX_SLOTS, MeshPage};
use zerocopy::IntoBytes;

use crate::mesh::{SharedPage, Window};
use io_rings::bytes::{ConsolePage, XenstorePage};

/// A place in the mesh; by Atoll's custom the number of the core.
pub type Slot = usize;

/// What one guest has for itself.
#[derive(Clone, Copy)]
pub struct SlotPages {
    /// Its mesh page.
    pub mesh: &'static SharedPage,
    /// Its console rings.
    pub console: &'static ConsolePage,
    /// Its rings with xenstore.
    pub store: &'static XenstorePage,
}

impl SlotPages {
    /// Tells the guest its place in the mesh.
    pub fn write_mesh(&self, page: &MeshPage) {
        self.mesh.fill(page.as_bytes());
    }
}

/// All shared memory.
pub struct Pages {
    /// By slot, less domain 0's.
    guests: Vec<SlotPages>,
    /// Pair (i, j), i < j, at `j * (j - 1) / 2 + i`.
    pairs: Vec<&'static Window>,
}

impl Pages {
    /// Memory for this many slots, domain 0's included.
    pub fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, MAX_SLOTS);
        let guest = |_| SlotPages {
            mesh: Box::leak(Box::new(SharedPage::new())),
            console: Box::leak(Box::new(ConsolePage::new())),
            store: Box::leak(Box::new(XenstorePage::new())),
        };
        let pair = |_| -> &'static Window { Box::leak(Box::default()) };
        Self {
            guests: (1..slots).map(guest).collect(),
            pairs: (0..slots * (slots - 1) / 2).map(pair).collect(),
        }
    }

    /// Slots there are, domain 0's included.
    pub fn slots(&self) -> usize {
        self.guests.len() + 1
    }

    /// The pages of the guest in this slot; `None` for domain 0 and where there is no such slot.
    pub fn guest(&self, slot: Slot) -> Option<SlotPages> {
        self.guests.get(slot.checked_sub(1)?).copied()
    }

    /// The channel between two different slots, in either order.
    pub fn pair(&self, one: Slot, other: Slot) -> Option<&'static Window> {
        let (low, high) = (one.min(other), one.max(other));
        if low == high || high >= self.slots() {
            return None;
        }
        self.pairs.get(high * (high - 1) / 2 + low).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_pair_has_a_channel_of_its_own() {
        let pages = Pages::new(5);
        let mut seen = BTreeSet::new();
        for one in 0..5 {
            for other in 0..5 {
                match pages.pair(one, other) {
                    None => assert_eq!(one, other),
                    Some(pair) => assert_eq!(seen.insert(core::ptr::from_ref(pair)), one < other),
                }
            }
        }
        assert_eq!(seen.len(), 10);
        assert!(pages.pair(0, 5).is_none() && pages.guest(0).is_none() && pages.guest(5).is_none());
    }
}
