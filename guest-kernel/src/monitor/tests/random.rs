//! Cores that do as they please, die at any step, and come back, by the thousand.

use std::collections::BTreeMap;

use super::*;
use crate::agreement::{CoreId, CoreSet, Topology};
use crate::replica::Op;
use crate::replica::capabilities::{CapOp, Kind};
use crate::replica::names::NameOp;
use crate::replica::tests::{RAM, ram, register, retype};

fn any_op(cluster: &mut Cluster, by: CoreId) -> Op {
    let random = &mut cluster.random;
    let cap = if random.below(3) == 0 { RAM } else { ram(3 + random.below(6) as u32) };
    let name = std::format!("name{}", random.below(3));
    let page = 0x1000 * (1 + random.below(8));
    match random.below(11) {
        0..3 => retype(by, cap, 3 + random.below(6) as u32, Kind::Frame, page, 0x1000),
        3..5 => Op::Cap(CapOp::Copy { root: RAM, cap, by, to: random.below(4) as CoreId }),
        5 => Op::Cap(CapOp::Delete { root: RAM, cap, by }),
        6 => Op::Cap(CapOp::Revoke { root: RAM, cap, by }),
        7 => Op::Cap(CapOp::Unmap { cap }),
        8 => Op::Name(NameOp::Unregister { name, core: by }),
        _ => register(&name, by, random.below(100)),
    }
}

/// One history: requests, deaths and new lives between the steps of all protocols. Where cores `stall`, they fall asleep at
/// any step and wake up as if nothing had been, while the others lose their patience.
fn history(seed: u64, cores: u8, topology: Topology, stall: bool) {
    let mut cluster = Cluster::new(cores, seed, topology);
    (1..cores).for_each(|core| cluster.start(core, false));
    let mut asked: BTreeMap<(CoreId, u64), u32> = BTreeMap::new();
    let mut crashes = cluster.random.below(4);
    for _ in 0..60 + cluster.random.below(200) {
        let core = cluster.random.below(u64::from(cores)) as CoreId;
        match cluster.random.below(40) {
            0..8 if cluster.live().contains(core) => {
                let op = any_op(&mut cluster, core);
                let ticket = cluster.request(core, op);
                *asked.entry((core, ticket)).or_default() += 1;
            }
            // Somebody has to be left who knows.
            8 if crashes > 0 && cluster.members().and(cluster.live()).len() > 1 => {
                let members = cluster.members().and(cluster.live());
                let settled = members.iter().all(|core| cluster.core(core).monitor.epoch().is_some());
                if settled && cluster.live().contains(core) {
                    crashes -= 1;
                    cluster.crash(core);
                    asked.retain(|(by, _), _| *by != core);
                }
            }
            9 if !cluster.live().contains(core) => cluster.start(core, false),
            10 if cluster.live().contains(core) => {
                let wants = cluster.random.below(2) == 0;
                cluster.core(core).monitor.want_in(wants);
                cluster.flush(core);
            }
            11 if stall && cluster.live().contains(core) => cluster.asleep.insert(core),
            12 if stall => _ = cluster.asleep.remove(core),
            13..16 if stall => {
                let ticks = cluster.random.below(40);
                cluster.pass(ticks);
            }
            _ => _ = cluster.happen(),
        }
        cluster.check().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    // Whoever lives wants in, at the end.
    for core in cluster.live().iter() {
        cluster.core(core).monitor.want_in(true);
        cluster.flush(core);
    }
    cluster.asleep = CoreSet::EMPTY;
    if stall {
        cluster.settle_in_time();
    }
    cluster.settle();
    let anybody = !cluster.members().and(cluster.live()).is_empty();
    let of = if anybody { cluster.live() } else { CoreSet::EMPTY };
    cluster.check_end(of).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    for (core, ticket) in asked.into_keys() {
        let answered = cluster.outcome(core, ticket).is_some();
        assert!(answered || !anybody, "seed {seed}: core {core} waits for ticket {ticket}");
    }
    for core in cluster.live().iter() {
        let silenced =
            cluster.core(core).news.iter().any(|news| matches!(news, crate::monitor::News::Silenced(_)));
        assert!(!silenced, "seed {seed}: an honest core is silenced");
    }
}

#[test]
fn histories_of_flat_machines() {
    (1..=2000).for_each(|seed| history(seed, 2 + (seed % 3) as u8, Topology::flat(), false));
}

/// Five cores: in the history of seed 1075 one meets another's next life before it begins the epoch in which the former one is
/// taken in.
#[test]
fn histories_of_five() {
    (1000..=1500).for_each(|seed| history(seed, 5, Topology::flat(), false));
}

#[test]
fn histories_of_trees() {
    let set = |cores: [CoreId; 2]| cores.into_iter().collect();
    let topology = Topology::levels(std::vec![std::vec![set([0, 1]), set([2, 3])]]);
    (1..=1000).for_each(|seed| history(seed, 4, topology.clone(), false));
}

#[test]
fn histories_with_cores_that_stall() {
    let set = |cores: [CoreId; 2]| cores.into_iter().collect();
    let tree = Topology::levels(std::vec![std::vec![set([0, 1]), set([2, 3])]]);
    (1..=1500).for_each(|seed| history(seed, 2 + (seed % 4) as u8, Topology::flat(), true));
    (1..=500).for_each(|seed| history(seed, 4, tree.clone(), true));
}
