//! Names: which service is where.
//!
//! A name is registered and given up in two phases, so of several that want it one gets it, and everybody knows the
//! same one. It is looked up without a message. A core that leaves or dies takes its names with it, everywhere, with
//! the epoch that begins without it. A watch tells a program of names that begin in some way as they come and go.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Reason;
use crate::agreement::{CoreId, CoreSet};

/// The longest name, in bytes.
pub const LONGEST: usize = 64;

/// Where a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// On which core.
    pub core: CoreId,
    /// Which of its services, in its own words.
    pub service: u64,
}

/// What is done with names.
#[expect(missing_docs, reason = "the fields' names say what they are")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NameOp {
    /// The name is this service's from now on.
    Register { name: String, place: Place },
    /// The name is nobody's.
    Unregister { name: String, core: CoreId },
}

impl NameOp {
    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Self::Register { name, .. } | Self::Unregister { name, .. } => name,
        }
    }
}

/// All names.
pub type Table = BTreeMap<String, Place>;

/// A name that came, with its place, or went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Notice {
    /// Whose watch it was.
    pub watch: u32,
    /// Which name.
    pub name: String,
    /// Where it is now, if it is.
    pub place: Option<Place>,
}

/// One core's replica of the names, and its own watches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Names {
    /// What is replicated.
    pub(super) table: Table,
    members: CoreSet,
    watches: BTreeMap<u32, String>,
    next_watch: u32,
    notices: Vec<Notice>,
}

impl Names {
    /// Where a service is.
    pub fn look_up(&self, name: &str) -> Option<Place> {
        self.table.get(name).copied()
    }

    /// All names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Place)> {
        self.table.iter().map(|(name, &place)| (name.as_str(), place))
    }

    /// From now on tells of names that begin like this; of those that are there already, at once.
    pub fn watch(&mut self, beginning: &str) -> u32 {
        let watch = self.next_watch;
        self.next_watch = watch.wrapping_add(1);
        self.watches.insert(watch, beginning.into());
        let there = self.table.iter().filter(|(name, _)| name.starts_with(beginning));
        let notice =
            |(name, &place): (&String, &Place)| Notice { watch, name: name.clone(), place: Some(place) };
        self.notices.extend(there.map(notice));
        watch
    }

    /// Tells no more.
    pub fn unwatch(&mut self, watch: u32) {
        self.watches.remove(&watch);
        self.notices.retain(|notice| notice.watch != watch);
    }

    /// Whether there is such a watch.
    pub fn is_watched(&self, watch: u32) -> bool {
        self.watches.contains_key(&watch)
    }

    /// Whether a watch has seen something.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// What the watches have seen.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        core::mem::take(&mut self.notices)
    }

    /// Takes back what was told and nobody has made use of.
    pub fn take_back(&mut self, mut notices: Vec<Notice>) {
        notices.append(&mut self.notices);
        self.notices = notices;
    }

    fn tell(&mut self, name: &str, place: Option<Place>) {
        let watching = self.watches.iter().filter(|(_, beginning)| name.starts_with(beginning.as_str()));
        self.notices.extend(watching.map(|(&watch, _)| Notice { watch, name: name.into(), place }));
    }

    /// Whether this can be done.
    pub fn vote(&self, op: &NameOp) -> Result<(), Reason> {
        let there = self.table.get(op.name());
        match op {
            NameOp::Register { name, .. } if name.is_empty() || name.len() > LONGEST => Err(Reason::BadName),
            NameOp::Register { place, .. } if !self.members.contains(place.core) => Err(Reason::NoSuchCore),
            NameOp::Register { .. } if there.is_some() => Err(Reason::NameTaken),
            NameOp::Unregister { core, .. } if there.is_none_or(|place| place.core != *core) => {
                Err(Reason::NoSuchName)
            }
            _ => Ok(()),
        }
    }

    /// Does it. What was not voted for before does nothing.
    pub fn apply(&mut self, op: &NameOp) {
        if self.vote(op).is_err() {
            return;
        }
        match op {
            NameOp::Register { name, place } => {
                self.table.insert(name.clone(), *place);
                self.tell(name, Some(*place));
            }
            NameOp::Unregister { name, .. } => {
                self.table.remove(name);
                self.tell(name, None);
            }
        }
    }

    /// An epoch begins without these.
    pub fn epoch(&mut self, gone: CoreSet, members: CoreSet) {
        self.members = members;
        let names = self.table.iter().filter(|(_, place)| gone.contains(place.core));
        let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.table.remove(&name);
            self.tell(&name, None);
        }
    }

    /// This core comes new, and is given all.
    pub fn restore(&mut self, table: Table) {
        for (name, place) in &table {
            if self.table.get(name) != Some(place) {
                self.tell(name, Some(*place));
            }
        }
        self.table = table;
    }
}
