//! What domain 0 knows of the machine, and where guests go by it.

use abi::control::topology::{Known, Latency};
use abi::control::wire::Placement;

use super::*;

fn known(machine: &mut Machine) -> (Known, bool) {
    match machine.ask(Request::Topology) {
        Ok(Reply::Topology { known, measuring }) => (*known, measuring),
        other => panic!("no topology: {other:?}"),
    }
}

fn placed(machine: &mut Machine, name: &str, placement: Placement) -> Vec<u32> {
    match machine.ask(Request::Create(GuestConfig { placement, ..guest(name, None) })) {
        Ok(Reply::Created { cores, .. }) => cores,
        other => panic!("not created: {other:?}"),
    }
}

#[test]
fn guests_are_placed_near_and_far() {
    // Cores 0 and 2 are one package, 1 and 3 the other.
    let mut machine = Machine::with(&["one"]);
    assert_eq!(placed(&mut machine, "near", Placement::Near("one".into())), [3]);
    machine.ask(Request::Destroy("near".into())).unwrap();
    assert_eq!(placed(&mut machine, "far", Placement::Far("one".into())), [2]);
    machine.refused(
        Request::Create(GuestConfig { placement: Placement::Near("nobody".into()), ..guest("x", None) }),
        "nobody",
    );
}

#[test]
fn guests_measure_one_after_the_other() {
    let mut machine = Machine::with(&["one", "two"]);
    let (mut one, mut two) = (machine.inside(1), machine.inside(2));
    one.hears();
    two.hears();
    // Nobody has asked.
    one.says(&[kind::MEASURE, 2, 5]);
    machine.ask(Request::Measure).unwrap();
    assert_eq!(one.hears()[0][0], kind::MEASURE);
    assert_eq!(two.hears(), [[0; 7]; 0]);
    one.says(&[kind::MEASURE, 2, 700]);
    one.says(&[kind::MEASURE, 1, 1]);
    one.says(&[kind::MEASURE, 99, 1]);
    two.says(&[kind::MEASURE, 1, 1]);
    assert!(known(&mut machine).1);
    one.says(&[kind::MEASURE, kind::MEASURED_ALL]);
    machine.settle();
    assert_eq!(two.hears()[0][0], kind::MEASURE);
    two.says(&[kind::MEASURE, 1, 800]);
    two.says(&[kind::MEASURE, kind::MEASURED_ALL]);
    machine.settle();
    let (told, measuring) = known(&mut machine);
    let latency = |from, to, ticks| Latency { from, to, ticks };
    assert_eq!((told.latencies, measuring), (vec![latency(1, 2, 700), latency(2, 1, 800)], false));
    assert_eq!(told.topology.core_places().len(), 4);
}

#[test]
fn the_dead_do_not_measure() {
    let mut machine = Machine::with(&["one", "two"]);
    machine.ask(Request::Measure).unwrap();
    let mut one = machine.inside(1);
    one.says(&[kind::MEASURE, 2, 700]);
    machine.settle();
    machine.stops(1, DomainState::Crashed);
    let (told, measuring) = known(&mut machine);
    assert_eq!((told.latencies, measuring), (vec![], true));
    assert_eq!(machine.inside(2).hears().last().unwrap()[0], kind::MEASURE);
    machine.stops(2, DomainState::Shutdown);
    assert!(!known(&mut machine).1);
}
