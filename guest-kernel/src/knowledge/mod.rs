//! The knowledge base: what is known of the machine, as facts, and what follows from them by rules.
//!
//! | fact | says |
//! |---|---|
//! | `core(C)` | Atoll's core number C |
//! | `thread(C, G)` | C is a thread of the core G |
//! | `package(C, P)`, `node(C, N)` | where it is |
//! | `cache(C, L, G)` | C's data go through the cache G of level L |
//! | `cache_kind(L, K, KIB, LINE)` | such a cache, K being `data`, `instruction` or `unified` |
//! | `node_distance(N, M, D)` | the firmware says that M's memory is so far from N; its own is 10 |
//! | `io_apic(I, ADDRESS, GSI)` | a device: where its registers are, its first interrupt |
//! | `pci(B, D, F, VENDOR, MODEL, CLASS)` | a device: its bus, device and function, what it is, who made it |
//! | `latency(A, B, T)` | a message from A to B was measured to take T ticks |
//!
//! The rules are in `rules.dl`; a program may ask any question ([`Knowledge::ask`]) and add rules of its own
//! ([`Knowledge::learn`]). It is the same code in domain 0, which is told by the hypervisor and chooses cores for guests by
//! it; in a guest, which is told by the mesh page and makes its multicast tree of it; and in the toolstack, which draws it.

pub mod datalog;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use abi::control::topology::{Latency, MeshPlace, PciFunction, Topology, cache_kind};

use crate::agreement::{CoreId, CoreSet};
use datalog::{Answer, Database, Mistake, Value};

/// What follows from the facts.
pub const RULES: &str = include_str!("rules.dl");

/// The level that a mesh page's cache is told under.
const LAST_LEVEL: u64 = 3;

/// Facts, and what follows.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    database: Database,
}

impl Knowledge {
    fn new(fill: impl FnOnce(&mut Database)) -> Self {
        let mut knowledge = Self::default();
        fill(&mut knowledge.database);
        // The rules are part of this crate, and a test adds them.
        let _ = knowledge.learn(RULES);
        knowledge
    }

    /// What hypervisor and firmware say.
    pub fn of_machine(machine: &Topology) -> Self {
        Self::new(|database| {
            for (core, place) in (0u64..).zip(machine.core_places()) {
                let group = |shift: u32| Value::from(place.apic_id.checked_shr(shift).unwrap_or(0));
                database.fact("core", [core.into()]);
                database.fact("thread", [core.into(), group(machine.core_shift)]);
                database.fact("package", [core.into(), group(machine.package_shift)]);
                database.fact("node", [core.into(), place.node.into()]);
                for cache in
                    machine.cache_kinds().iter().filter(|cache| cache.kind != cache_kind::INSTRUCTION)
                {
                    // CPUID tells for how many ids a cache is made, which may be more than a package has.
                    let shift = u32::from(cache.shift).min(machine.package_shift);
                    let level = Value::from(u32::from(cache.level));
                    database.fact("cache", [core.into(), level, group(shift)]);
                }
            }
            for cache in machine.cache_kinds() {
                let kind = match cache.kind {
                    cache_kind::DATA => "data",
                    cache_kind::INSTRUCTION => "instruction",
                    _ => "unified",
                };
                let level = Value::from(u32::from(cache.level));
                database.fact("cache_kind", [level, kind.into(), cache.kib.into(), cache.line_bytes.into()]);
            }
            for (from, row) in (0u32..machine.nodes).zip(&machine.distances) {
                for (to, &distance) in (0u32..machine.nodes).zip(row) {
                    database.fact("node_distance", [from.into(), to.into(), u32::from(distance).into()]);
                }
            }
            for (index, io) in (0u64..).zip(machine.io_apic_places()) {
                database.fact("io_apic", [index.into(), io.address.into(), io.first_gsi.into()]);
            }
            for function in machine.pci_functions() {
                let PciFunction { bus, device, function, vendor, model, class, .. } = *function;
                let place = [bus, device, function].map(u32::from);
                let [bus, device, function] = place.map(Value::from);
                let [vendor, model, class] = [vendor, model, class].map(u32::from).map(Value::from);
                database.fact("pci", [bus, device, function, vendor, model, class]);
            }
        })
    }

    /// What a mesh page says of the cores behind its slots.
    pub fn of_mesh(places: &[MeshPlace]) -> Self {
        Self::new(|database| {
            for (core, place) in (0u64..).zip(places) {
                database.fact("core", [core.into()]);
                for (name, group) in
                    [("thread", place.core), ("package", place.package), ("node", place.node)]
                {
                    database.fact(name, [core.into(), u32::from(group).into()]);
                }
                database.fact("cache", [core.into(), LAST_LEVEL.into(), u32::from(place.cache).into()]);
            }
        })
    }

    /// Adds facts and rules, and what follows from them.
    pub fn learn(&mut self, text: &str) -> Result<(), Mistake> {
        self.database.add(text)?;
        self.database.conclude();
        Ok(())
    }

    /// Adds what was measured.
    pub fn measured(&mut self, latencies: &[Latency]) {
        for latency in latencies {
            self.database.fact("latency", [latency.from.into(), latency.to.into(), latency.ticks.into()]);
        }
        self.database.conclude();
    }

    /// A question; see [`Database::ask`].
    pub fn ask(&self, question: &str) -> Result<Answer, Mistake> {
        self.database.ask(question)
    }

    /// How far one core is from another: 0 from itself, else what the rules say.
    pub fn distance(&self, from: u32, to: u32) -> Option<u64> {
        if from == to {
            return Some(0);
        }
        let facts = self.database.facts("distance");
        let of_both = facts.filter_map(|fact| match fact {
            [a, b, distance] if *a == from.into() && *b == to.into() => distance.number(),
            _ => None,
        });
        of_both.min()
    }

    /// These cores, the nearest to `from` first; of equals, the lowest.
    pub fn by_distance(&self, from: u32, mut cores: Vec<u32>) -> Vec<u32> {
        cores.sort_by_cached_key(|&core| (self.distance(from, core).unwrap_or(u64::MAX), core));
        cores
    }

    /// The groups of cores that share a `package`, a `node`, ...: the lowest core's first. `prefix` are the arguments
    /// between core and group.
    fn groups(&self, name: &str, prefix: &[Value]) -> Vec<CoreSet> {
        let mut groups: BTreeMap<&Value, CoreSet> = BTreeMap::new();
        for fact in self.database.facts(name) {
            let [core, between @ .., group] = fact else { continue };
            let core = core.number().and_then(|core| CoreId::try_from(core).ok()).filter(|&core| core < 64);
            if let Some(core) = core.filter(|_| between == prefix) {
                groups.entry(group).or_insert(CoreSet::EMPTY).insert(core);
            }
        }
        let mut groups: Vec<CoreSet> = groups.into_values().collect();
        groups.sort_by_key(|group| group.lowest());
        groups
    }

    /// Nested groups of cores, the widest first, as far as they tell cores apart: nodes, packages, and the cores below the
    /// largest cache that is not all of a package's.
    pub fn levels(&self) -> Vec<Vec<CoreSet>> {
        let mut levels: Vec<Vec<CoreSet>> = Vec::new();
        let caches = (0..=LAST_LEVEL).rev().map(|level| self.groups("cache", &[level.into()]));
        let all = [self.groups("node", &[]), self.groups("package", &[])]
            .into_iter()
            .chain(caches)
            .chain([self.groups("thread", &[])]);
        for groups in all {
            let tells_apart = groups.len() > 1 && groups.iter().any(|group| group.len() > 1);
            // Each level must lie within the one before, or there is no tree of them.
            let nests = levels.last().is_none_or(|wider| {
                let within = |group: &CoreSet| wider.iter().any(|wide| group.without(*wide).is_empty());
                *wider != groups && groups.iter().all(within)
            });
            if tells_apart && nests {
                levels.push(groups);
            }
        }
        levels
    }

    /// Where a core is, for the mesh page.
    pub fn mesh_place(&self, core: u32) -> MeshPlace {
        let group = |name: &str, prefix: &[Value]| {
            let facts = self.database.facts(name);
            let own = facts.filter_map(|fact| match fact {
                [of, between @ .., group] if *of == core.into() && between == prefix => group.number(),
                _ => None,
            });
            own.last().unwrap_or(0) as u16
        };
        let levels = || (0..=LAST_LEVEL).rev();
        let last = levels().find(|level| !self.groups("cache", &[(*level).into()]).is_empty());
        MeshPlace {
            node: group("node", &[]),
            package: group("package", &[]),
            cache: group("cache", &[last.unwrap_or(LAST_LEVEL).into()]),
            core: group("thread", &[]),
        }
    }
}
