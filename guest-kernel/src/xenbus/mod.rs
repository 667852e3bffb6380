//! Xenbus: how the two ends of a device find each other in xenstore, connect, part, and connect again.
//!
//! Each end keeps a node, `.../device/KIND/N` or `.../backend/KIND/DOMAIN/N`, with its state and whatever it offers, and
//! watches the other's state. What is offered, and what a connection is, is a [`Driver`]'s business: a ring of
//! [`io_rings`], a grant, an event channel. When to do what is decided by the two states alone ([`reaction`]), the same
//! way for every kind of device; [`end`] carries it out over a [client](crate::xenstore::client) of the store. Which
//! devices there are is found by a [`bus`].

pub mod bus;
pub mod end;
pub mod reaction;

use abi::xen::DomId;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

/// Nodes of an end, by their names below it: `ring-ref`, `queue-0/event-channel`, ...
pub type Keys = BTreeMap<String, String>;

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that uses the device.
    Front,
    /// The one that serves it.
    Back,
}

impl Role {
    /// The node above all devices of a kind that a guest has, or serves.
    fn root(self, kind: &str) -> String {
        match self {
            Self::Front => format!("device/{kind}"),
            Self::Back => format!("backend/{kind}"),
        }
    }

    /// How many names below that lead to a device: the number, and for a back end the front end's domain before it.
    fn levels(self) -> usize {
        match self {
            Self::Front => 1,
            Self::Back => 2,
        }
    }

    /// The node of an end in which the other's path is.
    pub fn link(self) -> &'static str {
        match self {
            Self::Front => "backend",
            Self::Back => "frontend",
        }
    }
}

/// The other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its domain, as the toolstack has it.
    pub domain: DomId,
    /// What it has published: an allegation.
    pub keys: &'a Keys,
}

impl Peer<'_> {
    /// A number that it has published.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.keys.get(name)?.parse().ok()
    }
}

/// What is particular to a kind of device.
pub trait Driver {
    /// Front: makes the ring, and tells where it is. Back: tells its features. `None`: it cannot be.
    fn offer(&mut self, peer: &Peer<'_>) -> Option<Keys>;

    /// Front: the back end serves the ring. Back: begins to serve the ring that the front end has told of; what it
    /// returns is told to the front end. `None`: it cannot be.
    fn connect(&mut self, peer: &Peer<'_>) -> Option<Keys>;

    /// Lets go of everything that was offered or connected. May be called when there is nothing to let go of.
    fn disconnect(&mut self);
}
