//! Epochs: cores that come, go and die.
//!
//! ```text
//! steward                old member             new core
//!   stop                     │                     │
//!   ├──── Propose ─────────▶ stop                  │
//!   ├──── Propose ───────────┼──────────────────▶ stop
//!   ◀──── Report ────────────┤ what it carried out │
//!   ◀──── Report ────────────┼─────────────────────┤ that it is new
//!   decide, begin the epoch  │                     │
//!   ├──── Install ─────────▶ begin the epoch       │
//!   ◀──── Installed ─────────┤                     │
//!   ├──── Install ───────────┼──────────────────▶ take the replica, begin
//!   ◀──── Installed ─────────┼─────────────────────┤
//!   ├──── Begun ───────────▶ answer what was completed
//! ```
//!
//! A death on the way makes the steward propose anew, and the steward's own death makes the next one steward. That no
//! two decide differently rests on three rules. A proposal says who is dead, and nobody who answered it hears the dead
//! any more; so an `Install` of a dead steward that has not arrived by then never does. A decision waits for the report
//! of all who live; so if one of them has the epoch already, it says so and that decision stands. And a core that
//! comes or goes is told last, so that it never is the only one to know of an epoch.
//!
//! Two more rules are for members that do not answer and may live all the same ([`doubt`](super::doubt)). Where one
//! that is not certainly dead is left out, more than half of the members have to take part, or half of them with the
//! epoch's first steward. And a report says who is dead to the one that gives it, so that a steward that begins where
//! another has died leaves out all whom that one has left out.
//!
//! What a change completes is answered only when all members have begun the epoch: else the answer could outlive the
//! deed, where all that knew of it die.
//!
//! One core comes and one goes at a time, and a steward lets itself go in a change of its own. The last member stays.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::core_set::{CoreId, CoreSet};
use super::message::{Action, Body, Dead, Decision, Message, Refusal, Standing};
use super::tree::Routes;
use super::{Agreement, Out, Replica};

/// A change of epoch, at its steward.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "R::Op: Serialize, R::State: Serialize",
    deserialize = "R::Op: Deserialize<'de>, R::State: Deserialize<'de>"
))]
pub(super) struct Change<R: Replica> {
    epoch: u64,
    attempt: u64,
    /// The members to be, if no steward before decided otherwise.
    next: CoreSet,
    /// All who take part, the steward not among them.
    others: CoreSet,
    /// Whose answer is awaited.
    pub(super) awaited: CoreSet,
    stage: Stage<R>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "R::Op: Serialize, R::State: Serialize",
    deserialize = "R::Op: Deserialize<'de>, R::State: Deserialize<'de>"
))]
enum Stage<R: Replica> {
    Reporting(BTreeMap<CoreId, Standing<R::Op>>),
    /// Those who stay begin; then those who come, with this replica, and those who go.
    Installing {
        fresh: CoreSet,
        leaving: CoreSet,
        decision: Decision<R::Op>,
        state: R::State,
    },
    /// Those who come begin, and those who go stop.
    Last,
}

impl<R: Replica> Agreement<R> {
    /// The lowest living member, of those that were there before this epoch if one is left: a core that came with it
    /// may not have begun it.
    pub(super) fn steward(&self) -> Option<CoreId> {
        self.first_of(self.members.without(self.dead))
    }

    /// Whichever of these is steward if the others are dead.
    pub(super) fn first_of(&self, living: CoreSet) -> Option<CoreId> {
        let fresh = self.last.as_ref().map_or(CoreSet::EMPTY, |decision| decision.fresh);
        living.without(fresh).lowest().or(living.lowest())
    }

    /// Somebody wants in or out: the steward's affair, now or after the change that is under way.
    pub(super) fn wish(&mut self, joins: CoreSet, leaves: CoreSet, out: &mut Out<R>) {
        self.joins = self.joins.with(joins);
        self.leaves = self.leaves.with(leaves);
        self.pass_on_wishes(out);
    }

    fn pass_on_wishes(&mut self, out: &mut Out<R>) {
        self.joins = self.joins.without(self.members);
        self.leaves = self.leaves.and(self.members);
        let steward = self.steward().filter(|&steward| self.member && steward != self.me);
        // A steward that began where another has died may not have heard whom that one has left out.
        let silent = self.silent().and(self.members);
        if let Some(steward) = steward
            && !self.joins.with(self.leaves).with(silent).is_empty()
        {
            let wish = Body::Wish { joins: self.joins, leaves: self.leaves, silent };
            self.send(CoreSet::one(steward), &wish, out);
        }
    }

    /// What others are told of the dead.
    fn told_dead(&self) -> Dead {
        Dead { all: self.dead.and(self.members), ended: self.ended.and(self.members) }
    }

    /// Whom one member does not hear any more, nobody does; whether there was one that was heard here.
    pub(super) fn leave_out(&mut self, silent: CoreSet, out: &mut Out<R>) -> bool {
        let heard = silent.and(self.members).without(self.dead).without(CoreSet::one(self.me));
        let any = self.member && !heard.is_empty();
        if any {
            heard.iter().for_each(|core| self.died(core, out));
        }
        any
    }

    pub(super) fn died(&mut self, core: CoreId, out: &mut Out<R>) {
        self.dead.insert(core);
        self.reborn.remove(core);
        self.joins.remove(core);
        self.held.retain(|(from, _)| *from != core);
        self.pass_on_wishes(out);
        if self.member && (self.unsure || self.steward() == Some(self.me)) {
            // The dead may have begun this epoch, and not have told everyone; and who was not told may take another
            // for its steward than who was.
            self.tell_of_epoch(out);
        }
        let Some(change) = self.change.as_mut().filter(|change| change.others.contains(core)) else { return };
        change.others.remove(core);
        match &mut change.stage {
            Stage::Reporting(_) => {
                let mut next = change.next.without(self.dead);
                if next.is_empty() {
                    // It was on its way out, and has nobody left to leave it to.
                    next.insert(self.me);
                }
                let others = change.others;
                self.begin_change(next, others, out);
            }
            Stage::Installing { fresh, leaving, .. } => {
                fresh.remove(core);
                leaving.remove(core);
                self.advance(core, out);
            }
            Stage::Last => self.advance(core, out),
        }
    }

    /// Repeats how this epoch began, for those who are still in the one before.
    fn tell_of_epoch(&self, out: &mut Out<R>) {
        self.repeat(self.members, out);
        if !self.unsure {
            self.repeat(self.before, out);
            let others = self.members.without(self.dead).without(CoreSet::one(self.me));
            self.send(others, &Body::Begun, out);
        }
    }

    fn repeat(&self, to: CoreSet, out: &mut Out<R>) {
        if let Some(decision) = &self.last {
            let others = to.without(self.dead).without(CoreSet::one(self.me));
            self.send(others, &Body::Install { decision: decision.clone(), state: None }, out);
        }
    }

    /// Begins a change of epoch, if this core is the steward and there is a reason.
    pub(super) fn govern(&mut self, out: &mut Out<R>) {
        if !self.member || self.change.is_some() || self.steward() != Some(self.me) {
            return;
        }
        let living = self.members.without(self.dead);
        let mut joins = self.joins.without(self.members).without(self.dead);
        joins = joins.lowest().filter(|_| living == self.members).into_iter().collect();
        let mut leaves = self.leaves.and(living);
        if !joins.is_empty() || living != self.members || leaves == living {
            leaves.remove(self.me);
        }
        leaves = leaves.lowest().into_iter().collect();
        let next = living.with(joins).without(leaves);
        if next != self.members || (self.unsure && !self.before.and(self.dead).is_empty()) {
            self.begin_change(next, living.with(joins).without(CoreSet::one(self.me)), out);
        }
    }

    fn begin_change(&mut self, next: CoreSet, others: CoreSet, out: &mut Out<R>) {
        self.stopped = true;
        self.attempts += 1;
        let (epoch, attempt) = (self.epoch + 1, self.attempts);
        self.send_of(epoch, others, &Body::Propose { attempt, dead: self.told_dead() }, out);
        let stage = Stage::Reporting(BTreeMap::new());
        self.change = Some(Change { epoch, attempt, next, others, awaited: others, stage });
        self.decide(out);
    }

    pub(super) fn propose(&mut self, from: CoreId, epoch: u64, attempt: u64, dead: Dead, out: &mut Out<R>) {
        if self.member && epoch > self.epoch + 1 {
            return self.hold(from, Message { epoch, body: Body::Propose { attempt, dead } }, out);
        }
        // Of members alone: another's place may have a new life that the sender does not know of.
        if self.member {
            self.dead = self.dead.with(dead.all.and(self.members).without(CoreSet::one(self.me)));
            self.ended = self.ended.with(dead.ended.and(self.members).and(self.dead));
        } else if !self.is_called_by(from, epoch) {
            return;
        } else if epoch > self.called {
            (self.called, self.dead_to_callers) = (epoch, dead.all);
        } else {
            self.dead_to_callers = self.dead_to_callers.with(dead.all);
        }
        let standing = match &self.last {
            Some(decision) if epoch == self.epoch => Standing::Decided(decision.clone()),
            _ if epoch <= self.epoch => return self.send(CoreSet::one(from), &Body::Stale, out),
            _ if !self.member => Standing::Fresh,
            _ => Standing::Before(self.carried_out()),
        };
        self.stopped |= epoch > self.epoch;
        let dead = if self.member { self.told_dead() } else { Dead::default() };
        self.send_of(epoch, CoreSet::one(from), &Body::Report { attempt, dead, standing }, out);
    }

    /// Whether a core outside may be called into this epoch by that steward.
    fn is_called_by(&self, from: CoreId, epoch: u64) -> bool {
        epoch > self.called || (epoch == self.called && !self.dead_to_callers.contains(from))
    }

    pub(super) fn report(
        &mut self,
        from: CoreId,
        epoch: u64,
        (attempt, dead): (u64, Dead),
        standing: Standing<R::Op>,
        out: &mut Out<R>,
    ) {
        let Some(change) = &mut self.change else { return };
        if (change.epoch, change.attempt) != (epoch, attempt) || !change.awaited.remove(from) {
            return;
        }
        // Who led before may have told it alone.
        let begins_anew = self.leave_out(dead.all, out);
        self.ended = self.ended.with(dead.ended.and(self.members).and(self.dead));
        if begins_anew {
            return self.decide(out);
        }
        let Some(change) = &mut self.change else { return };
        if let Stage::Reporting(reports) = &mut change.stage {
            reports.insert(from, standing);
        }
        self.decide(out);
    }

    /// With the last report, what the epoch begins with is decided.
    pub(super) fn decide(&mut self, out: &mut Out<R>) {
        let there = self.change.as_ref().map_or(CoreSet::EMPTY, |change| change.others);
        let without_doubt = self.may_go_on(there.with(CoreSet::one(self.me)));
        let Some(change) = &mut self.change else { return };
        let Stage::Reporting(reports) = &mut change.stage else { return };
        if !change.awaited.is_empty() || !without_doubt {
            return;
        }
        let reports = core::mem::take(reports);
        let (epoch, next, others) = (change.epoch, change.next, change.others);
        let mut commits: BTreeMap<_, _> = self.carried_out().into_iter().collect();
        let (mut fresh, mut there, mut decided) = (CoreSet::EMPTY, CoreSet::EMPTY, None);
        for (core, standing) in reports {
            match standing {
                Standing::Before(done) => commits.extend(done),
                Standing::Fresh => fresh.insert(core),
                Standing::Decided(decision) => {
                    there.insert(core);
                    decided = Some(decision);
                }
            }
        }
        let decision = decided.unwrap_or_else(|| Decision {
            members: next,
            fresh: fresh.and(next),
            lives: fresh.and(next).iter().filter_map(|core| Some((core, *self.lives.get(&core)?))).collect(),
            commits: commits.into_iter().collect(),
        });
        self.bury_former(&decision);
        let living = decision.members.without(self.dead).without(CoreSet::one(self.me));
        let unheard = living.without(others);
        let old = others.without(fresh).without(there);
        let (begin, leaving) = (old.and(decision.members), old.without(decision.members));
        let fresh = living.and(fresh).with(unheard);
        self.send_of(epoch, begin, &Body::Install { decision: decision.clone(), state: None }, out);
        self.begin_epoch(epoch, decision.clone(), out);
        let stage = Stage::Installing { fresh, leaving, decision, state: self.replica.state() };
        let others = begin.with(leaving).with(fresh);
        self.change = Some(Change { epoch, attempt: 0, next, others, awaited: begin, stage });
        self.advance(self.me, out);
        self.release_held(out);
    }

    pub(super) fn installed(&mut self, from: CoreId, epoch: u64, out: &mut Out<R>) {
        if self.change.as_ref().is_some_and(|change| change.epoch == epoch) {
            self.advance(from, out);
        }
    }

    /// One core less to wait for.
    fn advance(&mut self, core: CoreId, out: &mut Out<R>) {
        let Some(change) = &mut self.change else { return };
        change.awaited.remove(core);
        if !change.awaited.is_empty() || matches!(change.stage, Stage::Reporting(_)) {
            return;
        }
        let (epoch, stage) = (change.epoch, core::mem::replace(&mut change.stage, Stage::Last));
        if let Stage::Installing { fresh, leaving, decision, state } = stage {
            change.awaited = fresh.with(leaving);
            self.send_of(epoch, leaving, &Body::Install { decision: decision.clone(), state: None }, out);
            self.send_of(epoch, fresh, &Body::Install { decision, state: Some(state) }, out);
        }
        if self.change.as_ref().is_some_and(|change| change.awaited.is_empty()) {
            self.change = None;
            let others = self.members.without(self.dead).without(CoreSet::one(self.me));
            self.send_of(epoch, others, &Body::Begun, out);
            self.sure(out);
        }
    }

    /// All members that were there before have begun this epoch.
    pub(super) fn sure(&mut self, out: &mut Out<R>) {
        self.unsure = false;
        out.extend(self.answers.drain(..).map(Action::Done));
    }

    pub(super) fn install(
        &mut self,
        from: CoreId,
        epoch: u64,
        decision: Decision<R::Op>,
        state: Option<&R::State>,
        out: &mut Out<R>,
    ) {
        let next = self.member && epoch == self.epoch + 1;
        // A steward that called later counts those as dead who called before.
        let called = !self.member && self.is_called_by(from, epoch) && epoch > self.epoch;
        let welcome = called && decision.members.contains(self.me);
        if next {
            self.begin_epoch(epoch, decision, out);
            if !self.member {
                self.sure(out);
            }
        } else if welcome && let Some(state) = state {
            self.replica.restore(state);
            self.members = decision.members;
            self.begin_epoch(epoch, Decision { commits: Vec::new(), ..decision }, out);
            self.sure(out);
        } else if epoch > self.epoch {
            return;
        }
        self.send_of(epoch, CoreSet::one(from), &Body::Installed, out);
        if next || welcome {
            self.release_held(out);
        }
    }

    /// Whoever comes in with this decision in another life than the one that this core has met since: a dead member from the
    /// beginning, whose new life is heard when the old one is out.
    fn bury_former(&mut self, decision: &Decision<R::Op>) -> CoreSet {
        if !self.member {
            return CoreSet::EMPTY;
        }
        let is_former =
            |core: CoreId, came| core != self.me && self.lives.get(&core).is_some_and(|&life| life != came);
        let came = decision.lives.iter().filter(|&&(core, came)| is_former(core, came));
        let former = came.map(|&(core, _)| core).collect::<CoreSet>().and(decision.fresh);
        self.reborn = self.reborn.with(former.without(self.dead));
        (self.dead, self.ended) = (self.dead.with(former), self.ended.with(former));
        former
    }

    /// A core says which life it has. Is it another than the one that is a member, then that one is dead.
    pub(super) fn met(&mut self, core: CoreId, life: u32, out: &mut Out<R>) {
        self.lives.insert(core, life);
        let is_former = self.came.get(&core).is_some_and(|&came| came != life);
        if self.member && self.members.contains(core) && is_former && !self.dead.contains(core) {
            self.ended.insert(core);
            self.died(core, out);
            self.reborn.insert(core);
        }
    }

    fn begin_epoch(&mut self, epoch: u64, decision: Decision<R::Op>, out: &mut Out<R>) {
        // All who live have begun the epoch that ends: none could have reported otherwise. Now who left with it may
        // know, if the steward that should have told died.
        if self.unsure {
            self.repeat(self.before.without(self.members), out);
        }
        self.sure(out);
        let former = self.bury_former(&decision);
        self.conclude(&decision.commits);
        self.before = self.members;
        self.unsure = true;
        let gone = self.members.without(decision.members);
        self.members = decision.members;
        self.routes = Routes::of(&self.topology, self.members, self.me);
        self.member = self.members.contains(self.me);
        self.came.retain(|core, _| decision.members.contains(*core));
        self.came.extend(decision.lives.iter().copied().filter(|&(core, _)| decision.fresh.contains(core)));
        self.epoch = epoch;
        self.stopped = false;
        self.change = None;
        // Whose former life is a member still. Who left waits for nobody's to be out.
        let former_in = if self.member { self.reborn.and(self.members) } else { CoreSet::EMPTY };
        self.dead = self.dead.without(self.reborn.without(former_in));
        self.ended = self.ended.and(self.dead);
        self.reborn = former_in.without(decision.fresh.without(former));
        self.last = Some(decision);
        self.replica.epoch(gone, self.members);
        if !self.member {
            let wishes = core::mem::take(&mut self.wishes);
            out.extend(wishes.iter().map(|wish| Action::Refused(wish.ticket, Refusal::NotAMember)));
        }
        out.push(Action::Epoch(epoch, self.members));
        self.pass_on_wishes(out);
    }

    /// What came for this epoch before it began.
    fn release_held(&mut self, out: &mut Out<R>) {
        for (from, message) in core::mem::take(&mut self.held) {
            if message.epoch >= self.epoch {
                self.message(from, message, out);
            }
        }
    }
}
