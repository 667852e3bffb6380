//! One phase or two, along the initiator's tree, within one epoch.
//!
//! ```text
//! initiator          inner core           leaf             initiator          inner core           leaf
//!   apply                                                     lock
//!     ├──── Apply ───────▶ apply                                ├──── Prepare ─────▶ lock
//!     │                      ├──── Apply ───▶ apply             │                      ├─── Prepare ──▶ lock
//!     │                      ◀──── Ack ───────┤                 │                      ◀─── Vote ───────┤
//!     ◀──── Ack ─────────────┤                                  ◀──── Vote ────────────┤
//!   done                                                      apply, unlock
//!                                                               ├──── Commit ──────▶ apply, unlock
//!                                                               │                      ├─── Commit ───▶ apply, unlock
//!                                                               ◀──── Ack ─────────────◀─── Ack ────────┤
//!                                                             done
//! ```
//!
//! A `Prepare` that finds the resource locked waits for it, and its vote with it. That alone would be a deadlock where
//! two initiators each hold their own lock, so the higher initiator gives way as soon as it sees the lower one's
//! `Prepare`, while it has not decided: it aborts its own attempt, votes for the other's, and begins anew after it.
//!
//! What was carried out is remembered until all are known to know it, for the reports of a change of epoch. Nobody is
//! told so in a message of its own: the initiator's next transaction says from which number on there may be doubt.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::core_set::{CoreId, CoreSet};
use super::message::{Action, Body, Refusal, Ticket, TxnId};
use super::{Agreement, Out, Replica};

/// Transactions of one initiator that may be under way at a time.
pub const WINDOW: usize = 32;
/// Operations that may wait for their turn on one core.
pub const WISHES: usize = 1024;

/// An operation that has not begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Wish<O> {
    pub(super) ticket: Ticket,
    pub(super) op: O,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Waits for the lock.
    Queued,
    /// Has it.
    Locked,
    /// Was carried out here.
    Committed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Txn<O> {
    pub(super) op: O,
    pub(super) phase: Phase,
    /// Cores below whose vote, or later acknowledgement, has not come.
    pub(super) awaited: CoreSet,
    /// This core and all below have voted.
    pub(super) voted: bool,
    refusal: Option<Refusal>,
    /// The initiator's own word for it.
    pub(super) ticket: Option<Ticket>,
}

impl<O> Txn<O> {
    /// Carried out here and below.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Committed && self.awaited.is_empty()
    }
}

impl<R: Replica> Agreement<R> {
    fn children(&self, txn: TxnId) -> CoreSet {
        self.routes.children(&self.topology, self.members, txn.initiator, self.me)
    }

    pub(super) fn parent(&self, txn: TxnId) -> Option<CoreId> {
        self.routes.parent(&self.topology, self.members, txn.initiator, self.me)
    }

    /// A program's operation: it waits for its turn.
    pub(super) fn request(&mut self, ticket: Ticket, op: R::Op, out: &mut Out<R>) {
        if !self.member {
            out.push(Action::Refused(ticket, Refusal::NotAMember));
        } else if self.wishes.len() >= WISHES {
            out.push(Action::Refused(ticket, Refusal::Busy));
        } else {
            self.wishes.push_back(Wish { ticket, op });
        }
    }

    /// Begins what waits and can.
    pub(super) fn begin_wishes(&mut self, out: &mut Out<R>) {
        let own = |id: &&TxnId| id.initiator == self.me;
        let mut under_way = self.txns.keys().filter(own).count();
        let mut next = 0;
        while !self.stopped && self.member && under_way < WINDOW && next < self.wishes.len() {
            let resource = R::resource(&self.wishes[next].op);
            if resource.is_some_and(|resource| self.locks.contains_key(&resource)) {
                next += 1;
                continue;
            }
            let Some(Wish { ticket, op }) = self.wishes.remove(next) else { return };
            match self.replica.vote(&op) {
                Ok(()) => self.begin(ticket, op, resource, out),
                Err(refusal) => out.push(Action::Refused(ticket, refusal)),
            }
            under_way = self.txns.keys().filter(|id| id.initiator == self.me).count();
        }
    }

    fn begin(&mut self, ticket: Ticket, op: R::Op, resource: Option<u64>, out: &mut Out<R>) {
        let txn = TxnId { initiator: self.me, sequence: self.next_sequence };
        let (awaited, settled) = (self.children(txn), self.unsettled());
        self.next_sequence += 1;
        let record = Txn {
            op: op.clone(),
            phase: Phase::Locked,
            awaited,
            voted: false,
            refusal: None,
            ticket: Some(ticket),
        };
        self.txns.insert(txn, record);
        match resource {
            Some(resource) => {
                self.locks.insert(resource, txn);
                self.send(awaited, &Body::Prepare { txn, op, settled }, out);
                self.vote_if_complete(txn, out);
            }
            None => {
                self.send(awaited, &Body::Apply { txn, op, settled }, out);
                self.carry_out(txn, out);
            }
        }
    }

    /// The number of this core's first transaction that some may not know of.
    fn unsettled(&self) -> u64 {
        let own = self.txns.iter().filter(|(id, txn)| id.initiator == self.me && !txn.is_over());
        own.map(|(id, _)| id.sequence).min().unwrap_or(self.next_sequence)
    }

    /// The initiator says which of its transactions are known to all.
    fn settle(&mut self, initiator: CoreId, settled: u64) {
        let known = self.settled.entry(initiator).or_default();
        *known = settled.max(*known);
        self.txns.retain(|id, txn| id.initiator != initiator || id.sequence >= settled || !txn.is_over());
    }

    pub(super) fn is_settled(&self, txn: TxnId) -> bool {
        self.settled.get(&txn.initiator).is_some_and(|&settled| txn.sequence < settled)
    }

    /// Whether a transaction that comes from `from` is new, and comes the way it should.
    fn is_news(&self, from: CoreId, txn: TxnId) -> bool {
        let the_way = self.members.contains(txn.initiator) && self.parent(txn) == Some(from);
        let open = self.txns.keys().filter(|id| id.initiator == txn.initiator).count();
        // An honest initiator has a window of them at most, and its settled ones may not all be forgotten here.
        let fits = open <= 2 * WINDOW;
        the_way && fits && !self.txns.contains_key(&txn) && !self.is_settled(txn)
    }

    fn take_in(&mut self, txn: TxnId, op: R::Op, phase: Phase) {
        let awaited = self.children(txn);
        self.txns.insert(txn, Txn { op, phase, awaited, voted: false, refusal: None, ticket: None });
    }

    pub(super) fn apply(&mut self, from: CoreId, txn: TxnId, op: R::Op, settled: u64, out: &mut Out<R>) {
        if !self.is_news(from, txn) || R::resource(&op).is_some() {
            return out.push(Action::Suspect(from));
        }
        self.settle(txn.initiator, settled);
        self.send(self.children(txn), &Body::Apply { txn, op: op.clone(), settled }, out);
        self.take_in(txn, op, Phase::Locked);
        self.carry_out(txn, out);
    }

    pub(super) fn prepare(&mut self, from: CoreId, txn: TxnId, op: R::Op, settled: u64, out: &mut Out<R>) {
        let Some(resource) = R::resource(&op).filter(|_| self.is_news(from, txn)) else {
            return out.push(Action::Suspect(from));
        };
        self.settle(txn.initiator, settled);
        self.send(self.children(txn), &Body::Prepare { txn, op: op.clone(), settled }, out);
        self.take_in(txn, op, Phase::Queued);
        match self.locks.get(&resource).copied() {
            None => self.lock(resource, txn, out),
            Some(own) if own.initiator == self.me && txn.initiator < self.me => {
                self.give_way(own, out);
                self.lock(resource, txn, out);
            }
            Some(_) => {}
        }
    }

    /// Takes back an own transaction that is not decided, for one that goes first.
    fn give_way(&mut self, own: TxnId, out: &mut Out<R>) {
        self.send(self.children(own), &Body::Abort { txn: own }, out);
        if let Some(Txn { op, ticket: Some(ticket), .. }) = self.txns.remove(&own) {
            self.wishes.push_front(Wish { ticket, op });
        }
    }

    fn lock(&mut self, resource: u64, id: TxnId, out: &mut Out<R>) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        txn.phase = Phase::Locked;
        txn.refusal = txn.refusal.or(self.replica.vote(&txn.op).err());
        self.locks.insert(resource, id);
        self.vote_if_complete(id, out);
    }

    fn unlock(&mut self, id: TxnId, op: &R::Op, out: &mut Out<R>) {
        let Some(resource) = R::resource(op).filter(|resource| self.locks.get(resource) == Some(&id)) else {
            return;
        };
        self.locks.remove(&resource);
        let waits = |txn: &&Txn<R::Op>| txn.phase == Phase::Queued && R::resource(&txn.op) == Some(resource);
        let next = self.txns.iter().find(|(_, txn)| waits(txn)).map(|(id, _)| *id);
        if let Some(next) = next {
            self.lock(resource, next, out);
        }
    }

    pub(super) fn vote(&mut self, from: CoreId, id: TxnId, refusal: Option<Refusal>, out: &mut Out<R>) {
        // It may have been given way, and is forgotten.
        let Some(txn) = self.txns.get_mut(&id).filter(|txn| txn.phase != Phase::Committed) else { return };
        if txn.awaited.remove(from) {
            txn.refusal = txn.refusal.or(refusal);
            self.vote_if_complete(id, out);
        }
    }

    /// Votes, or decides, if this core has the lock and all below have voted.
    fn vote_if_complete(&mut self, id: TxnId, out: &mut Out<R>) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        if txn.phase != Phase::Locked || txn.voted || !txn.awaited.is_empty() {
            return;
        }
        txn.voted = true;
        let (refusal, ticket) = (txn.refusal, txn.ticket);
        match (ticket, refusal) {
            (None, refusal) => {
                let parent = self.parent(id).into_iter().collect();
                self.send(parent, &Body::Vote { txn: id, refusal }, out);
            }
            (Some(ticket), Some(refusal)) => {
                self.send(self.children(id), &Body::Abort { txn: id }, out);
                out.push(Action::Refused(ticket, refusal));
                self.forget(id, out);
            }
            (Some(_), None) => {
                self.send(self.children(id), &Body::Commit { txn: id }, out);
                self.carry_out(id, out);
            }
        }
    }

    fn forget(&mut self, id: TxnId, out: &mut Out<R>) {
        if let Some(txn) = self.txns.remove(&id) {
            self.unlock(id, &txn.op, out);
        }
    }

    /// Carries it out here; below, the message to do so is on its way.
    fn carry_out(&mut self, id: TxnId, out: &mut Out<R>) {
        let below = self.children(id);
        let Some(txn) = self.txns.get_mut(&id) else { return };
        txn.phase = Phase::Committed;
        txn.awaited = below;
        let op = txn.op.clone();
        self.replica.apply(&op);
        self.acknowledge_if_complete(id, out);
        self.unlock(id, &op, out);
    }

    fn acknowledge_if_complete(&mut self, id: TxnId, out: &mut Out<R>) {
        let Some(txn) = self.txns.get(&id).filter(|txn| txn.is_over()) else { return };
        match txn.ticket {
            Some(ticket) => {
                out.push(Action::Done(ticket));
                let settled = self.unsettled();
                self.settle(self.me, settled);
            }
            None => self.send(self.parent(id).into_iter().collect(), &Body::Ack { txn: id }, out),
        }
    }

    pub(super) fn commit(&mut self, from: CoreId, id: TxnId, out: &mut Out<R>) {
        let ready = self.txns.get(&id).is_some_and(|txn| txn.phase == Phase::Locked && txn.voted);
        if !ready || self.parent(id) != Some(from) {
            return out.push(Action::Suspect(from));
        }
        self.send(self.children(id), &Body::Commit { txn: id }, out);
        self.carry_out(id, out);
    }

    pub(super) fn abort(&mut self, from: CoreId, id: TxnId, out: &mut Out<R>) {
        let open = self.txns.get(&id).is_some_and(|txn| txn.phase != Phase::Committed);
        if !open || self.parent(id) != Some(from) {
            return out.push(Action::Suspect(from));
        }
        self.send(self.children(id), &Body::Abort { txn: id }, out);
        self.forget(id, out);
    }

    pub(super) fn ack(&mut self, from: CoreId, id: TxnId, out: &mut Out<R>) {
        let Some(txn) = self.txns.get_mut(&id).filter(|txn| txn.phase == Phase::Committed) else {
            return out.push(Action::Suspect(from));
        };
        if txn.awaited.remove(from) {
            self.acknowledge_if_complete(id, out);
        }
    }

    /// What was carried out here and may not be known to all.
    pub(super) fn carried_out(&self) -> Vec<(TxnId, R::Op)> {
        let done = self.txns.iter().filter(|(_, txn)| txn.phase == Phase::Committed);
        done.map(|(id, txn)| (*id, txn.op.clone())).collect()
    }

    /// The epoch is over: carries out what all shall, takes back the rest.
    pub(super) fn conclude(&mut self, commits: &[(TxnId, R::Op)]) {
        for (id, op) in commits {
            let here = self.txns.remove(id);
            let done = here.as_ref().is_some_and(|txn| txn.phase == Phase::Committed) || self.is_settled(*id);
            if !done {
                self.replica.apply(op);
            }
            if let Some(Txn { ticket: Some(ticket), phase, awaited, .. }) = here
                && (phase != Phase::Committed || !awaited.is_empty())
            {
                self.answers.push(ticket);
            }
        }
        self.locks.clear();
        self.settled.clear();
        self.next_sequence = 0;
        // In their order, before what has not begun. What this core has carried out and the epoch does not know of is here
        // only where it begins without this core, and is refused with the others.
        while let Some((_, txn)) = self.txns.pop_last() {
            if let Some(ticket) = txn.ticket.filter(|_| !txn.is_over()) {
                self.wishes.push_front(Wish { ticket, op: txn.op });
            }
        }
    }
}
