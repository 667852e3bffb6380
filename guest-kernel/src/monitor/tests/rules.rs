//! One thing at a time.

use std::vec::Vec;

use super::*;
use crate::agreement::{CoreSet, Refusal, Topology};
use crate::monitor::News;
use crate::replica::Reason;
use crate::replica::capabilities::Kind;
use crate::replica::names::Place;
use crate::replica::tests::{RAM, register, retype};

#[test]
fn they_meet_and_one_founds() {
    for seed in 1..50 {
        let mut cluster = Cluster::of_members(4, seed, Topology::flat());
        assert_eq!(cluster.check_end(CoreSet::first(4)), Ok(()));
        let (epoch, _) = cluster.core(0).monitor.epoch().unwrap();
        assert_eq!(epoch, 4, "one comes in at a time");
    }
}

#[test]
fn a_name_is_seen_everywhere() {
    let mut cluster = Cluster::of_members(4, 7, Topology::flat());
    let watch = cluster.core(3).monitor.system_mut().names.watch("disk");
    let ticket = cluster.request(2, register("disk0", 2, 5));
    cluster.settle();
    assert_eq!(cluster.outcome(2, ticket), Some(Ok(())));
    for core in 0..4 {
        let place = cluster.core(core).monitor.system().names.look_up("disk0");
        assert_eq!(place, Some(Place { core: 2, service: 5 }));
    }
    let notices = cluster.core(3).monitor.system_mut().names.take_notices();
    assert_eq!(
        notices.iter().map(|notice| (notice.watch, &*notice.name)).collect::<Vec<_>>(),
        [(watch, "disk0")]
    );
    let again = cluster.request(1, register("disk0", 1, 1));
    cluster.settle();
    assert_eq!(cluster.outcome(1, again), Some(Err(Reason::NameTaken.into())));
}

#[test]
fn of_conflicting_retypes_one_wins() {
    for seed in 1..200 {
        let mut cluster = Cluster::of_members(4, seed, Topology::flat());
        let root = |to| crate::replica::capabilities::CapOp::Copy { root: RAM, cap: RAM, by: 0, to };
        for to in 1..4 {
            cluster.request(0, crate::replica::Op::Cap(root(to)));
        }
        cluster.settle();
        let tickets: Vec<_> = (0..4)
            .map(|core| {
                (
                    core,
                    cluster
                        .request(core, retype(core, RAM, 10 + u32::from(core), Kind::Frame, 0x1000, 0x2000)),
                )
            })
            .collect();
        cluster.settle();
        let outcomes: Vec<_> =
            tickets.into_iter().map(|(core, ticket)| cluster.outcome(core, ticket).unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        let lost = outcomes.iter().filter(|outcome| **outcome == Err(Reason::Overlap.into()));
        assert_eq!(lost.count(), 3);
        assert_eq!(cluster.check_end(CoreSet::first(4)), Ok(()));
    }
}

#[test]
fn the_dead_are_out_and_come_back() {
    for seed in 1..100 {
        let mut cluster = Cluster::of_members(4, seed, Topology::flat());
        cluster.request(3, register("mine", 3, 1));
        cluster.settle();
        cluster.crash(3);
        // Before the others know.
        cluster.start(3, false);
        let ticket = cluster.request(1, register("yours", 1, 1));
        cluster.settle();
        assert_eq!(cluster.outcome(1, ticket), Some(Ok(())));
        assert_eq!(cluster.members(), CoreSet::first(4), "seed {seed}");
        assert_eq!(cluster.check_end(CoreSet::first(4)), Ok(()), "seed {seed}");
        assert_eq!(cluster.core(3).monitor.system().names.look_up("mine"), None);
    }
}

#[test]
fn who_leaves_may_come_again() {
    let mut cluster = Cluster::of_members(3, 5, Topology::flat());
    for leaver in [0, 2, 1] {
        cluster.core(leaver).monitor.want_in(false);
        cluster.flush(leaver);
        cluster.settle();
        assert_eq!(cluster.core(leaver).monitor.epoch(), None);
        assert_eq!(cluster.members(), CoreSet::first(3).without(CoreSet::one(leaver)));
        let ticket = cluster.request(leaver, register("x", leaver, 1));
        assert_eq!(cluster.outcome(leaver, ticket), Some(Err(Refusal::NotAMember)));
        cluster.core(leaver).monitor.want_in(true);
        cluster.flush(leaver);
        cluster.settle();
        assert_eq!(cluster.check_end(CoreSet::first(3)), Ok(()));
    }
}

#[test]
fn a_babbler_is_silenced_and_the_others_go_on() {
    let mut cluster = Cluster::of_members(4, 9, Topology::flat());
    cluster.hostile.insert(2);
    for to in [0, 1, 3] {
        cluster.forge(2, to, [abi::mesh::kind::MONITOR | 4 << 32, u64::MAX, 0, 0, 0, 0, 0]);
    }
    cluster.settle();
    assert_eq!(cluster.members(), [0, 1, 3].into_iter().collect());
    assert!(cluster.core(0).news.contains(&News::Silenced(2)));
    let ticket = cluster.request(0, register("on", 0, 1));
    cluster.settle();
    assert_eq!(cluster.outcome(0, ticket), Some(Ok(())));
}

#[test]
fn one_accuser_among_three_is_not_believed() {
    let mut cluster = Cluster::of_members(4, 11, Topology::flat());
    let mut lines = std::collections::VecDeque::new();
    crate::monitor::wire::cut(&crate::monitor::wire::Say::Accuse { core: 1 }, &mut lines);
    cluster.hostile.insert(2);
    for to in [0, 1, 3] {
        cluster.forge(2, to, lines[0]);
    }
    cluster.settle();
    cluster.hostile.remove(&2);
    assert_eq!(cluster.check_end(CoreSet::first(4)), Ok(()));
    assert_eq!(cluster.members(), CoreSet::first(4));
}
