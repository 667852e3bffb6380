//! Capabilities: what names a region of memory, a core's kernel state, an endpoint or interrupts, and who holds it.
//!
//! They form trees, as in seL4 and Barrelfish. A root stands for a region of the machine and never goes. RAM may be
//! retyped: a part of it becomes a child of some kind, and no two children overlap, so no memory is ever of two kinds.
//! Several cores may hold one capability. Deleting takes it from one of them; without holders it is gone, and its
//! children are its parent's. Revoking leaves it to the one that revokes, and nothing below it, on no core.
//!
//! A tree is one resource of the agreement, so all that is done to it is done in one order everywhere. To unmap needs
//! no order and takes one phase: when it is done, no core has the frame mapped any more.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::Reason;
use crate::agreement::{CoreId, CoreSet};

/// A capability's name, the same on all cores: in the highest byte its tree, for trees are agreed on one by one, and
/// no two of them may give the same name; the rest is chosen by whoever makes it, with [`CapId::below`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CapId(pub u64);

impl CapId {
    /// The root of a tree.
    pub const fn root(tree: u8) -> Self {
        Self((tree as u64) << 56)
    }

    /// A name in the same tree that no other core chooses, nor this one in another epoch, if it counts.
    pub fn below(self, epoch: u64, core: CoreId, count: u32) -> Self {
        let chosen = epoch << 38 | u64::from(core) << 32 | u64::from(count);
        Self(self.tree() << 56 | chosen & (u64::MAX >> 8))
    }

    fn tree(self) -> u64 {
        self.0 >> 56
    }
}

/// What a capability is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Memory that is nothing yet.
    Ram,
    /// Memory to map.
    Frame,
    /// Memory that is a page table.
    PageTable,
    /// Memory that is a core's kernel state.
    Kernel,
    /// Memory that is the end of a channel.
    Endpoint,
    /// Interrupt lines.
    Irq,
}

impl Kind {
    /// Whether a part of this can be made into that.
    fn becomes(self, other: Self) -> bool {
        matches!((self, other), (Self::Irq, Self::Irq)) || (self == Self::Ram && !matches!(other, Self::Irq))
    }

    fn is_memory(self) -> bool {
        self != Self::Irq
    }

    fn is_mapped(self) -> bool {
        matches!(self, Self::Frame | Self::PageTable)
    }
}

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cap {
    /// What it was made from; none for a root.
    pub parent: Option<CapId>,
    /// The root above it.
    pub root: CapId,
    /// What it is to.
    pub kind: Kind,
    /// The first byte, or interrupt line.
    pub base: u64,
    /// How many.
    pub size: u64,
    /// The cores that have it.
    pub holders: CoreSet,
}

impl Cap {
    /// Where it begins and ends.
    pub fn range(&self) -> Range<u64> {
        self.base..self.base.saturating_add(self.size)
    }

    fn overlaps(&self, kind: Kind, base: u64, size: u64) -> bool {
        let apart = base >= self.base.saturating_add(self.size) || self.base >= base.saturating_add(size);
        self.kind.is_memory() == kind.is_memory() && !apart
    }
}

/// What is done with capabilities. `root` is the tree's, `by` the core that does it.
#[expect(missing_docs, reason = "the fields are named alike everywhere, and explained above")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CapOp {
    /// Makes a part of `from` into `into`.
    Retype { root: CapId, from: CapId, by: CoreId, into: CapId, kind: Kind, base: u64, size: u64 },
    /// Gives it to `to` as well.
    Copy { root: CapId, cap: CapId, by: CoreId, to: CoreId },
    /// Takes it from `by`.
    Delete { root: CapId, cap: CapId, by: CoreId },
    /// Takes it from all but `by`, and all that was made from it from everybody.
    Revoke { root: CapId, cap: CapId, by: CoreId },
    /// Takes it out of all address spaces.
    Unmap { cap: CapId },
}

impl CapOp {
    /// The tree it needs for itself, unless it commutes with all others.
    pub fn root(&self) -> Option<CapId> {
        match *self {
            Self::Retype { root, .. }
            | Self::Copy { root, .. }
            | Self::Delete { root, .. }
            | Self::Revoke { root, .. } => Some(root),
            Self::Unmap { .. } => None,
        }
    }

    /// The core that does it; to unmap is asked of all by anyone.
    pub fn actor(&self) -> Option<CoreId> {
        match *self {
            Self::Retype { by, .. }
            | Self::Copy { by, .. }
            | Self::Delete { by, .. }
            | Self::Revoke { by, .. } => Some(by),
            Self::Unmap { .. } => None,
        }
    }
}

/// All capabilities, by name.
pub type Tree = BTreeMap<CapId, Cap>;

/// One core's replica of the capabilities, and what it has mapped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capabilities {
    me: CoreId,
    members: CoreSet,
    /// What is replicated.
    pub(super) tree: Tree,
    /// What this core has mapped, and which part of the region that is.
    mapped: BTreeMap<CapId, Range<u64>>,
    /// What was mapped and may not be any more, for the core to take out of its page tables.
    unmapped: Vec<Range<u64>>,
}

impl Capabilities {
    /// Nothing.
    pub fn new(me: CoreId) -> Self {
        let (tree, mapped) = (Tree::new(), BTreeMap::new());
        Self { me, members: CoreSet::EMPTY, tree, mapped, unmapped: Vec::new() }
    }

    /// Whose replica it is.
    pub fn me(&self) -> CoreId {
        self.me
    }

    /// A region of the machine, before the first epoch: the same on each core.
    pub fn add_root(&mut self, id: CapId, kind: Kind, base: u64, size: u64, holder: CoreId) {
        let holders = CoreSet::one(holder);
        self.tree.insert(id, Cap { parent: None, root: id, kind, base, size, holders });
    }

    /// A capability, whoever holds it.
    pub fn get(&self, id: CapId) -> Option<&Cap> {
        self.tree.get(&id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (CapId, &Cap)> {
        self.tree.iter().map(|(&id, cap)| (id, cap))
    }

    /// Notes that this core has mapped a frame or table that it holds; false if it may not, or has already.
    pub fn map(&mut self, id: CapId) -> bool {
        let range = self.tree.get(&id).filter(|cap| self.may_map(cap)).map(Cap::range);
        range.is_some_and(|range| self.mapped.insert(id, range).is_none())
    }

    fn may_map(&self, cap: &Cap) -> bool {
        cap.kind.is_mapped() && cap.holders.contains(self.me)
    }

    /// What this core has mapped.
    pub fn mapped(&self) -> impl Iterator<Item = (CapId, Range<u64>)> {
        self.mapped.iter().map(|(&id, range)| (id, range.clone()))
    }

    /// Whether anything has to leave this core's page tables.
    pub fn has_unmapped(&self) -> bool {
        !self.unmapped.is_empty()
    }

    /// What has to leave this core's page tables now.
    pub fn take_unmapped(&mut self) -> Vec<Range<u64>> {
        core::mem::take(&mut self.unmapped)
    }

    fn held(&self, root: CapId, id: CapId, by: CoreId) -> Result<&Cap, Reason> {
        let cap = self.tree.get(&id).filter(|cap| cap.root == root).ok_or(Reason::NoSuchCap)?;
        if cap.holders.contains(by) { Ok(cap) } else { Err(Reason::NotHeld) }
    }

    /// Whether this can be done.
    pub fn vote(&self, op: &CapOp) -> Result<(), Reason> {
        match *op {
            CapOp::Retype { root, from, by, into, kind, base, size } => {
                let cap = self.held(root, from, by)?;
                let inside = base.checked_add(size).zip(cap.base.checked_add(cap.size));
                let inside = size > 0 && base >= cap.base && inside.is_some_and(|(end, last)| end <= last);
                let mut children = self.tree.values().filter(|child| child.parent == Some(from));
                match () {
                    () if !cap.kind.becomes(kind) => Err(Reason::WrongKind),
                    () if !inside => Err(Reason::OutOfRange),
                    () if children.any(|child| child.overlaps(kind, base, size)) => Err(Reason::Overlap),
                    () if into.tree() != root.tree() => Err(Reason::StrangeName),
                    () if self.tree.contains_key(&into) => Err(Reason::CapExists),
                    () => Ok(()),
                }
            }
            CapOp::Copy { root, cap, by, to } => {
                self.held(root, cap, by)?;
                if self.members.contains(to) { Ok(()) } else { Err(Reason::NoSuchCore) }
            }
            CapOp::Delete { root, cap: id, by } => {
                let cap = self.held(root, id, by)?;
                let last = cap.parent.is_none() && cap.holders == CoreSet::one(by);
                if last { Err(Reason::LastOfRoot) } else { Ok(()) }
            }
            CapOp::Revoke { root, cap, by } => self.held(root, cap, by).map(drop),
            CapOp::Unmap { cap } => self.tree.get(&cap).map(drop).ok_or(Reason::NoSuchCap),
        }
    }

    /// Does it. What was not voted for before does nothing.
    pub fn apply(&mut self, op: &CapOp) {
        if let CapOp::Unmap { cap } = op {
            self.unmapped.extend(self.mapped.remove(cap));
            return;
        }
        if self.vote(op).is_err() {
            return;
        }
        match *op {
            CapOp::Retype { root, from, by, into, kind, base, size } => {
                let holders = CoreSet::one(by);
                self.tree.insert(into, Cap { parent: Some(from), root, kind, base, size, holders });
            }
            CapOp::Copy { cap, to, .. } => {
                if let Some(cap) = self.tree.get_mut(&cap) {
                    cap.holders.insert(to);
                }
            }
            CapOp::Delete { cap, by, .. } => self.take_from(cap, CoreSet::one(by)),
            CapOp::Revoke { cap, by, .. } => {
                self.remove_below(cap);
                if let Some(cap) = self.tree.get_mut(&cap) {
                    cap.holders = CoreSet::one(by);
                }
            }
            CapOp::Unmap { .. } => {}
        }
        self.unmap_what_is_lost();
    }

    fn remove_below(&mut self, id: CapId) {
        let mut next = alloc::vec![id];
        while let Some(parent) = next.pop() {
            let children = self.tree.iter().filter(|(_, cap)| cap.parent == Some(parent));
            let children: Vec<CapId> = children.map(|(&id, _)| id).collect();
            for child in children {
                self.tree.remove(&child);
                next.push(child);
            }
        }
    }

    /// Takes a capability from these cores. A root without holders falls to the lowest member.
    fn take_from(&mut self, id: CapId, cores: CoreSet) {
        let heir = self.members.without(cores).lowest();
        let Some(cap) = self.tree.get_mut(&id) else { return };
        cap.holders = cap.holders.without(cores);
        if !cap.holders.is_empty() {
            return;
        }
        let Some(parent) = cap.parent else {
            cap.holders = heir.into_iter().collect();
            return;
        };
        self.tree.remove(&id);
        for child in self.tree.values_mut().filter(|cap| cap.parent == Some(id)) {
            child.parent = Some(parent);
        }
    }

    fn unmap_what_is_lost(&mut self) {
        let holds = |id: &CapId| self.tree.get(id).is_some_and(|cap| self.may_map(cap));
        let lost: Vec<CapId> = self.mapped.keys().copied().filter(|id| !holds(id)).collect();
        for id in lost {
            self.unmapped.extend(self.mapped.remove(&id));
        }
    }

    /// An epoch begins without these.
    pub fn epoch(&mut self, gone: CoreSet, members: CoreSet) {
        self.members = members;
        let held = self.tree.iter().filter(|(_, cap)| !cap.holders.and(gone).is_empty());
        let held: Vec<CapId> = held.map(|(&id, _)| id).collect();
        for id in held {
            self.take_from(id, gone);
        }
        self.unmap_what_is_lost();
    }

    /// This core comes new, and is given all.
    pub fn restore(&mut self, tree: Tree) {
        self.tree = tree;
        self.unmap_what_is_lost();
    }
}
