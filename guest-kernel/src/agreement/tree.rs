//! Multicast trees: who passes a message on to whom.
//!
//! A tree is a pure function of the members, the root and the machine's groups, so all members of an epoch agree on it
//! without a word, and a member's death repairs it by the epoch that follows. Groups are nested levels, the widest
//! first: packages, then the cores below one cache. One core of each group, the lowest, takes the message in and hands
//! it on inside; the root is the first of its own groups.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::core_set::{CoreId, CoreSet};
use crate::knowledge::Knowledge;

/// Nodes, packages, caches, threads: no machine has more.
const MOST_LEVELS: usize = 8;

/// The machine's groups of cores. Without levels the tree is flat: the root sends to each by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Topology {
    levels: Vec<Vec<CoreSet>>,
}

impl Topology {
    /// The root sends to everybody.
    pub fn flat() -> Self {
        Self::default()
    }

    /// Levels of groups, the widest first. A core in no group of a level is one by itself.
    pub fn levels(levels: Vec<Vec<CoreSet>>) -> Self {
        Self { levels }
    }

    /// The groups that the knowledge base tells of.
    pub fn of(knowledge: &Knowledge) -> Self {
        Self::levels(knowledge.levels())
    }

    /// Whether this can be a machine's: no more groups than cores, and few levels.
    pub(super) fn is_sound(&self) -> bool {
        self.levels.len() <= MOST_LEVELS && self.levels.iter().all(|groups| groups.len() <= 64)
    }

    /// Whom `core` passes a message of `root` on to.
    pub fn children(&self, members: CoreSet, root: CoreId, core: CoreId) -> CoreSet {
        if self.levels.is_empty() {
            let all = members.without(CoreSet::one(root));
            return if core == root { all } else { CoreSet::EMPTY };
        }
        let mut children = CoreSet::EMPTY;
        fan_out(members, root, &self.levels, &mut |parent, child| {
            if parent == core {
                children.insert(child);
            }
        });
        children
    }

    /// From whom `core` gets the messages of `root`.
    pub fn parent(&self, members: CoreSet, root: CoreId, core: CoreId) -> Option<CoreId> {
        if self.levels.is_empty() {
            return (core != root && members.contains(core)).then_some(root);
        }
        let mut found = None;
        fan_out(members, root, &self.levels, &mut |parent, child| {
            if child == core {
                found = Some(parent);
            }
        });
        found
    }
}

/// One core's part in the trees of all roots, looked up once an epoch: a transaction asks for it at each of its steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Routes {
    /// By root. Of a flat tree there is nothing to look up.
    by_root: Vec<(CoreSet, Option<CoreId>)>,
}

impl Routes {
    /// Those of `core` among these members.
    pub(super) fn of(topology: &Topology, members: CoreSet, core: CoreId) -> Self {
        let roots = match members.iter().last() {
            Some(last) if !topology.levels.is_empty() => 0..=last,
            _ => return Self::default(),
        };
        let route = |root| (topology.children(members, root, core), topology.parent(members, root, core));
        Self { by_root: roots.map(route).collect() }
    }

    fn route(&self, root: CoreId) -> Option<(CoreSet, Option<CoreId>)> {
        self.by_root.get(usize::from(root)).copied()
    }

    /// As [`Topology::children`].
    pub(super) fn children(
        &self,
        topology: &Topology,
        members: CoreSet,
        root: CoreId,
        core: CoreId,
    ) -> CoreSet {
        self.route(root).map_or_else(|| topology.children(members, root, core), |(children, _)| children)
    }

    /// As [`Topology::parent`].
    pub(super) fn parent(
        &self,
        topology: &Topology,
        members: CoreSet,
        root: CoreId,
        core: CoreId,
    ) -> Option<CoreId> {
        self.route(root).map_or_else(|| topology.parent(members, root, core), |(_, parent)| parent)
    }
}

/// Names each edge of the tree below `root`, which reaches the cores of `set`.
fn fan_out(set: CoreSet, root: CoreId, levels: &[Vec<CoreSet>], edge: &mut impl FnMut(CoreId, CoreId)) {
    let Some((level, inner)) = levels.split_first() else {
        set.without(CoreSet::one(root)).iter().for_each(|core| edge(root, core));
        return;
    };
    let mut left = set;
    for group in level {
        let inside = group.and(left);
        left = left.without(inside);
        let Some(first) = inside.lowest() else { continue };
        let first = if inside.contains(root) { root } else { first };
        if first != root {
            edge(root, first);
        }
        fan_out(inside, first, inner, edge);
    }
    left.without(CoreSet::one(root)).iter().for_each(|core| edge(root, core));
}
