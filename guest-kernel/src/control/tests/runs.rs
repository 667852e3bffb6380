//! Beginnings and ends: the boot configuration, and how a machine is stopped.

use super::*;

#[test]
fn the_boot_configuration_runs_and_says_so_once() {
    let mut machine = Machine::new(vec![guest("web", Some(2)), guest("db", None), guest("ghost", Some(9))]);
    let printed = machine.control.hypervisor.printed.clone();
    assert_eq!(printed.matches("atoll: 2 guests running\n").count(), 1);
    assert!(printed.contains("[control] cannot start ghost: there is no core 9"));
    let Ok(Reply::Hello { version: VERSION, failed }) = machine.ask(Request::Hello { version: VERSION })
    else {
        panic!("a Hello")
    };
    assert_eq!(failed[0].0, "ghost");
    let listed: Vec<_> = machine.list().into_iter().map(|domain| (domain.name, domain.cores)).collect();
    assert_eq!(listed, [(OWN_NAME.into(), vec![0]), ("web".into(), vec![2]), ("db".into(), vec![1])]);
}

#[test]
fn without_a_configuration_the_toolstack_can_still_work() {
    for broken in [&b""[..], b"garbage"] {
        let mut control = Control::new(Fake::new(4), broken);
        control.start();
        assert!(control.hypervisor.printed.contains("has no configuration"));
        assert!(control.hypervisor.printed.contains("atoll: 0 guests running\n"));
        assert_eq!(control.turn(true), Rest::Until(None));
    }
}

#[test]
fn stop_answers_first() {
    let mut machine = Machine::with(&["web"]);
    machine.refused(Request::Stop(0), "no exit code");
    assert_eq!(machine.control.hypervisor.stopped, None);
    assert_eq!(machine.ask(Request::Stop(0x10)), Ok(Reply::Done));
    machine.settle();
    assert_eq!(machine.control.hypervisor.stopped, Some(0x10));
}

#[test]
fn stop_does_not_wait_for_ever() {
    let mut machine = Machine::with(&[]);
    for byte in frame::encode(&ToControl { id: 9, request: Request::Stop(0x10) }).unwrap() {
        machine.control.receive(byte);
    }
    let Rest::Until(Some(latest)) = machine.control.turn(false) else { panic!("a deadline") };
    assert_eq!(machine.control.hypervisor.stopped, None);
    machine.control.hypervisor.now = latest;
    machine.control.turn(false);
    assert_eq!(machine.control.hypervisor.stopped, Some(0x10));
}

#[test]
fn a_run_nobody_attends_ends_with_its_guests() {
    let ends = |states: [DomainState; 2]| {
        let mut machine = Machine::unattended(vec![guest("a", None), guest("b", None)], true);
        machine.settle();
        machine.stops(1, states[0]);
        assert_eq!(machine.control.hypervisor.stopped, None, "one still runs");
        machine.stops(2, states[1]);
        machine.settle();
        machine.control.hypervisor.stopped
    };
    assert_eq!(ends([DomainState::Shutdown, DomainState::Shutdown]), Some(0x10));
    assert_eq!(ends([DomainState::Crashed, DomainState::Shutdown]), Some(0x11));

    let mut nothing_ran = Machine::unattended(vec![guest("a", Some(9))], true);
    nothing_ran.settle();
    nothing_ran.settle();
    assert_eq!(nothing_ran.control.hypervisor.stopped, Some(0x11));

    let mut attended = Machine::unattended(vec![guest("a", None)], true);
    attended.ask(Request::Hello { version: VERSION }).unwrap();
    attended.stops(1, DomainState::Shutdown);
    attended.settle();
    assert_eq!(attended.control.hypervisor.stopped, None);
}
