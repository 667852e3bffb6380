//! What becomes of guests that stopped, guests of several cores, and images that are uploaded.

use super::*;
use abi::control::wire::{MAX_PIECE, Policy};
use abi::xen::sched::reason;
use sha2::{Digest, Sha256};

fn config(change: impl FnOnce(&mut GuestConfig)) -> Request {
    let mut config = guest("web", None);
    change(&mut config);
    Request::Create(config)
}

/// The guest stops with this reason; what domain 0 then makes of it.
fn ends(machine: &mut Machine, how: u32) -> Vec<Event> {
    let domain = machine.list()[1].id;
    machine.control.hypervisor.now += 100_000_000;
    machine.events.clear();
    machine.control.hypervisor.becomes(domain, DomainState::Shutdown, how);
    machine.control.domains_changed();
    machine.settle();
    machine.events.clone()
}

#[test]
fn a_guest_that_reboots_is_there_again() {
    let mut machine = Machine::with(&[]);
    machine.ask(config(|config| config.on_reboot = Policy::Restart)).unwrap();
    let first = machine.list()[1].id;
    let events = ends(&mut machine, reason::REBOOT);
    let second = machine.list()[1].clone();
    assert_eq!((second.state, second.name.as_str()), (State::Running, "web"));
    assert_ne!(second.id, first);
    assert!(events.contains(&Event::Restarted { name: "web".into(), domain: Ok(second.id) }));
    // A power-off is something else.
    ends(&mut machine, reason::POWEROFF);
    assert_eq!(machine.list()[1].state, State::Shutdown(reason::POWEROFF));
}

#[test]
fn a_guest_that_reboots_for_ever_is_left_alone() {
    let mut machine = Machine::with(&[]);
    machine.ask(config(|config| config.on_reboot = Policy::Restart)).unwrap();
    for _ in 0..20 {
        let Some(domain) = machine.list().get(1).map(|domain| domain.id) else { break };
        machine.control.hypervisor.becomes(domain, DomainState::Shutdown, reason::REBOOT);
        machine.control.domains_changed();
        machine.settle();
    }
    assert_eq!(machine.list()[1].state, State::Shutdown(reason::REBOOT));
    let told = |event: &Event| matches!(event, Event::Restarted { domain: Err(_), .. });
    assert_eq!(machine.events.iter().filter(|event| told(event)).count(), 1);
}

#[test]
fn a_guest_may_be_destroyed_when_it_powers_off() {
    let mut machine = Machine::with(&[]);
    machine.ask(config(|config| config.on_poweroff = Policy::Destroy)).unwrap();
    ends(&mut machine, reason::POWEROFF);
    assert_eq!(machine.list().len(), 1);
}

#[test]
fn a_guest_that_suspends_itself_stays() {
    let mut machine = Machine::with(&[]);
    machine.ask(config(|config| config.on_poweroff = Policy::Destroy)).unwrap();
    ends(&mut machine, reason::SUSPEND);
    assert_eq!(machine.list()[1].state, State::Shutdown(reason::SUSPEND));
}

#[test]
fn a_guest_that_hangs_is_restarted_and_its_first_word_waited_for() {
    let mut machine = Machine::with(&[]);
    machine.ask(config(|config| (config.on_watchdog, config.watchdog) = (Policy::Restart, 5))).unwrap();
    assert_eq!((machine.list()[1].restarts, machine.list()[1].recovery_ticks), (0, None));
    let ended = machine.control.hypervisor.now + 100_000_000;
    ends(&mut machine, reason::WATCHDOG);
    let silent = machine.list()[1].clone();
    assert_eq!((silent.state, silent.restarts, silent.recovery_ticks), (State::Running, 1, None));
    machine.inside(1).says(&[kind::REPORT, 1, 1]);
    machine.settle();
    let ticks = machine.list()[1].recovery_ticks.expect("it has spoken");
    assert!(ticks > 0 && ended + ticks <= machine.control.hypervisor.now);
    assert!(machine.control.hypervisor.printed.contains(&format!("web speaks again, {ticks} ticks")));
    ends(&mut machine, reason::WATCHDOG);
    machine.inside(1).screen.write(b"here\n");
    machine.settle();
    let again = machine.list()[1].clone();
    assert!(again.restarts == 2 && again.recovery_ticks.is_some());
    ends(&mut machine, reason::POWEROFF);
    assert_eq!(machine.list()[1].state, State::Shutdown(reason::POWEROFF), "that is another end");
}

#[test]
fn two_virtual_cpus_have_two_cores() {
    let mut machine = Machine::with(&[]);
    let two = |config: &mut GuestConfig| (config.vcpus, config.mesh) = (2, false);
    let Ok(Reply::Created { cores, .. }) = machine.ask(config(two)) else { panic!("created") };
    assert_eq!(cores, [1, 2]);
    assert_eq!(machine.list()[1].cores, [1, 2]);
    machine.refused(
        config(|config| (config.name, config.cores) = ("db".into(), vec![2])),
        "core 2 belongs to web",
    );
    machine.ask(Request::Destroy("web".into())).unwrap();
    assert_eq!(machine.control.hypervisor.own_ports(), 0);
}

#[test]
fn an_uploaded_image_makes_a_guest() {
    let mut machine = Machine::with(&[]);
    let file = super::super::sample::elf();
    let sha256 = Sha256::digest(&file).into();
    machine.ask(Request::Upload { name: "mine".into(), bytes: file.len() as u64, sha256 }).unwrap();
    for (index, piece) in file.chunks(MAX_PIECE).enumerate() {
        let from = (index * MAX_PIECE) as u64;
        machine.ask(Request::Piece { from, bytes: piece.to_vec() }).unwrap();
    }
    let Ok(Reply::Images(images)) = machine.ask(Request::Images) else { panic!("images") };
    assert!(images.iter().any(|image| image.name == "mine" && image.sha256 == Some(sha256)));
    machine.ask(config(|config| config.image = "mine".into())).unwrap();
    machine.ask(Request::RemoveImage("mine".into())).unwrap();
    machine.refused(Request::RemoveImage("mine".into()), "no image");
    machine.refused(Request::Piece { from: 0, bytes: vec![1] }, "no upload");
}

#[test]
fn an_image_may_be_replaced_while_its_guest_runs() {
    let mut machine = Machine::with(&[]);
    let upload = |machine: &mut Machine, file: &[u8]| {
        let sha256 = Sha256::digest(file).into();
        machine.ask(Request::Upload { name: "mine".into(), bytes: file.len() as u64, sha256 }).unwrap();
        machine.ask(Request::Piece { from: 0, bytes: file.to_vec() }).unwrap();
    };
    upload(&mut machine, &super::super::sample::elf());
    let restarts = |config: &mut GuestConfig| {
        (config.image, config.on_reboot) = ("mine".into(), Policy::Restart);
    };
    machine.ask(config(restarts)).unwrap();
    let first = machine.list()[1].clone();
    upload(&mut machine, b"no kernel at all");
    assert_eq!(machine.list()[1], first, "it has its own copy");
    // The next life needs the file, and what it says of it is heard.
    let events = ends(&mut machine, reason::REBOOT);
    let refused = |event: &Event| match event {
        Event::Restarted { domain: Err(refusal), .. } => refusal.what.contains("ELF"),
        _ => false,
    };
    assert!(events.iter().any(refused));
    let left = machine.list()[1].clone();
    assert_eq!((left.state, left.memory_mib), (State::Shutdown(reason::REBOOT), 0));
    machine.refused(config(restarts), "already");
    machine.ask(Request::Destroy("web".into())).unwrap();
    upload(&mut machine, &super::super::sample::elf());
    machine.ask(config(restarts)).unwrap();
}

fn dump(machine: &mut Machine, from: Option<u64>) -> String {
    let Ok(Reply::Console(text)) = machine.ask(Request::Console { name: "web".into(), from, follow: false })
    else {
        panic!("text")
    };
    String::from_utf8(text.bytes).unwrap()
}

/// The guest says something and crashes; `calls` to the hypervisor succeed after that.
fn crashes(machine: &mut Machine, calls: Option<usize>) {
    machine.control.hypervisor.now += 100_000_000;
    machine.events.clear();
    machine.inside(1).screen.write(b"last words\n");
    machine.control.hypervisor.calls_left = calls;
    machine.stops(1, DomainState::Crashed);
    machine.control.hypervisor.calls_left = None;
}

#[test]
fn a_restart_keeps_the_last_crash_and_what_was_printed() {
    let mut machine = Machine::with(&[]);
    machine.ask(config(|config| config.on_crash = Policy::Restart)).unwrap();
    machine.ask(Request::Console { name: "web".into(), from: None, follow: true }).unwrap();
    machine.refused(Request::Crash("web".into()), "did not crash");
    crashes(&mut machine, None);
    assert_eq!(machine.list()[1].state, State::Running);
    let Ok(Reply::Crash { cause, registers, .. }) = machine.ask(Request::Crash("web".into())) else {
        panic!("a record")
    };
    assert!(cause.starts_with("before it was restarted: triple fault"), "{cause}");
    assert!(!registers.is_empty());
    machine.inside(1).screen.write(b"again\n");
    machine.settle();
    let heard: Vec<u8> = machine
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Console { text, .. } => Some(text.bytes.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(heard, b"last words\nagain\n", "whoever follows hears all of it once");
    assert_eq!(dump(&mut machine, None), "again\n");
    assert_eq!(dump(&mut machine, Some(0)), "last words\nagain\n");
}

#[test]
fn a_restart_that_fails_leaves_what_there_was() {
    // Each of the calls that build a guest fails once.
    for calls in 0..100 {
        let mut machine = Machine::with(&[]);
        machine.ask(config(|config| config.on_crash = Policy::Restart)).unwrap();
        let was = machine.list()[1].clone();
        crashes(&mut machine, Some(calls));
        let failed =
            machine.events.iter().any(|event| matches!(event, Event::Restarted { domain: Err(_), .. }));
        if !failed {
            assert!(calls > 10, "each of the calls has failed once");
            return;
        }
        let left = machine.list()[1].clone();
        assert_eq!((left.state, left.id, left.cores), (State::Crashed, was.id, was.cores));
        assert_eq!(dump(&mut machine, None), "last words\n");
        assert!(matches!(machine.ask(Request::Crash("web".into())), Ok(Reply::Crash { .. })));
        machine.refused(Request::Pause("web".into()), "is crashed");
        machine.refused(Request::Input { name: "web".into(), bytes: vec![1] }, "runs no more");
        machine.refused(config(|config| (config.name, config.cores) = ("db".into(), vec![1])), "web");
        machine.ask(Request::Destroy("web".into())).unwrap();
        assert_eq!((machine.list().len(), machine.control.hypervisor.own_ports()), (1, 0));
        machine.ask(config(|_| {})).unwrap();
    }
    panic!("a guest takes fewer calls");
}
