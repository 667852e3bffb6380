//! What the toolstack asks, and what it is told.

use super::*;

#[test]
fn a_guest_lives_by_the_wire() {
    let mut machine = Machine::with(&[]);
    let Ok(Reply::Created { cores, ticks, .. }) = machine.ask(Request::Create(guest("web", None))) else {
        panic!("created")
    };
    assert!(ticks > 0 && cores == [1]);
    machine.refused(Request::Unpause("web".into()), "is running");
    machine.ask(Request::Pause("web".into())).unwrap();
    assert_eq!(machine.list()[1].state, State::Paused);
    machine.refused(Request::Pause("web".into()), "is paused");
    machine.ask(Request::Unpause("web".into())).unwrap();
    assert_eq!(machine.list()[1].state, State::Running);
    machine.refused(Request::Crash("web".into()), "did not crash");
    machine.stops(1, DomainState::Crashed);
    assert_eq!(machine.events, [Event::Stopped { name: "web".into(), state: State::Crashed }]);
    assert!(machine.control.hypervisor.printed.contains("[control] web crashed: triple fault"));
    machine.refused(Request::Pause("web".into()), "is crashed");
    let Ok(Reply::Crash { cause, registers, code, code_bits }) = machine.ask(Request::Crash("web".into()))
    else {
        panic!("a crash")
    };
    assert!(cause.contains("triple fault") && registers.contains(&("rip".into(), 0x10_0000)));
    assert_eq!((&code[..], code_bits), (&[0, 0][..], 64));
    machine.ask(Request::Destroy("web".into())).unwrap();
    assert_eq!(machine.list().len(), 1);
    assert_eq!(machine.control.hypervisor.own_ports(), 0);
    machine.refused(Request::Destroy("web".into()), "no guest named");
}

#[test]
fn what_cannot_be_created_is_told_why() {
    let mut machine = Machine::with(&["web"]);
    let with = |change: &dyn Fn(&mut GuestConfig)| {
        let mut config = guest("new", None);
        change(&mut config);
        Request::Create(config)
    };
    machine.refused(with(&|config| config.name = "web".into()), "already");
    machine.refused(with(&|config| config.name = OWN_NAME.into()), "already");
    for name in ["", "with space", "with\nnewline", &"x".repeat(33)] {
        machine.refused(with(&|config| config.name = name.into()), "is no name");
    }
    machine.refused(with(&|config| config.image = "missing".into()), "no image");
    machine.refused(with(&|config| config.cores = vec![0]), "core 0 belongs to Domain-0");
    machine.refused(with(&|config| config.cores = vec![1]), "core 1 belongs to web");
    machine.refused(with(&|config| config.cores = vec![77]), "no core 77");
    machine.refused(with(&|config| config.vcpus = 0), "0 virtual CPUs");
    machine.refused(with(&|config| config.vcpus = 3), "3 cores, and 2 are idle");
    machine.refused(with(&|config| (config.vcpus, config.cores) = (2, vec![3, 2])), "cannot be on the cores");
    machine.refused(with(&|config| (config.vcpus, config.cores) = (2, vec![2])), "cannot be on the cores");
    machine.refused(with(&|config| config.ramdisk = Some("missing".into())), "no image");
    machine.refused(with(&|config| config.memory_mib = 0), "0 MiB");
    machine.refused(with(&|config| config.memory_mib = u32::MAX), "MiB of memory");
    machine.refused(with(&|config| config.memory_mib = 1000), "are free");
    machine.refused(with(&|config| config.memory_mib = 1), "needs memory");
    machine.refused(with(&|config| config.command_line = "x".repeat(5000)), "command line");
    for name in ["two", "three"] {
        machine.ask(Request::Create(guest(name, None))).unwrap();
    }
    machine.refused(with(&|_| {}), "every core has its guest");
}

#[test]
fn domain_zero_is_left_alone() {
    let mut machine = Machine::with(&["web"]);
    for request in [Request::Destroy, Request::Pause, Request::Unpause] {
        machine.refused(request(OWN_NAME.into()), "controls the machine");
    }
    machine.refused(Request::Crash(OWN_NAME.into()), "did not crash");
    machine.refused(Request::Input { name: OWN_NAME.into(), bytes: vec![1] }, "reads no console");
    let Ok(Reply::Console(text)) =
        machine.ask(Request::Console { name: OWN_NAME.into(), from: None, follow: true })
    else {
        panic!("a console")
    };
    assert!(text.bytes.starts_with(b"atoll: 1 guests running\n"));
    machine.stops(1, DomainState::Crashed);
    assert!(
        machine.events.iter().any(|event| matches!(event, Event::Console { name, .. } if name == OWN_NAME))
    );
}

#[test]
fn the_machine_is_told_of() {
    let mut machine = Machine::with(&["web"]);
    let Ok(Reply::Machine(info)) = machine.ask(Request::Info) else { panic!("a machine") };
    assert_eq!((info.cores, info.features.len()), (4, 1));
    assert!(info.boot_tsc < info.guests_running_tsc && info.guests_running_tsc < info.tsc);
    let Ok(Reply::Audit(found)) = machine.ask(Request::Audit) else { panic!("an audit") };
    assert_eq!(found, [2, 7, 3, 0, 0, 0, 0]);
    let log = |machine: &mut Machine, from| match machine.ask(Request::Dmesg { from }) {
        Ok(Reply::Log(text)) => (text.from, text.next, String::from_utf8(text.bytes).unwrap()),
        other => panic!("{other:?}"),
    };
    assert_eq!(log(&mut machine, 4), (4, 21, "hypervisor's log\n".into()));
    machine.control.hypervisor.log_start = 100;
    assert_eq!(log(&mut machine, 4).0, 100);
    assert_eq!(log(&mut machine, u64::MAX), (121, 121, String::new()));
}
