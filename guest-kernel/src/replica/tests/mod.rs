//! Capabilities and names on several cores, in every order for small cases and in thousands of random ones.

mod caps;
mod every_order;
mod names;
mod random;

use std::collections::BTreeMap;
use std::format;
use std::string::String;

use super::capabilities::{Cap, CapId, CapOp, Kind};
use super::names::{NameOp, Place};
use super::{Op, System};
use crate::agreement::tests::world::World;
use crate::agreement::{CoreId, CoreSet, Event, Replica, Topology};

/// The roots of every test: RAM, and interrupts.
pub const RAM: CapId = CapId::root(1);
pub const LINES: CapId = CapId::root(2);

/// A name below [`RAM`].
pub fn ram(count: u32) -> CapId {
    RAM.below(0, 0, count)
}

pub fn system(me: CoreId) -> System {
    let mut system = System::new(me);
    system.caps.add_root(RAM, Kind::Ram, 0x1000, 0x8000, 0);
    system.caps.add_root(LINES, Kind::Irq, 0, 16, 0);
    system
}

pub fn world(founders: u8, cores: u8) -> World<System> {
    World::of(founders, cores, &Topology::flat(), system)
}

pub fn retype(by: CoreId, from: CapId, into: u32, kind: Kind, base: u64, size: u64) -> Op {
    let root = if kind == Kind::Irq { LINES } else { RAM };
    Op::Cap(CapOp::Retype { root, from, by, into: root.below(0, 0, into), kind, base, size })
}

pub fn register(name: &str, core: CoreId, service: u64) -> Op {
    Op::Name(NameOp::Register { name: name.into(), place: Place { core, service } })
}

pub fn request(ticket: u64, op: Op) -> Event<Op, <System as Replica>::State> {
    Event::Request(ticket, op)
}

/// What holds of one replica at any time.
pub fn sound(system: &System, members: CoreSet) -> Result<(), String> {
    let caps: BTreeMap<_, _> = system.caps.iter().collect();
    for (id, cap) in &caps {
        if cap.holders.is_empty() {
            return Err(format!("nobody holds {id:?}"));
        }
        if !cap.holders.without(members).is_empty() {
            return Err(format!("{id:?} is held by strangers: {cap:?}, {members:?}"));
        }
        let end = cap.base + cap.size;
        if let Some(parent) = cap.parent {
            let Some(above) = caps.get(&parent) else { return Err(format!("{id:?} hangs in the air")) };
            if cap.base < above.base || end > above.base + above.size || above.root != cap.root {
                return Err(format!("{id:?} is not within {parent:?}"));
            }
            if !matches!((above.kind, cap.kind), (Kind::Ram, _) | (Kind::Irq, Kind::Irq)) {
                return Err(format!("{:?} was made from {:?}", cap.kind, above.kind));
            }
        }
        for (other, beside) in &caps {
            let same_space = (beside.kind == Kind::Irq) == (cap.kind == Kind::Irq);
            let apart = beside.base >= end || cap.base >= beside.base + beside.size;
            if other != id && beside.parent == cap.parent && same_space && !apart {
                return Err(format!("{id:?} and {other:?} overlap"));
            }
        }
    }
    for (root, base, size) in [(RAM, 0x1000, 0x8000), (LINES, 0, 16)] {
        if caps.get(&root).is_none_or(|cap| (cap.base, cap.size, cap.parent) != (base, size, None)) {
            return Err(format!("{root:?} leaked"));
        }
    }
    for (id, range) in system.caps.mapped() {
        let held = |cap: &Cap| cap.holders.contains(system.caps.me()) && cap.range() == range;
        let held = system.caps.get(id).is_some_and(held);
        if !held {
            return Err(format!("{id:?} is mapped without a capability"));
        }
    }
    match system.names.iter().find(|(_, place)| !members.contains(place.core)) {
        Some((name, place)) => Err(format!("{name} is on core {}, which is gone", place.core)),
        None => Ok(()),
    }
}

/// What holds in every state.
pub fn check(world: &World<System>) -> Result<(), String> {
    world.check_epochs()?;
    for (core, node) in world.live() {
        if let Some((_, members)) = node.epoch() {
            sound(&node.replica, members).map_err(|why| format!("core {core}: {why}"))?;
        }
    }
    Ok(())
}

/// What holds when nothing more can happen.
pub fn check_end(world: &World<System>) -> Result<(), String> {
    world.check_end()
}
