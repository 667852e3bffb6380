//! Who knows whom: the state of the channel between each pair of guests, and so when its pages may be made fresh.
//!
//! A channel's pages outlive its guests. When one of the two is gone the other still holds an end, with numbers
//! that a fresh page would make nonsense of. So the survivor is told `PEER_DOWN` and the pages stay as they are
//! until it answers `PEER_DOWN_ACK` or dies itself:
//!
//! ```text
//!          meet             one is gone                 the survivor acknowledges, or is gone too
//!   Fresh ------> Joined ---------------> Draining ------------------------------------------------> Fresh
//! ```
//!
//! A new guest meets only those whose channel with its slot is fresh. One that has yet to answer is no hindrance to
//! anybody else: the newcomer starts without knowing it, as if that slot were empty. When the answer comes at last
//! (the survivor was paused, say) the two are introduced; if it never comes (it hangs, it is hostile) they remain
//! strangers until one of them starts anew.
//!
//! All this is bookkeeping: no hypercall, no message. Channels with domain 0 itself are not in here, because
//! domain 0 drops its own end before it goes on.

use alloc::vec;
use alloc::vec::Vec;

use abi::mesh::MAX_SLOTS;

use super::pages::Slot;

/// The channel between two guests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Channel {
    /// No end is in use: the pages may be made fresh.
    #[default]
    Fresh,
    /// Both guests have been told of each other.
    Joined,
    /// One is gone, and the other, in this slot, has yet to say that it has dropped its end.
    Draining {
        /// Who has to say so.
        survivor: Slot,
        /// Whether it has been asked; an answer before the question is a lie.
        asked: bool,
    },
}

/// A place in the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    /// No live guest.
    #[default]
    Empty,
    /// A live guest.
    Live,
    /// A live guest whose channel with domain 0 is broken: it can be told nothing.
    Deaf,
}

/// The mesh, as domain 0 has arranged it.
#[derive(Debug)]
pub struct Membership {
    places: [Place; MAX_SLOTS],
    /// Of the two entries of a pair, the one in the row of the lower slot counts.
    channels: Vec<[Channel; MAX_SLOTS]>,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            places: [Place::default(); MAX_SLOTS],
            channels: vec![[Channel::default(); MAX_SLOTS]; MAX_SLOTS],
        }
    }
}

impl Membership {
    /// Live guests that a newcomer in `slot` can meet at once.
    pub fn meetable(&self, slot: Slot) -> Vec<Slot> {
        self.others(slot)
            .filter(|&other| self.place(other) == Place::Live && self.channel(slot, other) == Channel::Fresh)
            .collect()
    }

    /// Live guests that a newcomer in `slot` may be introduced to later: they hold an end of its channel still.
    pub fn strangers(&self, slot: Slot) -> Vec<Slot> {
        self.others(slot)
            .filter(|&other| self.place(other) == Place::Live && self.channel(slot, other) != Channel::Fresh)
            .collect()
    }

    /// A guest has started in `slot` and knows these peers, who were all [meetable](Self::meetable).
    pub fn born(&mut self, slot: Slot, peers: &[Slot]) {
        self.set_place(slot, Place::Live);
        for &peer in peers {
            self.set_channel(slot, peer, Channel::Joined);
        }
    }

    /// The guest in `slot` runs no more. The answer: who must be told `PEER_DOWN`.
    pub fn gone(&mut self, slot: Slot) -> Vec<Slot> {
        self.set_place(slot, Place::Empty);
        let mut survivors = Vec::new();
        for other in self.others(slot) {
            match self.channel(slot, other) {
                Channel::Joined => {
                    self.set_channel(slot, other, Channel::Draining { survivor: other, asked: false });
                    survivors.push(other);
                }
                Channel::Draining { survivor, .. } if survivor == slot => {
                    self.set_channel(slot, other, Channel::Fresh);
                }
                Channel::Draining { .. } | Channel::Fresh => {}
            }
        }
        survivors
    }

    /// `PEER_DOWN` about `about` has gone out to `survivor`.
    pub fn asked(&mut self, survivor: Slot, about: Slot) {
        if self.channel(survivor, about) == (Channel::Draining { survivor, asked: false }) {
            self.set_channel(survivor, about, Channel::Draining { survivor, asked: true });
        }
    }

    /// `survivor` says that it has dropped its end of the channel with `about`. True: a successor is in that slot
    /// by now and the two count as joined, so they have to be introduced. A word that nobody asked for changes
    /// nothing.
    pub fn acknowledged(&mut self, survivor: Slot, about: Slot) -> bool {
        if self.channel(survivor, about) != (Channel::Draining { survivor, asked: true }) {
            return false;
        }
        let introduce = [survivor, about].iter().all(|&slot| self.place(slot) == Place::Live);
        self.set_channel(survivor, about, if introduce { Channel::Joined } else { Channel::Fresh });
        introduce
    }

    /// The channel between domain 0 and this guest broke: it hears of no newcomer, and none hears of it.
    pub fn deaf(&mut self, slot: Slot) {
        if self.place(slot) == Place::Live {
            self.set_place(slot, Place::Deaf);
        }
    }

    /// All guests' slots but this one.
    fn others(&self, slot: Slot) -> impl Iterator<Item = Slot> + use<> {
        (1..MAX_SLOTS).filter(move |&other| other != slot)
    }

    fn place(&self, slot: Slot) -> Place {
        self.places.get(slot).copied().unwrap_or_default()
    }

    fn set_place(&mut self, slot: Slot, place: Place) {
        if let Some(at) = self.places.get_mut(slot) {
            *at = place;
        }
    }

    fn channel(&self, one: Slot, other: Slot) -> Channel {
        let row = self.channels.get(one.min(other));
        row.and_then(|row| row.get(one.max(other))).copied().unwrap_or_default()
    }

    fn set_channel(&mut self, one: Slot, other: Slot, channel: Channel) {
        let row = self.channels.get_mut(one.min(other));
        if let Some(at) = row.and_then(|row| row.get_mut(one.max(other))) {
            *at = channel;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    /// Starts a guest in `slot` that meets whom it can.
    fn start(membership: &mut Membership, slot: Slot) -> Vec<Slot> {
        let peers = membership.meetable(slot);
        membership.born(slot, &peers);
        peers
    }

    #[test]
    fn pages_wait_for_the_survivors() {
        let mut mesh = Membership::default();
        assert_eq!(start(&mut mesh, 1), []);
        assert_eq!(start(&mut mesh, 2), [1]);
        assert_eq!(start(&mut mesh, 3), [1, 2]);
        assert_eq!(mesh.gone(3), [1, 2]);
        assert_eq!(mesh.meetable(3), []);
        mesh.acknowledged(1, 3);
        assert_eq!(mesh.meetable(3), [], "nobody has asked yet");
        mesh.asked(1, 3);
        assert!(!mesh.acknowledged(1, 3), "nobody to introduce");
        assert_eq!(mesh.meetable(3), [1]);
        assert_eq!(mesh.gone(2), [1], "the last that held an end dies");
        assert_eq!(mesh.meetable(3), [1]);
    }

    #[test]
    fn strangers_are_introduced_when_the_answer_comes() {
        let mut mesh = Membership::default();
        start(&mut mesh, 1);
        start(&mut mesh, 2);
        mesh.gone(2);
        assert_eq!(mesh.strangers(2), [1]);
        assert_eq!(start(&mut mesh, 2), [], "1 has not answered");
        mesh.asked(1, 2);
        assert!(mesh.acknowledged(1, 2));
        assert!(!mesh.acknowledged(1, 2), "once is enough");
        assert_eq!(mesh.gone(2), [1], "they had met");
    }

    #[test]
    fn strangers_for_life_have_nothing_to_part_from() {
        let mut mesh = Membership::default();
        start(&mut mesh, 1);
        start(&mut mesh, 2);
        mesh.gone(2);
        start(&mut mesh, 2);
        assert_eq!(mesh.gone(2), [], "they never met");
        mesh.gone(1);
        start(&mut mesh, 2);
        assert_eq!(start(&mut mesh, 1), [2]);
    }

    #[test]
    fn nobody_meets_the_deaf() {
        let mut mesh = Membership::default();
        start(&mut mesh, 1);
        start(&mut mesh, 2);
        mesh.deaf(1);
        mesh.gone(2);
        assert_eq!(start(&mut mesh, 2), []);
        mesh.asked(1, 2);
        assert!(!mesh.acknowledged(1, 2));
        mesh.gone(1);
        assert_eq!(start(&mut mesh, 1), [2]);
    }

    /// What can happen to a guest in one of four slots.
    #[derive(Clone, Copy, Debug)]
    enum Happening {
        Start(Slot),
        Death(Slot),
        Deliver(Slot, Slot),
        Acknowledge(Slot, Slot),
        Deafness(Slot),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        let slot = 1..5usize;
        prop_oneof![
            3 => slot.clone().prop_map(Happening::Start),
            2 => slot.clone().prop_map(Happening::Death),
            4 => (slot.clone(), slot.clone()).prop_map(|(a, b)| Happening::Deliver(a, b)),
            4 => (slot.clone(), slot.clone()).prop_map(|(a, b)| Happening::Acknowledge(a, b)),
            1 => slot.prop_map(Happening::Deafness),
        ]
    }

    proptest! {
        /// The one promise: a channel is made fresh only when no live guest holds an end of it. The model keeps
        /// the ends that honest guests hold: they take one when they meet, and drop it when they answer or die.
        #[test]
        fn no_page_is_made_fresh_under_a_live_end(happenings in proptest::collection::vec(happening(), 1..200)) {
            let mut mesh = Membership::default();
            let mut live = BTreeSet::new();
            // (holder, other side), (who was told, of whom)
            let mut ends: BTreeSet<(Slot, Slot)> = BTreeSet::new();
            let mut told: BTreeSet<(Slot, Slot)> = BTreeSet::new();
            let mut queued: BTreeSet<(Slot, Slot)> = BTreeSet::new();
            for happening in happenings {
                match happening {
                    Happening::Start(slot) if live.insert(slot) => {
                        for peer in start(&mut mesh, slot) {
                            prop_assert!(live.contains(&peer));
                            prop_assert!(ends.insert((slot, peer)) && ends.insert((peer, slot)));
                        }
                    }
                    Happening::Death(slot) if live.remove(&slot) => {
                        ends.retain(|(holder, _)| *holder != slot);
                        queued.retain(|(holder, _)| *holder != slot);
                        told.retain(|(holder, _)| *holder != slot);
                        for survivor in mesh.gone(slot) {
                            prop_assert!(ends.contains(&(survivor, slot)));
                            prop_assert!(queued.insert((survivor, slot)));
                        }
                    }
                    Happening::Deliver(to, about) if queued.remove(&(to, about)) => {
                        mesh.asked(to, about);
                        told.insert((to, about));
                    }
                    Happening::Acknowledge(from, about) => {
                        // Whoever was not told answers all the same: a lie, and it must count for nothing.
                        let honest = told.remove(&(from, about));
                        if honest {
                            ends.remove(&(from, about));
                        }
                        if mesh.acknowledged(from, about) {
                            prop_assert!(honest && live.contains(&from) && live.contains(&about));
                            prop_assert!(ends.insert((from, about)) && ends.insert((about, from)));
                        }
                    }
                    Happening::Deafness(slot) => mesh.deaf(slot),
                    _ => {}
                }
            }
        }
    }
}
