//! Members that do not answer, and may live all the same.
//!
//! Time is not known here: whoever has a clock asks whom this core waits for ([`Agreement::awaits`]), finds out whether
//! they live, and says so ([`Event::Silent`](super::Event::Silent)). To leave somebody out is safe whether it lives or
//! not. It is worth something only if enough members are left to go on ([`Agreement::may_leave_out`]).

use super::core_set::CoreSet;
use super::message::{Action, Refusal};
use super::transaction::Phase;
use super::tree::Routes;
use super::{Agreement, Out, Replica};

impl<R: Replica> Agreement<R> {
    /// Whose answer something waits for here: votes and acknowledgements, decisions, reports, what a steward owes.
    pub fn awaits(&self) -> CoreSet {
        if !self.member {
            return CoreSet::EMPTY;
        }
        let mut awaited = self.change.as_ref().map_or(CoreSet::EMPTY, |change| change.awaited);
        for (&id, txn) in &self.txns {
            awaited = awaited.with(txn.awaited);
            if txn.phase == Phase::Locked && txn.voted && id.initiator != self.me {
                awaited = awaited.with(self.parent(id).into_iter().collect());
            }
        }
        let owes_a_change =
            self.stopped || self.unsure || !self.leaves.is_empty() || !self.members.and(self.dead).is_empty();
        if owes_a_change {
            awaited = awaited.with(self.steward().into_iter().collect());
        }
        awaited.without(self.dead).without(CoreSet::one(self.me))
    }

    /// Whether it is for this core to leave these out: it leads the rest, and they are enough to go on.
    pub fn may_leave_out(&self, silent: CoreSet) -> bool {
        let left = self.members.without(self.dead).without(silent);
        self.member && self.first_of(left) == Some(self.me) && self.is_enough(left)
    }

    /// Whether this member is to believe these, who do not hear it any more, and those of them who have begun an epoch
    /// without it. Of two halves that do not hear each other, one believes it. And where an epoch has begun, another can
    /// have begun without all of its members only at some who do not come to any end with it. One that has nobody left in
    /// such an epoch asks those who were there before: who was to leave with it may have gone on in the other.
    pub fn is_left_out_by(&self, deaf: CoreSet, gone_on: CoreSet) -> bool {
        let fellows = match self.fellows() {
            CoreSet::EMPTY if self.unsure => self.before.without(self.ended).without(CoreSet::one(self.me)),
            fellows => fellows,
        };
        self.member
            && (self.is_enough_of(fellows.with(CoreSet::one(self.me)), deaf.and(fellows))
                || 2 * gone_on.and(fellows).len() > fellows.len())
    }

    /// Whether no other members can go on without one of these.
    fn is_enough(&self, some: CoreSet) -> bool {
        self.is_enough_of(self.members, some.and(self.members))
    }

    /// More than half of them, or half of them with the one that leads them all.
    fn is_enough_of(&self, all: CoreSet, some: CoreSet) -> bool {
        let first = self.first_of(all).is_some_and(|first| some.contains(first));
        2 * some.len() > all.len() || (2 * some.len() == all.len() && first)
    }

    /// Whether these can decide without all others: nobody of them may live, or these are enough.
    pub(super) fn may_go_on(&self, some: CoreSet) -> bool {
        self.silent().and(self.members).is_empty() || self.is_enough(some)
    }

    /// Ends this life, as a member or as one that waits to be one.
    pub(super) fn expel(&mut self, out: &mut Out<R>) {
        let unknown = |txn: &super::transaction::Txn<R::Op>| txn.phase == Phase::Committed && !txn.is_over();
        for txn in self.txns.values() {
            let Some(ticket) = txn.ticket.filter(|_| !txn.is_over()) else { continue };
            let refusal = if unknown(txn) { Refusal::Unknown } else { Refusal::NotAMember };
            out.push(Action::Refused(ticket, refusal));
        }
        // The epoch that completed them may be this core's alone.
        out.extend(self.answers.drain(..).map(|ticket| Action::Refused(ticket, Refusal::Unknown)));
        out.extend(self.wishes.drain(..).map(|wish| Action::Refused(wish.ticket, Refusal::NotAMember)));
        self.txns.clear();
        self.locks.clear();
        self.settled.clear();
        self.next_sequence = 0;
        (self.epoch, self.called, self.attempts) = (0, 0, 0);
        (self.member, self.stopped, self.unsure) = (false, false, false);
        self.dead = self.ended.without(self.reborn);
        self.ended = self.dead;
        let sets = [
            &mut self.members,
            &mut self.reborn,
            &mut self.dead_to_callers,
            &mut self.before,
            &mut self.joins,
            &mut self.leaves,
        ];
        sets.into_iter().for_each(|set| *set = CoreSet::EMPTY);
        (self.last, self.change) = (None, None);
        self.routes = Routes::default();
        self.held.clear();
        self.came.clear();
    }
}
