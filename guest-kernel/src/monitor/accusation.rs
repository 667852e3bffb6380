//! Who breaks the rules.
//!
//! It is not heard any more. That is told to the others ([`Say::Accuse`]), and once more than half of the other members say
//! the same, the core counts as dead. Whom they have convinced says so as well, for they may die. One liar thus has no power over the rest. Rules are those of the lines, of what may be
//! said when, and that nobody acts in another's name; a core that lies within the rules about what it did is not found out,
//! as agreement among cores that only fail by stopping never does.

use alloc::vec::Vec;

use super::wire::Say;
use super::{Monitor, News};
use crate::agreement::{CoreId, CoreSet, Event};

impl Monitor {
    /// A member says that another broke the rules.
    pub(super) fn told_accused(&mut self, from: CoreId, core: CoreId) {
        if usize::from(core) < self.peers.len() {
            self.accused.entry(core).or_default().insert(from);
            self.judge();
        }
    }

    /// This core broke the rules.
    pub(super) fn accuse(&mut self, core: CoreId) {
        if self.denounce(core) {
            self.judge();
        }
    }

    /// Tells the others that it did, and hears no more of it; whether that is new.
    fn denounce(&mut self, core: CoreId) -> bool {
        let peer = self.peers.get_mut(usize::from(core)).filter(|peer| !peer.silenced);
        let Some(peer) = peer else { return false };
        peer.silence();
        self.news.push_back(News::Silenced(core));
        self.close_channels_of(core);
        self.strangers.remove(&core);
        self.accused.entry(core).or_default().insert(self.me);
        self.tell_members(&Say::Accuse { core });
        true
    }

    /// Counts those as dead of whom enough members say that they broke the rules.
    pub(super) fn judge(&mut self) {
        let Some((_, members)) = self.epoch() else { return };
        let guilty = |core: CoreId, by: CoreSet| {
            let others = members.without(CoreSet::one(core));
            core != self.me && members.contains(core) && 2 * by.and(others).len() > others.len()
        };
        let condemned: Vec<CoreId> =
            self.accused.iter().filter(|&(&core, &by)| guilty(core, by)).map(|(&core, _)| core).collect();
        for core in condemned {
            // Whoever is convinced says so: an accuser may die before it has convinced the others.
            self.denounce(core);
            self.accused.remove(&core);
            self.step(Event::Died(core));
        }
    }

    /// Tells the members of an epoch that begins whom this core accuses.
    pub(super) fn tell_of_accused(&mut self) {
        let accused = self.accused.iter().filter(|(_, by)| by.contains(self.me));
        let accused: Vec<Say> = accused.map(|(&core, _)| Say::Accuse { core }).collect();
        accused.iter().for_each(|say| self.tell_members(say));
    }
}
