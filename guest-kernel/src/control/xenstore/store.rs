//! The store itself, without rings: domains with their sessions, and what one request does to all of them.

use abi::xen::DomId;
use abi::xen::xs_wire::{Error, kind};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::answers::{self, Answer};
use super::path;
use super::permission::{Permission, allowed};
use super::quota;
use super::session::{Session, Watch};
use super::transaction::{Change, Made, Transaction};
use super::tree::{Node, Tree};
use super::work::Work;
use crate::xenstore::wire::Message;

/// Nodes and sessions.
#[derive(Debug)]
pub struct Store {
    pub(super) tree: Tree,
    pub(super) sessions: BTreeMap<DomId, Session>,
}

impl Store {
    /// A store that only domain 0 knows of.
    pub fn new() -> Self {
        Self { tree: Tree::new(), sessions: BTreeMap::from([(0, Session::default())]) }
    }

    /// Does what `domain` asks for, and puts the answer to where it will be read.
    pub fn request(&mut self, domain: DomId, message: &Message) {
        let header = message.header;
        let result = answers::answer(self, domain, message);
        let room = self.memory_left(domain);
        let Some(session) = self.sessions.get_mut(&domain) else { return };
        let mut answer = |kind, payload: &[u8]| {
            session.answer(kind, header.request, header.transaction, payload);
        };
        let error = match result {
            Ok(Answer { payload, .. }) if payload.len() > abi::xen::xs_wire::PAYLOAD_MAX => Error::E2BIG,
            Ok(Answer { payload, event }) => {
                answer(header.kind, &payload);
                if let Some(event) = event {
                    session.tell(&event, room);
                }
                return;
            }
            Err(error) => error,
        };
        answer(kind::ERROR, &[error.name().as_bytes(), b"\0"].concat());
    }

    /// Bytes that `domain` may still use.
    pub fn memory_left(&self, domain: DomId) -> usize {
        let used = self.tree.account(domain).bytes + self.sessions.get(&domain).map_or(0, Session::bytes);
        if domain == 0 { usize::MAX } else { quota::MEMORY.saturating_sub(used) }
    }

    /// Works on nodes in the name of `domain`, in its transaction of this number, or, where that is 0, at once.
    pub fn work<T>(
        &mut self,
        domain: DomId,
        transaction: u32,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let memory = self.memory_left(domain);
        let tree = &self.tree;
        if transaction != 0 {
            let session = self.sessions.get_mut(&domain);
            let transaction = session.and_then(|session| session.transactions.get_mut(&transaction));
            let transaction = transaction.ok_or(Error::ENOENT)?;
            return work(&mut Work { tree, transaction, domain, memory });
        }
        let mut single = Transaction::single();
        let done = work(&mut Work { tree, transaction: &mut single, domain, memory })?;
        self.commit(domain, single)?;
        Ok(done)
    }

    /// Ends a transaction.
    pub fn end(&mut self, domain: DomId, transaction: u32, commit: bool) -> Result<(), Error> {
        let session = self.sessions.get_mut(&domain).ok_or(Error::ENOENT)?;
        let transaction = session.transactions.remove(&transaction).ok_or(Error::ENOENT)?;
        if commit { self.commit(domain, transaction) } else { Ok(()) }
    }

    fn commit(&mut self, domain: DomId, transaction: Transaction) -> Result<(), Error> {
        let made = transaction.commit(&mut self.tree, domain)?;
        made.iter().for_each(|made| self.fire(made));
        Ok(())
    }

    /// Tells everybody whose watches hear of this and who may know.
    fn fire(&mut self, made: &Made) {
        let domains: Vec<DomId> =
            self.sessions.keys().copied().filter(|domain| made.may_know(*domain)).collect();
        for domain in domains {
            self.tell(domain, &made.change);
        }
    }

    /// Tells of a domain that came or went.
    pub fn fire_special(&mut self, name: &str) {
        let permissions = self.tree.get(name).map(|node| node.permissions.clone()).unwrap_or_default();
        let domains: Vec<DomId> = self.sessions.keys().copied().collect();
        for domain in domains.into_iter().filter(|domain| allowed(&permissions, *domain).read) {
            self.tell(domain, &Change { path: name.into(), exact: true });
        }
    }

    fn tell(&mut self, domain: DomId, change: &Change) {
        let events =
            self.sessions.get(&domain).map(|session| session.heard(domain, change)).unwrap_or_default();
        for event in events {
            let room = self.memory_left(domain);
            if let Some(session) = self.sessions.get_mut(&domain) {
                session.tell(&event, room);
            }
        }
    }

    /// Sets a watch up: the event that it begins with.
    pub fn watch(&mut self, domain: DomId, name: &[u8], token: &[u8]) -> Result<Vec<u8>, Error> {
        let relative = !matches!(name.first(), Some(b'/' | b'@'));
        let watch = Watch { path: path::absolute(domain, name, true)?, token: token.into(), relative };
        let room = self.memory_left(domain);
        let session = self.sessions.get_mut(&domain).ok_or(Error::EIO)?;
        if session.watches.iter().any(|old| old.path == watch.path && old.token == watch.token) {
            return Err(Error::EEXIST);
        }
        if domain != 0 && session.watches.len() >= quota::WATCHES {
            return Err(Error::E2BIG);
        }
        if watch.path.len() + watch.token.len() > room {
            return Err(Error::ENOMEM);
        }
        let event = watch.event(domain, &watch.path);
        session.watches.push(watch);
        Ok(event)
    }

    /// Takes a watch down.
    pub fn unwatch(&mut self, domain: DomId, name: &[u8], token: &[u8]) -> Result<(), Error> {
        let path = path::absolute(domain, name, true)?;
        let session = self.sessions.get_mut(&domain).ok_or(Error::EIO)?;
        let place = session.watches.iter().position(|watch| watch.path == path && watch.token == token);
        session.watches.remove(place.ok_or(Error::ENOENT)?);
        Ok(())
    }

    /// `domain` is gone: its session goes, and its nodes, and every right it was given. So whoever comes under the same
    /// number later inherits nothing.
    pub fn forget(&mut self, domain: DomId) {
        self.sessions.remove(&domain);
        let owned: Vec<String> = self.paths(|node| node.owner() == domain);
        for path in owned {
            // It went with one above it, or goes now; domain 0 may do that.
            let _ = self.work(0, 0, |work| work.remove(&path));
        }
        let trusting = self.paths(|node| node.permissions.iter().any(|entry| entry.domain == domain));
        for path in trusting {
            let Some(node) = self.tree.get(&path) else { continue };
            let mut node = Node::clone(node);
            node.permissions.retain(|entry| entry.domain != domain);
            self.tree.set(&path, Some(Rc::new(node)));
        }
    }

    fn paths(&self, which: impl Fn(&Node) -> bool) -> Vec<String> {
        self.tree.iter().filter(|(_, node)| which(node)).map(|(path, _)| path.clone()).collect()
    }

    /// These permissions, less those for domains that are not there; `None` where the owner is none.
    pub fn of_living(&self, permissions: Vec<Permission>) -> Option<Vec<Permission>> {
        let there = |entry: &Permission| self.sessions.contains_key(&entry.domain);
        let first = permissions.first().is_some_and(there);
        first.then(|| permissions.into_iter().filter(there).collect())
    }
}
