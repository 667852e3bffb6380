//! Whether an agreement that another kernel has written down can be one.
//!
//! What the other cores say is checked as it comes; this is checked once, so that nothing in it runs over an end.

use super::core_set::CoreId;
use super::transaction::{WINDOW, WISHES};
use super::tree::Routes;
use super::{Agreement, HELD, Replica};

/// No number of anything is as great as this.
const NEVER: u64 = 1 << 40;

impl<R: Replica> Agreement<R> {
    /// Whether this can be the agreement of core `me` of so many.
    pub fn is_sound(&self, me: CoreId, cores: usize) -> bool {
        let numbers = [self.epoch, self.called, self.attempts, self.next_sequence];
        let own = self.txns.keys().filter(|txn| txn.initiator == me);
        let held_of = |core| self.held.iter().filter(|(from, _)| *from == core).count();
        self.me == me
            && usize::from(me) < cores
            && numbers.iter().all(|&number| number < NEVER)
            && self.settled.values().all(|&number| number < NEVER)
            && self.txns.keys().all(|txn| txn.sequence < NEVER && usize::from(txn.initiator) < cores)
            && (!self.member || self.members.contains(me))
            && self.members.iter().all(|core| usize::from(core) < cores)
            && self.lives.keys().chain(self.came.keys()).all(|&core| usize::from(core) < cores)
            && self.topology.is_sound()
            && self.routes == Routes::of(&self.topology, self.members, self.me)
            && own.clone().all(|txn| txn.sequence < self.next_sequence)
            && own.count() <= 2 * WINDOW + WISHES
            && self.wishes.len() <= WISHES
            && self.held.iter().all(|(from, _)| held_of(*from) <= HELD)
            // Who has a lock is under way, or nobody ever gives it back.
            && self.locks.values().all(|txn| self.txns.contains_key(txn))
    }
}
