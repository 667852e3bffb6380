//! What can be done with nodes: each of these is one request's work, in a transaction, in one domain's name.
//!
//! A domain that may not see a node is not told either whether it is there: where the nearest node above gives it no
//! such right, every answer is `EACCES`.

use abi::xen::DomId;
use abi::xen::xs_wire::Error;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::path::{child, leaf, parent};
use super::permission::{Access, Permission, allowed};
use super::quota;
use super::transaction::Transaction;
use super::tree::{Node, Tree};

/// The work of one request.
pub struct Work<'a> {
    /// All nodes.
    pub tree: &'a Tree,
    /// What this has seen and changed.
    pub transaction: &'a mut Transaction,
    /// In whose name.
    pub domain: DomId,
    /// Bytes this may still add.
    pub memory: usize,
}

impl Work<'_> {
    /// The node at this path, for whoever has `needed`.
    pub fn node(&mut self, path: &str, needed: Access) -> Result<Rc<Node>, Error> {
        let error = match self.get(path)? {
            Some(node) if allowed(&node.permissions, self.domain).has(needed) => return Ok(node),
            Some(_) => Error::EACCES,
            None => Error::ENOENT,
        };
        let above = self.nearest_above(path)?;
        let tell = above.is_some_and(|node| allowed(&node.permissions, self.domain).has_some(needed));
        Err(if tell { error } else { Error::EACCES })
    }

    /// Writes a node, and makes it and those above it where they are not there.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), Error> {
        match self.node(path, Access::WRITE) {
            Ok(node) => self.put(path, Node { value: value.into(), ..Node::clone(&node) })?,
            Err(Error::ENOENT) => self.create(path, value)?,
            Err(error) => return Err(error),
        }
        self.transaction.tell(path, false);
        Ok(())
    }

    /// Makes a node, if it is not there.
    pub fn mkdir(&mut self, path: &str) -> Result<(), Error> {
        match self.node(path, Access::WRITE) {
            Ok(_) => return Ok(()),
            Err(Error::ENOENT) => self.create(path, &[])?,
            Err(error) => return Err(error),
        }
        self.transaction.tell(path, false);
        Ok(())
    }

    /// Removes a node and all below it.
    pub fn remove(&mut self, path: &str) -> Result<(), Error> {
        match self.node(path, Access::WRITE) {
            Ok(_) if path == "/" => Err(Error::EINVAL),
            Ok(_) => {
                self.remove_below(path)?;
                if let Some(above) = self.get(parent(path))? {
                    let mut above = Node::clone(&above);
                    above.children.remove(leaf(path));
                    self.transaction.put(parent(path), Some(above));
                }
                Ok(())
            }
            // What is not there need not go, as long as its place is there.
            Err(Error::ENOENT) if self.get(parent(path))?.is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes who may do what.
    pub fn set_permissions(&mut self, path: &str, permissions: Vec<Permission>) -> Result<(), Error> {
        let node = self.node(path, Access::OWN)?;
        let owner = permissions.first().map(|first| first.domain);
        if self.domain != 0 && owner != Some(node.owner()) {
            return Err(Error::EPERM);
        }
        self.put(path, Node { permissions, ..Node::clone(&node) })?;
        self.transaction.tell(path, false);
        Ok(())
    }

    fn get(&mut self, path: &str) -> Result<Option<Rc<Node>>, Error> {
        let held = self.transaction.bytes();
        let node = self.transaction.get(self.tree, self.domain, path)?;
        if !self.transaction.is_single() {
            // What a request by itself has looked at is forgotten with it.
            self.charge(held)?;
        }
        Ok(node)
    }

    /// Changes a node, if its size and the domain's memory allow it.
    fn put(&mut self, path: &str, node: Node) -> Result<(), Error> {
        if self.domain != 0 && node.size() > quota::NODE_BYTES {
            return Err(Error::ENOSPC);
        }
        let held = self.transaction.bytes();
        self.transaction.put(path, Some(node));
        self.charge(held)
    }

    /// The transaction held that many bytes before; what it holds more is the domain's to pay.
    fn charge(&mut self, held: usize) -> Result<(), Error> {
        let more = self.transaction.bytes().saturating_sub(held);
        match self.memory.checked_sub(more) {
            _ if self.domain == 0 => Ok(()),
            Some(left) => {
                self.memory = left;
                Ok(())
            }
            None => {
                self.transaction.fail();
                Err(Error::ENOMEM)
            }
        }
    }

    fn nearest_above(&mut self, path: &str) -> Result<Option<Rc<Node>>, Error> {
        let mut path = path;
        loop {
            path = parent(path);
            let node = self.get(path)?;
            if node.is_some() || path == "/" {
                return Ok(node);
            }
        }
    }

    /// Makes a node that is not there, and those above it that are not there either. Each takes its permissions from
    /// the one above it, and a guest owns what it makes.
    fn create(&mut self, path: &str, value: &[u8]) -> Result<(), Error> {
        let mut missing: Vec<String> = Vec::new();
        let mut at = path;
        let mut above = loop {
            missing.push(at.into());
            at = parent(at);
            match self.get(at)? {
                Some(node) => break Node::clone(&node),
                None if at == "/" => return Err(Error::ENOENT),
                None => {}
            }
        };
        let owned = self.tree.account(self.domain).nodes as isize + self.transaction.balance(self.domain);
        if self.domain != 0 && owned + missing.len() as isize > quota::NODES as isize {
            return Err(Error::ENOSPC);
        }
        let mut at = at.to_string();
        while let Some(path) = missing.pop() {
            let mut permissions = above.permissions.clone();
            if let Some(owner) = permissions.first_mut()
                && self.domain != 0
            {
                owner.domain = self.domain;
            }
            above.children.insert(leaf(&path).into());
            self.put(&at, above)?;
            above = Node { permissions, ..Node::default() };
            at = path;
        }
        above.value = value.into();
        self.put(&at, above)
    }

    /// Removes all below `path`, and then it: children before the nodes they are in.
    fn remove_below(&mut self, path: &str) -> Result<(), Error> {
        let mut open = alloc::vec![(String::from(path), false)];
        while let Some((at, children_gone)) = open.pop() {
            let Some(node) = self.get(&at)? else { continue };
            if !children_gone && !node.children.is_empty() {
                let below = node.children.iter().rev().map(|name| (child(&at, name), false));
                let below: Vec<_> = below.collect();
                open.push((at, true));
                open.extend(below);
                continue;
            }
            self.transaction.put(&at, None);
            self.transaction.tell(&at, at != path);
        }
        Ok(())
    }
}
