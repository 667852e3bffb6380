//! Domain 0's channels with guests, honest and other.

use super::*;

#[test]
fn elders_hear_of_newcomers_and_of_the_dead() {
    let mut machine = Machine::with(&["one", "two"]);
    let mut one = machine.inside(1);
    let heard = one.hears();
    assert_eq!(heard[0][..2], [kind::GREET, 0]);
    assert_eq!(heard[1][..3], [kind::PEER_UP, 2, 2]);
    machine.stops(2, DomainState::Shutdown);
    assert_eq!(one.hears()[0][..2], [kind::PEER_DOWN, 2]);
    one.says(&[kind::PEER_DOWN_ACK, 2]);
    machine.ask(Request::Destroy("two".into())).unwrap();
    machine.ask(Request::Create(guest("two", Some(2)))).unwrap();
    assert_eq!(one.hears()[0][..3], [kind::PEER_UP, 2, 3]);
    assert_eq!(machine.inside(2).hears()[0][0], kind::GREET);
}

#[test]
fn a_peer_that_answers_late_is_introduced_then() {
    let mut machine = Machine::with(&["one", "two"]);
    let mut one = machine.inside(1);
    machine.ask(Request::Pause("one".into())).unwrap();
    machine.ask(Request::Destroy("two".into())).unwrap();
    machine.ask(Request::Create(guest("two", Some(2)))).unwrap();
    let mut two = machine.inside(2);
    assert_eq!(two.hears().len(), 1, "a greeting, and nothing of slot 1");
    let old_page = machine.control.pages.pair(1, 2).unwrap();
    Sender::new(&old_page.upwards).try_send(&[9; 7]).unwrap();

    machine.ask(Request::Unpause("one".into())).unwrap();
    assert_eq!(one.hears().last().unwrap()[..2], [kind::PEER_DOWN, 2]);
    one.says(&[kind::PEER_DOWN_ACK, 2]);
    machine.settle();
    let awaits = two.hears()[0];
    assert_eq!(awaits[..3], [kind::PEER_AWAIT, 1, 1]);
    let up = one.hears()[0];
    assert_eq!(up[..4], [kind::PEER_UP, 2, 3, awaits[3]]);
    assert_eq!(Receiver::new(&old_page.upwards).try_receive(), Ok(None), "the pages are fresh");
    machine.control.hypervisor.bind_as(1, 3, up[3] as u32).expect("the port waits for domain 1");
}

#[test]
fn a_liar_loses_its_channel_and_nobody_else_anything() {
    let mut machine = Machine::with(&["one", "bad", "three"]);
    let (mut one, mut three) = (machine.inside(1), machine.inside(3));
    one.hears();
    three.hears();
    machine.control.pages.pair(0, 2).unwrap().downwards.words().for_each(|word| word.set(77));
    machine.settle();
    assert!(machine.control.hypervisor.printed.contains("[control] bad broke the rules"));
    one.says(&[kind::PING, 5]);
    machine.settle();
    assert_eq!(one.hears()[0][..2], [kind::PONG, 5]);
    machine.ask(Request::Destroy("bad".into())).unwrap();
    assert_eq!(three.hears()[0][..2], [kind::PEER_DOWN, 2]);
    assert_eq!(machine.control.hypervisor.own_ports(), 6);
}

#[test]
fn who_asks_and_does_not_listen_holds_nobody_up() {
    let mut machine = Machine::with(&["one", "two"]);
    let (mut one, mut two) = (machine.inside(1), machine.inside(2));
    for number in 0..1000 {
        let mut message = [0; 7];
        message[..2].copy_from_slice(&[kind::PING, number]);
        let _ = one.to_control.try_send(&message);
        machine.settle();
    }
    assert!(matches!(machine.control.turn(true), Rest::Until(Some(_))), "it will try again");
    two.says(&[kind::PING, 7]);
    machine.settle();
    assert_eq!(two.hears().last().unwrap()[..2], [kind::PONG, 7]);
    // It listens at last: nothing was lost of what was taken.
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.extend(one.hears().iter().filter(|heard| heard[0] == kind::PONG).map(|heard| heard[1]));
        machine.settle();
    }
    assert_eq!(answers, (0..answers.len() as u64).collect::<Vec<_>>());
    assert!(answers.len() > 100);
}

#[test]
fn reports_are_listed() {
    let mut machine = Machine::with(&["one"]);
    let mut one = machine.inside(1);
    one.says(&[kind::REPORT, 11, 22, 0, 5]);
    machine.settle();
    let told =
        |domain: &Domain| [domain.messages_in, domain.messages_out, domain.messages_lost, domain.liars];
    let domains = machine.list();
    assert_eq!((told(&domains[0]), told(&domains[1])), ([0; 4], [11, 22, 0, 5]));
    for lost in 1..4 {
        one.says(&[kind::REPORT, 12, 22, lost]);
        machine.settle();
        assert_eq!(machine.list()[1].messages_lost, lost);
    }
    assert_eq!(
        machine.control.hypervisor.printed.matches("[control] one says that mesh messages were lost").count(),
        1
    );
    one.says(&[kind::REPORT, 33, 44, 0]);
    machine.stops(1, DomainState::Shutdown);
    assert_eq!(machine.list()[1].messages_in, 33, "last words count");
}

#[test]
fn accounts_are_what_the_guest_told_when_it_was_asked() {
    let mut machine = Machine::with(&["one"]);
    let mut one = machine.inside(1);
    let ask = |machine: &mut Machine, name: &str| machine.ask(Request::Accounts(name.into()));
    assert_eq!(ask(&mut machine, "one"), Ok(Reply::Accounts { told: 0, accounts: Vec::new() }));
    machine.settle();
    assert_eq!(one.hears().last().unwrap()[0], kind::ACCOUNTS);
    let name = u64::from_le_bytes(*b"mon\ntor\0");
    one.says(&[kind::ACCOUNTS, 2]);
    one.says(&[kind::ACCOUNT | 3 << 32, name, 10, 11, 12, 13, 14]);
    machine.settle();
    let Ok(Reply::Accounts { told: 0, .. }) = ask(&mut machine, "one") else { panic!("it has not told all") };
    one.says(&[kind::ACCOUNT | (abi::mesh::FIRST_CORE + 2) << 32, 0, 0, 7]);
    machine.settle();
    let Ok(Reply::Accounts { told: 1, accounts }) = ask(&mut machine, "one") else { panic!("it has told") };
    let [task, core] = &accounts[..] else { panic!("{accounts:?}") };
    assert_eq!(
        (task.number, task.is_core, &task.name[..], task.worked, task.received),
        (3, false, "mon?tor", 10, 14)
    );
    assert_eq!((core.number, core.is_core, core.paid), (2, true, 7));
    assert!(ask(&mut machine, "nobody").is_err() && ask(&mut machine, OWN_NAME).is_err());
}
