//! What the monitors replicate: who may use which resource, and who goes by which name.
//!
//! Each core has all of it, so a look asks nobody; a change goes through the [agreement](crate::agreement). What is
//! one core's own stays with it: which frames it has mapped, and which names its programs watch.

pub mod capabilities;
pub mod names;

use serde::{Deserialize, Serialize};

use crate::agreement::{CoreId, CoreSet, Refusal, Replica};
use capabilities::{CapOp, Capabilities};
use names::{NameOp, Names};

/// Why a replica does not admit an operation, as [`Refusal::State`] carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// No such capability, or not below the root that was named.
    NoSuchCap = 1,
    /// The core that asks does not hold the capability.
    NotHeld = 2,
    /// This kind cannot become that.
    WrongKind = 3,
    /// The range is empty, or not inside.
    OutOfRange = 4,
    /// Part of the range is in use.
    Overlap = 5,
    /// The new capability's name is taken.
    CapExists = 6,
    /// The last capability to a region of the machine cannot be deleted, only revoked.
    LastOfRoot = 7,
    /// Not a member.
    NoSuchCore = 8,
    /// The name is taken.
    NameTaken = 9,
    /// There is no such name, or it is another core's.
    NoSuchName = 10,
    /// Empty, or too long.
    BadName = 11,
    /// The new capability's name belongs to another tree.
    StrangeName = 12,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Refusal::State(reason as u32)
    }
}

/// An operation on what is replicated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// On capabilities.
    Cap(CapOp),
    /// On names.
    Name(NameOp),
}

impl Op {
    /// The core that does it, where it is one core's deed.
    pub fn actor(&self) -> Option<CoreId> {
        match self {
            Op::Cap(op) => op.actor(),
            Op::Name(NameOp::Register { place, .. }) => Some(place.core),
            Op::Name(NameOp::Unregister { core, .. }) => Some(*core),
        }
    }
}

/// What a core that comes new is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct State {
    /// The capabilities.
    pub caps: capabilities::Tree,
    /// The names.
    pub names: names::Table,
}

/// One core's replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct System {
    /// Who may use what.
    pub caps: Capabilities,
    /// Who is called what.
    pub names: Names,
}

impl System {
    /// The replica of `me`, before there is anything.
    pub fn new(me: CoreId) -> Self {
        Self { caps: Capabilities::new(me), names: Names::default() }
    }
}

impl Replica for System {
    type Op = Op;
    type State = State;

    /// A tree of capabilities is one resource, a name another. The greatest bit tells them apart; names that fall
    /// together merely wait for each other.
    fn resource(op: &Op) -> Option<u64> {
        match op {
            Op::Cap(op) => op.root().map(|root| root.0 >> 1),
            Op::Name(op) => Some(op.name().bytes().fold(0xcbf2_9ce4_8422_2325, mix) | 1 << 63),
        }
    }

    fn vote(&self, op: &Op) -> Result<(), Refusal> {
        let vote = match op {
            Op::Cap(op) => self.caps.vote(op),
            Op::Name(op) => self.names.vote(op),
        };
        vote.map_err(Refusal::from)
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Cap(op) => self.caps.apply(op),
            Op::Name(op) => self.names.apply(op),
        }
    }

    fn epoch(&mut self, gone: CoreSet, members: CoreSet) {
        self.caps.epoch(gone, members);
        self.names.epoch(gone, members);
    }

    fn state(&self) -> State {
        State { caps: self.caps.tree.clone(), names: self.names.table.clone() }
    }

    fn restore(&mut self, state: &State) {
        self.caps.restore(state.caps.clone());
        self.names.restore(state.names.clone());
    }
}

/// FNV-1a, one byte.
fn mix(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
}

#[cfg(test)]
pub(crate) mod tests;
