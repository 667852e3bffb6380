//! Names on one replica.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::replica::Reason;
use crate::replica::names::LONGEST;

fn notices(system: &mut System) -> Vec<(u32, String, Option<u64>)> {
    let notices = system.names.take_notices();
    notices.into_iter().map(|notice| (notice.watch, notice.name, notice.place.map(|at| at.service))).collect()
}

#[test]
fn a_watch_sees_what_comes_and_goes() {
    let mut system = system(0);
    system.epoch(CoreSet::EMPTY, CoreSet::first(3));
    system.apply(&register("disk/0", 1, 7));
    let disks = system.names.watch("disk/");
    system.apply(&register("disk/1", 2, 8));
    system.apply(&register("net", 2, 9));
    let seen = vec![(disks, "disk/0".to_string(), Some(7)), (disks, "disk/1".to_string(), Some(8))];
    assert_eq!(notices(&mut system), seen);
    system.epoch(CoreSet::one(2), CoreSet::first(2));
    assert_eq!(notices(&mut system), vec![(disks, "disk/1".to_string(), None)]);
    assert_eq!(system.names.look_up("net"), None);
    system.names.unwatch(disks);
    system.apply(&Op::Name(NameOp::Unregister { name: "disk/0".into(), core: 1 }));
    assert_eq!(notices(&mut system), vec![]);
}

#[test]
fn what_is_no_name() {
    let mut system = system(0);
    system.epoch(CoreSet::EMPTY, CoreSet::first(2));
    system.apply(&register("disk", 1, 7));
    let not_mine = Op::Name(NameOp::Unregister { name: "disk".into(), core: 0 });
    for (op, why) in [
        (register("", 1, 7), Reason::BadName),
        (register(&"x".repeat(LONGEST + 1), 1, 7), Reason::BadName),
        (register("net", 2, 7), Reason::NoSuchCore),
        (register("disk", 0, 7), Reason::NameTaken),
        (not_mine, Reason::NoSuchName),
    ] {
        assert_eq!(system.vote(&op), Err(why.into()), "{op:?}");
    }
}
