//! What domain 0 knows of the machine: told by the hypervisor at the start, and measured by the guests when somebody asks.
//!
//! Guests measure one after the other, so that none disturbs another. One that hangs holds up the others' turn and nothing
//! else: the next request begins anew, and the toolstack waits only so long.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use abi::control::hypercall::MachineInfo;
use abi::control::topology::{Known, Latency, Topology};
use abi::control::wire::{Placement, Refusal, Reply};
use abi::mesh::{MAX_SLOTS, kind};
use io_rings::urpc::Message;

use super::Control;
use super::hypervisor::Hypervisor;
use super::pages::Slot;
use super::refusal::no_such_guest;
use crate::knowledge::Knowledge;

/// The machine, and what messages cost in it.
#[derive(Default)]
pub(super) struct Knowing {
    machine: Topology,
    pub(super) knowledge: Knowledge,
    /// By who asked and who answered. Kept apart from the knowledge base, which forgets nothing.
    latencies: BTreeMap<(Slot, Slot), u64>,
    /// Who has yet to measure; the first is at it.
    queue: VecDeque<Slot>,
    /// The first has been told.
    told: bool,
}

impl Knowing {
    /// What the hypervisor tells; where it tells nothing, as many cores as there are, of which nothing is known.
    pub(super) fn new<H: Hypervisor>(hypervisor: &mut H, info: &MachineInfo) -> Self {
        let machine = hypervisor.topology().unwrap_or_else(|_| {
            let mut machine =
                Topology { cores: info.cores.min(MAX_SLOTS as u32), nodes: 1, ..Topology::default() };
            for (apic_id, core) in (0u32..).zip(&mut machine.core) {
                core.apic_id = apic_id;
            }
            machine
        });
        Self { machine, knowledge: Knowledge::of_machine(&machine), ..Self::default() }
    }

    /// A guest's word about what a message costs; true if it was one.
    pub(super) fn hear(&mut self, slot: Slot, message: &Message) -> bool {
        let [kind::MEASURE, peer, ticks, ..] = *message else { return false };
        // Whoever was not asked is not listened to.
        if !self.told || self.queue.front() != Some(&slot) {
            return true;
        }
        if peer == kind::MEASURED_ALL {
            self.next();
        } else if let Some(peer) = usize::try_from(peer).ok().filter(|&peer| peer < MAX_SLOTS && peer != slot)
        {
            self.latencies.insert((slot, peer), ticks);
        }
        true
    }

    /// A guest is gone, and with it what it measured and what was measured of it.
    pub(super) fn gone(&mut self, slot: Slot) {
        self.latencies.retain(|&(from, to), _| from != slot && to != slot);
        if self.queue.front() == Some(&slot) {
            self.next();
        }
        self.queue.retain(|&waiting| waiting != slot);
    }

    fn next(&mut self) {
        self.queue.pop_front();
        self.told = false;
    }
}

impl<H: Hypervisor> Control<H> {
    /// The machine, and what was measured between processors that are online.
    pub(super) fn known(&mut self) -> Reply {
        let mut latencies = Vec::new();
        for ((from, to), ticks) in self.knowing.latencies.clone() {
            if let (Some(from), Some(to)) = (self.processor_of(from), self.processor_of(to)) {
                latencies.push(Latency { from, to, ticks });
            }
        }
        let known = Box::new(Known { topology: self.knowing.machine, latencies });
        Reply::Topology { known, measuring: !self.knowing.queue.is_empty() }
    }

    /// Has all members of the mesh measure, one after the other.
    pub(super) fn measure(&mut self) -> Reply {
        let members = self.guests.iter().filter(|(_, guest)| guest.is_alive() && guest.link.is_some());
        self.knowing.queue = members.map(|(slot, _)| slot).collect();
        self.knowing.told = false;
        self.knowing.latencies.clear();
        Reply::Done
    }

    /// Tells the one whose turn it is.
    pub(super) fn go_on_measuring(&mut self) {
        while !self.knowing.told
            && let Some(&slot) = self.knowing.queue.front()
        {
            match self.guests.get_mut(slot).and_then(|guest| guest.link.as_mut()) {
                Some(link) => {
                    link.queue([kind::MEASURE, 0, 0, 0, 0, 0, 0]);
                    self.knowing.told = true;
                }
                None => self.knowing.next(),
            }
        }
    }

    /// Slots of idle cores in the order in which a guest with that wish gets them.
    pub(super) fn in_order(&mut self, idle: Vec<u32>, placement: &Placement) -> Result<Vec<u32>, Refusal> {
        let (name, is_far) = match placement {
            Placement::Lowest => return Ok(idle),
            Placement::Near(name) => (name, false),
            Placement::Far(name) => (name, true),
        };
        let guest = self.guests.find(name).and_then(|slot| self.guests.get(slot));
        let home = guest.and_then(|guest| guest.cores.first().copied()).ok_or_else(|| no_such_guest(name))?;
        // A guest that is kept has no processor; it counts as being where its number is.
        let mut place = |slot: u32| self.processor_of(slot as Slot).unwrap_or(slot);
        let (from, places) =
            (place(home), idle.into_iter().map(|slot| (place(slot), slot)).collect::<BTreeMap<_, _>>());
        let mut order = self.knowing.knowledge.by_distance(from, places.keys().copied().collect());
        if is_far {
            order.reverse();
        }
        Ok(order.into_iter().filter_map(|processor| places.get(&processor).copied()).collect())
    }
}
