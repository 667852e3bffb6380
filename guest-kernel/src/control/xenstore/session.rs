//! What the store keeps for one domain besides nodes: its watches, its transactions, and what it has yet to read.

use abi::xen::DomId;
use abi::xen::xs_wire::{Error, HEADER_BYTES, PAYLOAD_MAX, kind};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::path::{self, is_at_or_below};
use super::quota;
use super::transaction::{Change, Transaction};
use crate::xenstore::wire::{ByteRing, Message};

/// A watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The node at which, and below which, changes are of interest.
    pub path: String,
    /// What the domain knows it by.
    pub token: Vec<u8>,
    /// It was asked for by a relative name, and is told of by such names.
    pub relative: bool,
}

impl Watch {
    fn hears(&self, change: &Change) -> bool {
        if change.exact { self.path == change.path } else { is_at_or_below(&change.path, &self.path) }
    }

    /// What the domain is told of a change at this path: the path and the token.
    pub fn event(&self, domain: DomId, path: &str) -> Vec<u8> {
        let home = path::home(domain);
        let below = path.strip_prefix(&home).and_then(|rest| rest.strip_prefix('/'));
        let shown = below.filter(|_| self.relative).unwrap_or(path);
        [shown.as_bytes(), b"\0", &self.token, b"\0"].concat()
    }

    fn bytes(&self) -> usize {
        self.path.len() + self.token.len()
    }
}

/// Messages that wait for the domain to read.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Rc<[u8]>>,
    /// Those among them that are events, so that none waits twice.
    events: BTreeSet<Rc<[u8]>>,
    /// Bytes of the first one that have gone out.
    sent: usize,
    bytes: usize,
}

impl Outbox {
    fn push(&mut self, message: Rc<[u8]>) {
        self.bytes += message.len();
        self.waiting.push_back(message);
    }

    /// Answers that wait.
    pub fn answers(&self) -> usize {
        self.waiting.len() - self.events.len()
    }

    fn pop(&mut self) -> Option<Rc<[u8]>> {
        let message = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len());
        self.events.remove(&message);
        self.sent = 0;
        Some(message)
    }

    /// Writes what there is room for. Whether that was anything.
    pub fn flush(&mut self, ring: &mut impl ByteRing) -> bool {
        let mut moved = false;
        while let Some(first) = self.waiting.front() {
            let rest = first.get(self.sent..).unwrap_or_default();
            let count = ring.write(rest);
            moved |= count > 0;
            if count < rest.len() {
                self.sent += count;
                break;
            }
            self.pop();
        }
        moved
    }
}

/// All of that for one domain.
#[derive(Debug, Default)]
pub struct Session {
    /// Its watches, in the order they were asked for.
    pub watches: Vec<Watch>,
    /// Its transactions, by their numbers.
    pub transactions: BTreeMap<u32, Transaction>,
    last_transaction: u32,
    /// What waits for it.
    pub outbox: Outbox,
    /// It is known to have stopped, and others were told.
    pub stopped: bool,
}

impl Session {
    /// Bytes of all of it.
    pub fn bytes(&self) -> usize {
        let watches: usize = self.watches.iter().map(Watch::bytes).sum();
        let transactions: usize = self.transactions.values().map(Transaction::bytes).sum();
        watches + transactions + self.outbox.bytes
    }

    /// Forgets watches and transactions.
    pub fn reset(&mut self) {
        self.watches.clear();
        self.transactions.clear();
    }

    /// Begins a transaction: its number.
    pub fn begin(&mut self, domain: DomId) -> Result<u32, Error> {
        if domain != 0 && self.transactions.len() >= quota::TRANSACTIONS {
            return Err(Error::ENOSPC);
        }
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1);
            let number = self.last_transaction;
            if number != 0 && !self.transactions.contains_key(&number) {
                self.transactions.insert(number, Transaction::default());
                return Ok(number);
            }
        }
    }

    /// Puts an answer to where the domain will read it.
    pub fn answer(&mut self, kind: u32, request: u32, transaction: u32, payload: &[u8]) {
        let payload = payload.get(..PAYLOAD_MAX).unwrap_or(payload);
        self.outbox.push(Message::bytes(kind, request, transaction, &[payload]).into());
    }

    /// Puts an event there, unless the same waits already, it is too long for the wire, or the domain has not read so
    /// much that its memory is used up.
    pub fn tell(&mut self, event: &[u8], room: usize) {
        let message: Rc<[u8]> = Message::bytes(kind::WATCH_EVENT, 0, 0, &[event]).into();
        if event.len() <= PAYLOAD_MAX && message.len() <= room && self.outbox.events.insert(message.clone()) {
            self.outbox.push(message);
        }
    }

    /// The next event for a domain that reads no ring: the payload.
    pub fn take_event(&mut self) -> Option<Vec<u8>> {
        let message = self.outbox.pop()?;
        message.get(HEADER_BYTES..).map(<[u8]>::to_vec)
    }

    /// The watches that hear of a change, each with what is to be said.
    pub fn heard(&self, domain: DomId, change: &Change) -> Vec<Vec<u8>> {
        self.watches
            .iter()
            .filter(|watch| watch.hears(change))
            .map(|watch| watch.event(domain, &change.path))
            .collect()
    }
}
