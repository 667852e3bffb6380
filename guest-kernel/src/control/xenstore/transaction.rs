//! A transaction: what it has seen, as it saw it, and what it has changed.
//!
//! A node is copied when the transaction first looks at it, and from then on the transaction sees its own copy. At the
//! end every node it has seen must still be of the generation it saw; then all its changes are made at once, else none
//! and the guest is told to try again. A request outside of a transaction is a transaction of its own, so that it too
//! is done as a whole or not at all.

use abi::xen::DomId;
use abi::xen::xs_wire::Error;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::path;
use super::permission::{Access, allowed};
use super::quota;
use super::tree::{Node, Tree};

/// A node, as the transaction knows it.
#[derive(Debug)]
struct Known {
    /// Generation when first seen.
    seen: u64,
    now: Option<Rc<Node>>,
    changed: bool,
}

/// A change that watches are to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What changed.
    pub path: String,
    /// Only watches of this very path hear of it: it went with a node above, whose watches hear of that.
    pub exact: bool,
}

/// A change that was made.
#[derive(Debug)]
pub struct Made {
    /// What and how.
    pub change: Change,
    /// The node and the one above it, before and after.
    witnesses: Vec<Rc<Node>>,
}

impl Made {
    /// Whether `domain` may know: it may read the node or the one above, or could before.
    pub fn may_know(&self, domain: DomId) -> bool {
        self.witnesses.iter().any(|node| allowed(&node.permissions, domain).has(Access::READ))
    }
}

/// A transaction.
#[derive(Debug, Default)]
pub struct Transaction {
    known: BTreeMap<String, Known>,
    /// What watches are to hear of, each with its place in the order of telling, and whether it is exact.
    changes: BTreeMap<String, (usize, bool)>,
    /// Nodes made less nodes removed, by owner.
    balance: BTreeMap<DomId, isize>,
    bytes: usize,
    failed: bool,
    /// It is a request by itself, and ends with it.
    single: bool,
}

impl Transaction {
    /// One that ends with its request.
    pub fn single() -> Self {
        Self { single: true, ..Self::default() }
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it ends with its request.
    pub fn is_single(&self) -> bool {
        self.single
    }

    /// It can only fail from now on.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Nodes that `owner` has more (or fewer) by this transaction.
    pub fn balance(&self, owner: DomId) -> isize {
        self.balance.get(&owner).copied().unwrap_or(0)
    }

    /// The node at this path, as the transaction sees it, for `domain`, whose quota is asked.
    pub fn get(&mut self, tree: &Tree, domain: DomId, path: &str) -> Result<Option<Rc<Node>>, Error> {
        if let Some(known) = self.known.get(path) {
            return Ok(known.now.clone());
        }
        if domain != 0 && !self.single && self.known.len() >= quota::TRANSACTION_NODES {
            self.fail();
            return Err(Error::ENOSPC);
        }
        let now = tree.get(path).cloned();
        self.bytes += path.len() + now.as_ref().map_or(0, |node| node.size());
        let known = Known { seen: tree.generation(path), now: now.clone(), changed: false };
        self.known.insert(path.into(), known);
        Ok(now)
    }

    /// Changes a node, which the transaction has seen. `None`: it goes.
    pub fn put(&mut self, path: &str, node: Option<Node>) {
        let Some(known) = self.known.get_mut(path) else { return };
        if let Some(old) = &known.now {
            *self.balance.entry(old.owner()).or_default() -= 1;
            self.bytes = self.bytes.saturating_sub(old.size());
        }
        if let Some(new) = &node {
            *self.balance.entry(new.owner()).or_default() += 1;
            self.bytes += new.size();
        }
        known.now = node.map(Rc::new);
        known.changed = true;
    }

    /// Watches are to hear of this. A node that changes twice is told of once, as the more telling of the two.
    pub fn tell(&mut self, path: &str, exact: bool) {
        let place = self.changes.len();
        match self.changes.get_mut(path) {
            Some((_, only_exact)) => *only_exact &= exact,
            None => drop(self.changes.insert(path.into(), (place, exact))),
        }
    }

    /// Makes all changes, or none.
    pub fn commit(self, tree: &mut Tree, domain: DomId) -> Result<Vec<Made>, Error> {
        if self.failed {
            return Err(Error::ENOMEM);
        }
        let more = self.balance(domain);
        if domain != 0 && more > 0 && tree.account(domain).nodes as isize + more > quota::NODES as isize {
            return Err(Error::ENOSPC);
        }
        if self.known.iter().any(|(path, known)| tree.generation(path) != known.seen) {
            return Err(Error::EAGAIN);
        }
        let around = |tree: &Tree, path: &str| {
            [tree.get(path), tree.get(path::parent(path))].into_iter().flatten().cloned().collect::<Vec<_>>()
        };
        let mut changes: Vec<_> = self.changes.into_iter().collect();
        changes.sort_unstable_by_key(|(_, (place, _))| *place);
        let before: Vec<_> = changes.iter().map(|(path, _)| around(tree, path)).collect();
        for (path, known) in self.known.into_iter().filter(|(_, known)| known.changed) {
            tree.set(&path, known.now);
        }
        let made = changes.into_iter().zip(before).map(|((path, (_, exact)), mut witnesses)| {
            witnesses.extend(around(tree, &path));
            Made { change: Change { path, exact }, witnesses }
        });
        Ok(made.collect())
    }
}
