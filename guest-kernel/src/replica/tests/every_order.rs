//! What two cores want at once, with deaths, in every order.

use std::println;
use std::string::String;

use super::*;
use crate::agreement::tests::explore::explore;

type Worlds = World<System>;

fn all_of(name: &str, world: Worlds, end: impl Fn(&Worlds) -> Result<(), String>) {
    let seen = explore(world, check, |world| {
        check_end(world)?;
        end(world)
    });
    println!("{name}: {seen:?}");
    assert!(seen.ends > 0);
}

fn shared_ram(cores: u8) -> World<System> {
    World::of(cores, cores, &Topology::flat(), |me| {
        let mut system = system(me);
        for to in 1..cores {
            system.caps.epoch(CoreSet::EMPTY, CoreSet::first(cores));
            system.caps.apply(&CapOp::Copy { root: RAM, cap: RAM, by: 0, to });
        }
        system
    })
}

fn done(world: &Worlds) -> usize {
    world.outcomes.values().filter(|outcome| outcome.is_ok()).count()
}

#[test]
fn of_two_that_retype_the_same_memory_one_does() {
    let two = |world: Worlds| {
        let frame = retype(1, RAM, 10, Kind::Frame, 0x1000, 0x2000);
        let table = retype(2, RAM, 11, Kind::PageTable, 0x2000, 0x1000);
        world.script(1, request(1, frame)).script(2, request(2, table))
    };
    all_of("retype against retype, 3 cores", two(shared_ram(3)), |world| {
        if done(world) == 1 { Ok(()) } else { Err("not one".into()) }
    });
    all_of("retype against retype, 3 cores, 1 death", two(shared_ram(3)).with_crashes(1), |_| Ok(()));
}

#[test]
fn nothing_below_outlives_a_revoke() {
    let race = |cores| {
        let frame = retype(1, RAM, 10, Kind::Frame, 0x1000, 0x2000);
        let revoke = Op::Cap(CapOp::Revoke { root: RAM, cap: RAM, by: 0 });
        shared_ram(cores).script(1, request(1, frame)).script(0, request(2, revoke))
    };
    let none_below = |world: &Worlds| {
        // Where core 0 dies after it, the memory falls to another, which may do with it as it pleases.
        let alive = world.live().any(|(core, _)| core == 0);
        let revoked = alive && world.outcomes.get(&2) == Some(&Ok(()));
        let below = |node: &crate::agreement::Agreement<System>| node.replica.caps.get(ram(10)).is_some();
        let shared = world.live().any(|(_, node)| node.replica.caps.get(RAM).unwrap().holders.len() > 1);
        match () {
            () if revoked && world.live().any(|(_, node)| below(node)) => Err("it outlived".into()),
            () if revoked && shared => Err("a copy outlived".into()),
            () => Ok(()),
        }
    };
    all_of("revoke against retype, 2 cores", race(2), none_below);
    all_of("revoke against retype, 3 cores", race(3), none_below);
    all_of("revoke against retype, 3 cores, 1 death", race(3).with_crashes(1), none_below);
}

#[test]
fn a_copy_to_a_core_that_goes_is_not_left_behind() {
    let copy = Op::Cap(CapOp::Copy { root: RAM, cap: RAM, by: 0, to: 2 });
    let world = world(3, 3).script(0, request(1, copy)).script(1, Event::Leave(2));
    all_of("copy to a core that leaves, 3 cores", world.clone(), |_| Ok(()));
    all_of("copy to a core that leaves, 3 cores, 1 death", world.with_crashes(1), |_| Ok(()));
}

#[test]
fn of_two_that_want_a_name_one_gets_it() {
    let world = world(3, 3)
        .script(1, request(1, register("disk", 1, 7)))
        .script(2, request(2, register("disk", 2, 8)));
    all_of(
        "one name, 3 cores",
        world.clone(),
        |world| {
            if done(world) == 1 { Ok(()) } else { Err("not one".into()) }
        },
    );
    all_of("one name, 3 cores, 1 death", world.with_crashes(1), |world| {
        // Once nothing more happens, no name leads to the dead: `check` has seen to it in every state.
        let names = world.live().map(|(_, node)| node.replica.names.iter().count()).max();
        if names.unwrap_or(0) <= 1 { Ok(()) } else { Err("two".into()) }
    });
}
