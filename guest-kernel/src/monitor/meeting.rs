//! How a core comes in.
//!
//! It greets each monitor it meets, and says that it wants in ([`Say::Hello`]). Each member tells the others that it has met
//! that very life of it ([`Say::Met`]), and when all have, the steward takes it in. So no member takes the words of a new
//! life for those of the old one, which it may still believe alive. One core founds the first epoch, alone: the first in an
//! empty mesh.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Monitor;
use super::wire::{Life, Say};
use crate::agreement::{CoreId, CoreSet, Event};

/// Somebody who is no member and may want to be one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stranger {
    pub(super) life: Life,
    pub(super) wants_in: bool,
    /// The members that have met this life of it, this core among them.
    pub(super) met: CoreSet,
    /// The steward has it on its list.
    pub(super) asked: bool,
}

impl Monitor {
    /// Says which life this is, and what it wants.
    pub(super) fn greet(&mut self, to: CoreSet) {
        let wants_in = self.wants_in && !self.inside;
        let since = self.inside.then_some(self.patience.since);
        self.tell(to, &Say::Hello { life: self.life, wants_in, since });
    }

    /// A peer says so.
    pub(super) fn hello(&mut self, from: CoreId, life: Life, wants_in: bool, since: Option<u64>) {
        let Some(peer) = self.peers.get_mut(usize::from(from)) else { return };
        peer.since = since;
        if peer.life.replace(life).is_some_and(|known| known != life) {
            self.begins_anew(from, life);
        }
        self.step(Event::Met(from, life));
        let met = self.ahead.get(&(from, life)).copied().unwrap_or_default().with(CoreSet::one(self.me));
        self.strangers.insert(from, Stranger { life, wants_in, met, asked: false });
        if wants_in {
            self.tell_members(&Say::Met { core: from, life });
        }
        self.tell_stray(from);
        self.take_in_ripe();
    }

    /// A peer has met that life of another.
    pub(super) fn met(&mut self, from: CoreId, core: CoreId, life: Life) {
        if usize::from(core) >= self.peers.len() {
            return self.accuse(from);
        }
        // Of each core, one life that is ahead of what is known here is remembered for each who tells of it.
        self.ahead.retain(|(of, _), by| {
            if *of == core {
                by.remove(from);
            }
            !by.is_empty()
        });
        self.ahead.entry((core, life)).or_default().insert(from);
        if let Some(stranger) = self.strangers.get_mut(&core)
            && stranger.life == life
        {
            stranger.met.insert(from);
            self.take_in_ripe();
        }
    }

    /// Takes in whom all members have met, if it is for this core to do so.
    pub(super) fn take_in_ripe(&mut self) {
        let Some((_, members)) = self.epoch().filter(|_| self.agreement.leads()) else { return };
        let ripe = |stranger: &Stranger| {
            stranger.wants_in && !stranger.asked && members.without(stranger.met).is_empty()
        };
        // A member that seems a stranger has a new life; its old one has to go first.
        let ripe =
            self.strangers.iter().filter(|&(core, stranger)| !members.contains(*core) && ripe(stranger));
        let ripe: Vec<CoreId> = ripe.map(|(&core, _)| core).collect();
        for core in ripe {
            if let Some(stranger) = self.strangers.get_mut(&core) {
                stranger.asked = true;
            }
            self.step(Event::Join(core));
        }
    }

    /// Tells the members of an epoch that begins whom of those who want in this core has met: who came with it has not heard,
    /// and who led before may be gone.
    pub(super) fn tell_of_strangers(&mut self) {
        self.strangers.values_mut().for_each(|stranger| stranger.asked = false);
        let wanting = self.strangers.iter().filter(|(_, stranger)| stranger.wants_in);
        let met: Vec<Say> = wanting.map(|(&core, stranger)| Say::Met { core, life: stranger.life }).collect();
        met.iter().for_each(|say| self.tell_members(say));
    }
}
