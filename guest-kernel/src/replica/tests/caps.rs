//! One replica's rules.

use super::*;
use crate::replica::Reason;

fn one() -> System {
    let mut system = system(0);
    system.epoch(CoreSet::EMPTY, CoreSet::first(3));
    system
}

fn refused(system: &System, op: &Op) -> Option<crate::agreement::Refusal> {
    system.vote(op).err()
}

#[test]
fn what_may_become_what() {
    let mut system = one();
    let part = |into, kind, base, size| retype(0, RAM, into, kind, base, size);
    system.apply(&part(10, Kind::Ram, 0x1000, 0x4000));
    system.apply(&retype(0, ram(10), 11, Kind::Frame, 0x1000, 0x1000));
    let (into, kind) = (LINES.below(0, 0, 12), Kind::Frame);
    let strange = CapOp::Retype { root: RAM, from: RAM, by: 0, into, kind, base: 0x5000, size: 0x1000 };
    let strange = Op::Cap(strange);
    for (op, why) in [
        (retype(0, ram(11), 12, Kind::Ram, 0x1000, 0x1000), Reason::WrongKind),
        (retype(0, RAM, 12, Kind::Irq, 0x5000, 1), Reason::NoSuchCap),
        (part(12, Kind::Frame, 0x4000, 0x2000), Reason::Overlap),
        (part(12, Kind::Frame, 0x8000, 0x2000), Reason::OutOfRange),
        (part(12, Kind::Frame, 0x5000, 0), Reason::OutOfRange),
        (part(12, Kind::Frame, 0x5000, u64::MAX), Reason::OutOfRange),
        (part(11, Kind::Frame, 0x5000, 0x1000), Reason::CapExists),
        (retype(1, RAM, 12, Kind::Frame, 0x5000, 0x1000), Reason::NotHeld),
        (strange, Reason::StrangeName),
        (Op::Cap(CapOp::Copy { root: RAM, cap: RAM, by: 0, to: 3 }), Reason::NoSuchCore),
        (Op::Cap(CapOp::Delete { root: RAM, cap: RAM, by: 0 }), Reason::LastOfRoot),
        (Op::Cap(CapOp::Delete { root: LINES, cap: ram(11), by: 0 }), Reason::NoSuchCap),
        (Op::Cap(CapOp::Unmap { cap: ram(99) }), Reason::NoSuchCap),
    ] {
        assert_eq!(refused(&system, &op), Some(why.into()), "{op:?}");
        // Nor does it do anything if it is done all the same.
        let before = system.clone();
        system.apply(&op);
        assert_eq!(system.state(), before.state(), "{op:?}");
    }
    assert_eq!(refused(&system, &part(12, Kind::Endpoint, 0x5000, 0x1000)), None);
    system.apply(&retype(0, LINES, 20, Kind::Irq, 4, 2));
    assert_eq!(refused(&system, &retype(0, LINES, 21, Kind::Irq, 5, 1)), Some(Reason::Overlap.into()));
    assert_eq!(sound(&system, CoreSet::first(3)), Ok(()));
}

#[test]
fn children_of_the_deleted_are_their_grandparents() {
    let mut system = one();
    system.apply(&retype(0, RAM, 10, Kind::Ram, 0x1000, 0x4000));
    system.apply(&retype(0, ram(10), 11, Kind::Frame, 0x2000, 0x1000));
    system.apply(&Op::Cap(CapOp::Delete { root: RAM, cap: ram(10), by: 0 }));
    assert_eq!(system.caps.get(ram(11)).unwrap().parent, Some(RAM));
    let again = retype(0, RAM, 12, Kind::Frame, 0x2000, 0x1000);
    assert_eq!(refused(&system, &again), Some(Reason::Overlap.into()), "it is in use still");
}

#[test]
fn what_is_lost_is_unmapped() {
    let mut system = one();
    system.apply(&retype(0, RAM, 10, Kind::Frame, 0x1000, 0x1000));
    system.apply(&retype(0, RAM, 11, Kind::Frame, 0x2000, 0x1000));
    assert!(system.caps.map(ram(10)) && system.caps.map(ram(11)));
    assert!(!system.caps.map(RAM), "RAM is nothing to map");
    assert!(!system.caps.map(ram(10)), "it is mapped");
    system.apply(&Op::Cap(CapOp::Unmap { cap: ram(11) }));
    assert_eq!(system.caps.take_unmapped(), std::vec![0x2000..0x3000]);
    system.apply(&Op::Cap(CapOp::Revoke { root: RAM, cap: RAM, by: 0 }));
    assert_eq!(system.caps.take_unmapped(), std::vec![0x1000..0x2000]);
    assert_eq!(system.caps.mapped().count(), 0);
}

#[test]
fn a_root_falls_to_the_lowest_member() {
    let mut system = one();
    system.apply(&Op::Cap(CapOp::Copy { root: RAM, cap: RAM, by: 0, to: 2 }));
    system.epoch(CoreSet::one(0), [1, 2].into_iter().collect());
    assert_eq!(system.caps.get(RAM).unwrap().holders, CoreSet::one(2));
    assert_eq!(system.caps.get(LINES).unwrap().holders, CoreSet::one(1));
}
