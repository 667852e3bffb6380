//! Calls about many pages: what is left of one, and how far it has come.
//!
//! Such a call is done a page at a time. Where another core wants this one, it stops behind a page; what is done is
//! noted in the upper bits of RDI, and the guest makes the same call again without knowing it (Xen's continuation).

use abi::xen::memory::{self as op, Reservation, flags};

/// Extents of a reservation that are still to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Address of the list of frame numbers.
    list: u64,
    /// Each has two to this power of frames.
    pub order: u32,
    /// How many are done.
    pub done: u64,
    /// How many there are.
    end: u64,
}

/// Xen's limits to the order of an extent, for a guest and for domain 0 (`memop-max-order`).
const MAX_ORDER: [u32; 2] = [9, 18];
/// Nodes that a machine of Xen's may have.
const MAX_NODES: u32 = 64;

impl Extents {
    /// What is left of a call of which `done` extents are done already. `None`: nothing, whether because all is done or
    /// because something is wrong with it. Either way the call returns `done`: these calls have no other errors.
    pub fn new(reservation: &Reservation, done: u64, privileged: bool) -> Option<Self> {
        let Reservation { extent_start, nr_extents, extent_order, mem_flags, .. } = *reservation;
        if nr_extents > op::MAX_EXTENTS || done >= nr_extents {
            return None;
        }
        // The width of addresses that the frames must fit in; less than a page is none.
        if (1..=12).contains(&(mem_flags & 0xff)) {
            return None;
        }
        let node = (mem_flags >> 8).wrapping_sub(1) & 0xff;
        let physical_node = mem_flags & flags::VNODE == 0 && node != 0xff;
        let refused = if privileged { node >= MAX_NODES } else { mem_flags & flags::EXACT_NODE_REQUEST != 0 };
        if physical_node && refused || extent_order > MAX_ORDER[usize::from(privileged)] {
            return None;
        }
        Some(Self { list: extent_start, order: extent_order, done, end: nr_extents })
    }

    /// Where the next extent's frame number is; `None`: all are done.
    pub fn next(&self) -> Option<u64> {
        (self.done < self.end).then(|| self.list.wrapping_add(self.done * 8))
    }

    /// Frames in an extent.
    pub fn frames(&self) -> u64 {
        1 << self.order
    }
}

/// RDI of the call that goes on where `done` are done.
pub fn again(operation: u64, done: u64) -> u64 {
    operation & op::OPERATION_MASK | done << op::EXTENT_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::xen::DOMID_SELF;
    use proptest::prelude::*;

    fn reservation(nr_extents: u64, extent_order: u32, mem_flags: u32) -> Reservation {
        Reservation {
            extent_start: 0x1000,
            nr_extents,
            extent_order,
            mem_flags,
            domid: DOMID_SELF,
            pad: [0; 3],
        }
    }

    fn ends(nr_extents: u64, order: u32, mem_flags: u32, done: u64, privileged: bool) -> bool {
        Extents::new(&reservation(nr_extents, order, mem_flags), done, privileged).is_none()
    }

    #[test]
    fn what_is_refused() {
        assert!(ends(op::MAX_EXTENTS + 1, 0, 0, 0, false));
        assert!(!ends(op::MAX_EXTENTS, 0, 0, 0, false));
        assert!(ends(3, 0, 0, 3, false) && ends(3, 0, 0, u64::MAX >> 6, false));
        assert!(ends(1, 10, 0, 0, false) && !ends(1, 9, 0, 0, false) && !ends(1, 18, 0, 0, true));
        assert!(ends(1, 19, 0, 0, true) && ends(1, u32::MAX, 0, 0, true));
        assert!(ends(1, 0, 12, 0, false) && !ends(1, 0, 13, 0, false), "narrower than a page");
        let node = |node: u32| (node + 1) << 8;
        assert!(!ends(1, 0, node(3), 0, false) && ends(1, 0, node(3) | flags::EXACT_NODE_REQUEST, 0, false));
        assert!(!ends(1, 0, node(200) | flags::VNODE | flags::EXACT_NODE_REQUEST, 0, false));
        assert!(!ends(1, 0, flags::EXACT_NODE_REQUEST, 0, false), "no node named");
        assert!(ends(1, 0, node(64), 0, true) && !ends(1, 0, node(63), 0, true));
    }

    #[test]
    fn it_goes_on_where_it_stopped() {
        let mut extents = Extents::new(&reservation(3, 9, 0), 1, false).unwrap();
        assert_eq!((extents.next(), extents.frames()), (Some(0x1008), 512));
        extents.done += 1;
        assert_eq!(extents.next(), Some(0x1010));
        assert_eq!(again(op::POPULATE_PHYSMAP, extents.done), 6 | 2 << 6);
        extents.done += 1;
        assert_eq!(extents.next(), None);
    }

    proptest! {
        #[test]
        fn any_words_are_harmless(start: u64, extents: u64, order: u32, mem_flags: u32, done: u64, privileged: bool) {
            let reservation = Reservation { extent_start: start, ..reservation(extents, order, mem_flags) };
            if let Some(found) = Extents::new(&reservation, done, privileged) {
                prop_assert!(found.next().is_some() && found.frames() <= 1 << 18);
                prop_assert_eq!(again(1, found.done) >> op::EXTENT_SHIFT, done);
            }
        }
    }
}
