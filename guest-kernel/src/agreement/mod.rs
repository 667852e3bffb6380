//! Agreement: what the monitors of all cores carry out together, or not at all.
//!
//! A pure state machine, one per core: [`Agreement::step`] takes an event and names what is to be done. It has no
//! clock and no input or output of its own, so a test can try every order of events.
//!
//! **What is assumed.** A channel between two cores loses nothing and keeps order. A core that fails stops, and says
//! nothing wrong before. Each survivor is told of a death once, after the last message of the dead that it will ever
//! see. Who only *seems* dead, because it does not answer ([`Event::Silent`]), is not heard any more by anyone who has
//! taken part in leaving it out, and enough take part that the others cannot go on without one of them. So it may go on,
//! but comes to no end with anything; it is told ([`Event::Expelled`]), ends that life, and comes in anew.
//!
//! **Operations** ([`transaction`]). One that commutes with all others takes one phase: everybody carries it out and
//! acknowledges. All others lock a resource, in two phases. Where two meet on a resource, the lower initiator goes
//! first and the other waits and tries again: its replica then says whether there is still something to win.
//!
//! **Epochs** ([`membership`]). The members change by two phases as well, led by the *steward*, the lowest living
//! member. In between, nobody works: what was carried out by anyone who lives is carried out by all, whatever else was
//! under way never happened and is begun anew by its initiator. So every transaction ends in the epoch it began in,
//! and the death of a core, initiator or not, needs no protocol of its own.

mod carry;
mod core_set;
mod doubt;
mod membership;
mod message;
mod transaction;
mod tree;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;

use serde::{Deserialize, Serialize};

pub use core_set::{CoreId, CoreSet};
use membership::Change;
pub use message::{Action, Body, Dead, Decision, Event, Message, Refusal, Standing, Ticket, TxnId};
use transaction::{Txn, Wish};
use tree::Routes;
pub use tree::Topology;

/// Messages of epochs to come that are kept for one peer. An honest peer has fewer on the way.
const HELD: usize = 1024;

/// What is replicated: on each core one, the same after the same operations.
pub trait Replica {
    /// What changes it.
    type Op: Clone + Debug + Eq + Hash;
    /// All of it, for a core that comes new.
    type State: Clone + Debug + Eq + Hash;

    /// What the operation must have for itself while it is agreed on; none for one that commutes with all others.
    fn resource(op: &Self::Op) -> Option<u64>;

    /// Whether the operation can be carried out here and now.
    fn vote(&self, op: &Self::Op) -> Result<(), Refusal>;

    /// Carries it out.
    fn apply(&mut self, op: &Self::Op);

    /// An epoch begins with these members; those are members no more.
    fn epoch(&mut self, gone: CoreSet, members: CoreSet);

    /// For a core that comes new.
    fn state(&self) -> Self::State;

    /// This core comes new.
    fn restore(&mut self, state: &Self::State);
}

type Out<R> = Vec<Action<<R as Replica>::Op, <R as Replica>::State>>;
type Words<R> = Message<<R as Replica>::Op, <R as Replica>::State>;
type Say<R> = Body<<R as Replica>::Op, <R as Replica>::State>;

/// One core's part in the agreement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "R: Serialize, R::Op: Serialize, R::State: Serialize",
    deserialize = "R: Deserialize<'de>, R::Op: Deserialize<'de>, R::State: Deserialize<'de>"
))]
pub struct Agreement<R: Replica> {
    me: CoreId,
    /// This core's replica.
    pub replica: R,
    topology: Topology,
    /// This core's part in the trees of this epoch.
    routes: Routes,
    /// The epoch this core is in, or was in last.
    epoch: u64,
    /// Whether it is in.
    member: bool,
    members: CoreSet,
    /// Who is not heard any more.
    dead: CoreSet,
    /// Of these, who is dead for certain, and does not merely seem so.
    ended: CoreSet,
    /// Whose place has a new life that this core has met. Where such a one is a member and dead, it is the old life that
    /// is, and the new one may not be heard before the old one is out.
    reborn: CoreSet,
    /// The life of each core that said so, and the one in which each member came, where this core was one then.
    lives: BTreeMap<CoreId, u32>,
    came: BTreeMap<CoreId, u32>,
    /// A change of epoch is under way: nothing else is, until it is over.
    stopped: bool,
    /// The epoch this core was last called into while outside, and who was dead to those who called. None of these can
    /// call into it any more; into a later one, in a new life, they can.
    called: u64,
    dead_to_callers: CoreSet,
    /// Who was in the epoch before: some of them may not know that they are out.
    before: CoreSet,
    /// Not every member may have begun this epoch.
    unsure: bool,
    /// Operations that were completed by the change of epoch, to be answered when all members have begun it.
    answers: Vec<Ticket>,
    /// How this epoch began, for those who missed it.
    last: Option<Decision<R::Op>>,
    /// Messages of epochs to come.
    held: Vec<(CoreId, Words<R>)>,
    change: Option<Change<R>>,
    attempts: u64,
    joins: CoreSet,
    leaves: CoreSet,
    txns: BTreeMap<TxnId, Txn<R::Op>>,
    locks: BTreeMap<u64, TxnId>,
    /// For each initiator: all of its transactions below are known to all.
    settled: BTreeMap<CoreId, u64>,
    wishes: VecDeque<Wish<R::Op>>,
    next_sequence: u64,
}

impl<R: Replica> Agreement<R> {
    /// A core outside of any epoch.
    pub fn outside(me: CoreId, replica: R, topology: Topology) -> Self {
        Self {
            me,
            replica,
            topology,
            routes: Routes::default(),
            epoch: 0,
            member: false,
            members: CoreSet::EMPTY,
            dead: CoreSet::EMPTY,
            ended: CoreSet::EMPTY,
            reborn: CoreSet::EMPTY,
            lives: BTreeMap::new(),
            came: BTreeMap::new(),
            stopped: false,
            called: 0,
            dead_to_callers: CoreSet::EMPTY,
            before: CoreSet::EMPTY,
            unsure: false,
            answers: Vec::new(),
            last: None,
            held: Vec::new(),
            change: None,
            attempts: 0,
            joins: CoreSet::EMPTY,
            leaves: CoreSet::EMPTY,
            txns: BTreeMap::new(),
            locks: BTreeMap::new(),
            settled: BTreeMap::new(),
            wishes: VecDeque::new(),
            next_sequence: 0,
        }
    }

    /// A member of the first epoch.
    pub fn founder(me: CoreId, members: CoreSet, mut replica: R, topology: Topology) -> Self {
        replica.epoch(CoreSet::EMPTY, members);
        let member = members.contains(me);
        let routes = Routes::of(&topology, members, me);
        Self { epoch: 1, member, members, routes, ..Self::outside(me, replica, topology) }
    }

    /// The epoch, and who is in it; none for a core that is outside.
    pub fn epoch(&self) -> Option<(u64, CoreSet)> {
        self.member.then_some((self.epoch, self.members))
    }

    /// Whether it is for this core to begin the next change of epoch.
    pub fn leads(&self) -> bool {
        self.member && self.steward() == Some(self.me)
    }

    /// Who seems dead: not heard any more, though it is not certain that it is dead.
    pub fn silent(&self) -> CoreSet {
        self.dead.without(self.ended)
    }

    /// The other members that are not dead for certain.
    pub fn fellows(&self) -> CoreSet {
        if !self.member {
            return CoreSet::EMPTY;
        }
        self.members.without(self.ended).without(CoreSet::one(self.me))
    }

    /// Nothing is under way here.
    pub fn is_quiet(&self) -> bool {
        let idle = self.txns.values().all(Txn::is_over) && self.locks.is_empty() && self.wishes.is_empty();
        idle && self.change.is_none() && !(self.member && (self.stopped || self.unsure))
    }

    /// Takes an event in, and names what is to be done about it, in this order.
    pub fn step(&mut self, event: Event<R::Op, R::State>) -> Out<R> {
        let mut out = Vec::new();
        match event {
            Event::Request(ticket, op) => self.request(ticket, op, &mut out),
            Event::Join(core) => self.wish(CoreSet::one(core), CoreSet::EMPTY, &mut out),
            Event::Leave(core) => self.wish(CoreSet::EMPTY, CoreSet::one(core), &mut out),
            Event::Died(core) => {
                self.ended.insert(core);
                self.died(core, &mut out);
                // It may have been all that stood in doubt.
                self.decide(&mut out);
            }
            Event::Silent(core) if self.member && !self.dead.contains(core) => self.died(core, &mut out),
            Event::Silent(_) => {}
            Event::Expelled => self.expel(&mut out),
            Event::Met(core, life) => self.met(core, life, &mut out),
            Event::Reborn(core) => {
                self.lives.remove(&core);
                self.reborn.insert(core);
                if !(self.member && self.members.contains(core)) {
                    self.dead.remove(core);
                    self.ended.remove(core);
                }
            }
            Event::Message(from, message) => self.message(from, message, &mut out),
        }
        self.govern(&mut out);
        self.begin_wishes(&mut out);
        out
    }

    fn send(&self, to: CoreSet, body: &Say<R>, out: &mut Out<R>) {
        self.send_of(self.epoch, to, body, out);
    }

    fn send_of(&self, epoch: u64, to: CoreSet, body: &Say<R>, out: &mut Out<R>) {
        let message = |to| Action::Send(to, Message { epoch, body: body.clone() });
        out.extend(to.iter().map(message));
    }

    fn message(&mut self, from: CoreId, message: Words<R>, out: &mut Out<R>) {
        if self.dead.contains(from) || from == self.me {
            return;
        }
        let Message { epoch, body } = message;
        match body {
            Body::Wish { joins, leaves, silent } => {
                if epoch == self.epoch {
                    self.leave_out(silent, out);
                } else if epoch > self.epoch && !silent.is_empty() {
                    let words = Body::Wish { joins: CoreSet::EMPTY, leaves: CoreSet::EMPTY, silent };
                    self.hold(from, Message { epoch, body: words }, out);
                }
                self.wish(joins, leaves, out);
            }
            Body::Propose { attempt, dead } => self.propose(from, epoch, attempt, dead, out),
            Body::Report { attempt, dead, standing } => {
                self.report(from, epoch, (attempt, dead), standing, out)
            }
            Body::Install { decision, state } => self.install(from, epoch, decision, state.as_ref(), out),
            Body::Installed => self.installed(from, epoch, out),
            Body::Stale => log::debug!("core {from} is in epoch {epoch}, core {} in {}", self.me, self.epoch),
            body if epoch > self.epoch => self.hold(from, Message { epoch, body }, out),
            _ if epoch < self.epoch => self.send(CoreSet::one(from), &Body::Stale, out),
            Body::Begun if self.members.with(self.before).contains(from) => self.sure(out),
            // It was sent before the sender stopped, too; what it led to is in the reports.
            _ if self.stopped || !self.member || !self.members.contains(from) => {}
            Body::Apply { txn, op, settled } => self.apply(from, txn, op, settled, out),
            Body::Prepare { txn, op, settled } => self.prepare(from, txn, op, settled, out),
            Body::Vote { txn, refusal } => self.vote(from, txn, refusal, out),
            Body::Commit { txn } => self.commit(from, txn, out),
            Body::Abort { txn } => self.abort(from, txn, out),
            Body::Begun => {}
            Body::Ack { txn } => self.ack(from, txn, out),
        }
    }

    /// Keeps a message of an epoch that has not begun here.
    fn hold(&mut self, from: CoreId, message: Words<R>, out: &mut Out<R>) {
        if self.held.iter().filter(|(sender, _)| *sender == from).count() < HELD {
            self.held.push((from, message));
        } else {
            out.push(Action::Suspect(from));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
