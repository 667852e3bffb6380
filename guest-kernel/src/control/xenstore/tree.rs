//! The nodes, and who owns how many.
//!
//! Nodes are found by their whole path. Each knows the names of its children, so that the tree can be walked; whoever
//! changes nodes keeps the two in step, and does it in [transactions](super::transaction) only.

use abi::xen::DomId;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::{vec, vec::Vec};

use super::permission::Permission;

/// The generation of a node that is not there.
pub const ABSENT: u64 = 0;

/// A node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its value.
    pub value: Vec<u8>,
    /// Its permissions; the first one names the owner.
    pub permissions: Vec<Permission>,
    /// Names of its children.
    pub children: BTreeSet<String>,
    /// Changes whenever the node does, and no two changes have the same.
    pub generation: u64,
}

impl Node {
    /// Who owns it.
    pub fn owner(&self) -> DomId {
        self.permissions.first().map_or(0, |first| first.domain)
    }

    /// Its size, as the quota counts it.
    pub fn size(&self) -> usize {
        let names: usize = self.children.iter().map(|name| name.len() + 1).sum();
        16 + 8 * self.permissions.len() + self.value.len() + names
    }
}

/// What a domain owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Nodes.
    pub nodes: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// All nodes.
#[derive(Debug)]
pub struct Tree {
    nodes: BTreeMap<String, Rc<Node>>,
    accounts: BTreeMap<DomId, Account>,
    generation: u64,
}

/// The special names, which are nodes too for the sake of their permissions.
pub const INTRODUCE_DOMAIN: &str = "@introduceDomain";
/// See [`INTRODUCE_DOMAIN`].
pub const RELEASE_DOMAIN: &str = "@releaseDomain";

impl Tree {
    /// The root, `/tool/xenstored` and the special names, all of them domain 0's.
    pub fn new() -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), accounts: BTreeMap::new(), generation: ABSENT };
        let places: [(&str, &[&str]); 5] = [
            ("/", &["tool"]),
            ("/tool", &["xenstored"]),
            ("/tool/xenstored", &[]),
            (INTRODUCE_DOMAIN, &[]),
            (RELEASE_DOMAIN, &[]),
        ];
        for (path, children) in places {
            let children = children.iter().map(ToString::to_string).collect();
            let node = Node { permissions: vec![Permission::none(0)], children, ..Node::default() };
            tree.set(path, Some(Rc::new(node)));
        }
        tree
    }

    /// The node at this path.
    pub fn get(&self, path: &str) -> Option<&Rc<Node>> {
        self.nodes.get(path)
    }

    /// The generation of the node at this path.
    pub fn generation(&self, path: &str) -> u64 {
        self.get(path).map_or(ABSENT, |node| node.generation)
    }

    /// Puts a node there, in a new generation, or takes away the one that is there.
    pub fn set(&mut self, path: &str, node: Option<Rc<Node>>) {
        if let Some(old) = self.nodes.remove(path) {
            let account = self.accounts.entry(old.owner()).or_default();
            account.nodes = account.nodes.saturating_sub(1);
            account.bytes = account.bytes.saturating_sub(old.size());
            if *account == Account::default() {
                self.accounts.remove(&old.owner());
            }
        }
        let Some(mut node) = node else { return };
        self.generation += 1;
        Rc::make_mut(&mut node).generation = self.generation;
        let account = self.accounts.entry(node.owner()).or_default();
        account.nodes += 1;
        account.bytes += node.size();
        self.nodes.insert(path.into(), node);
    }

    /// What a domain owns.
    pub fn account(&self, domain: DomId) -> Account {
        self.accounts.get(&domain).copied().unwrap_or_default()
    }

    /// All paths with their nodes, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Rc<Node>)> {
        self.nodes.iter()
    }
}
