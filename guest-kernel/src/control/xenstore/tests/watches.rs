//! Watches: who hears what, by which name, in which order.

use super::*;

#[test]
fn a_watch_begins_with_an_event_and_hears_all_below() {
    let mut machine = Machine::new(1);
    machine.ask(1, kind::WATCH, "data\0mine\0").unwrap();
    machine.ask(1, kind::WATCH, "/local/domain/1/data\0whole\0").unwrap();
    assert_eq!(machine.events(1), ["data mine", "/local/domain/1/data whole"]);
    machine.write(1, "data/a/b", "x").unwrap();
    assert_eq!(machine.events(1), ["data/a/b mine", "/local/domain/1/data/a/b whole"]);
    machine.write(1, "attr/a", "x").unwrap();
    machine.ask(1, kind::SET_PERMS, "data/a\0r1\0").unwrap();
    machine.ask(1, kind::MKDIR, "data/a\0").unwrap();
    assert_eq!(machine.events(1), ["data/a mine", "/local/domain/1/data/a whole"]);
    machine.fails(1, kind::WATCH, "data\0mine\0", "EEXIST");
    machine.ask(1, kind::UNWATCH, "data\0mine\0").unwrap();
    machine.ask(1, kind::RM, "data/a\0").unwrap();
    assert_eq!(machine.events(1), ["/local/domain/1/data/a whole"]);
}

#[test]
fn what_goes_with_a_node_above_is_told_to_its_own_watches_only() {
    let mut machine = Machine::new(1);
    machine.write(1, "data/a/b/c", "x").unwrap();
    for path in ["data", "data/a/b", "data/a/b/c", "data/a/b/c/none"] {
        machine.ask(1, kind::WATCH, &[path, "\0t\0"].concat()).unwrap();
    }
    machine.events(1);
    machine.ask(1, kind::RM, "data/a\0").unwrap();
    assert_eq!(machine.events(1), ["data/a/b/c t", "data/a/b t", "data/a t"]);
}

#[test]
fn only_those_who_may_know_hear() {
    let mut machine = Machine::new(3);
    for domain in [2, 3] {
        machine.ask(domain, kind::WATCH, "/local/domain/1\0t\0").unwrap();
        machine.events(domain);
    }
    machine.write(1, "data/x", "x").unwrap();
    assert!(machine.events(2).is_empty());
    machine.ask(1, kind::SET_PERMS, "data/x\0n1\0r2\0").unwrap();
    assert_eq!(machine.events(2), ["/local/domain/1/data/x t"], "it can from now on");
    machine.write(1, "data/x", "y").unwrap();
    assert_eq!(machine.events(2), ["/local/domain/1/data/x t"]);
    machine.ask(1, kind::SET_PERMS, "data/x\0n1\0").unwrap();
    assert_eq!(machine.events(2), ["/local/domain/1/data/x t"], "it could until now");
    machine.write(1, "data/x", "z").unwrap();
    assert!(machine.events(2).is_empty() && machine.events(3).is_empty());
}

#[test]
fn the_same_event_waits_once() {
    let mut machine = Machine::new(2);
    machine.ask(1, kind::WATCH, "data\0t\0").unwrap();
    machine.events(1);
    for _ in 0..1000 {
        machine.store.write("/local/domain/1/data/x", b"x").unwrap();
    }
    assert_eq!(machine.events(1), ["data/x t"]);
}

#[test]
fn domains_that_come_and_go() {
    let mut machine = Machine::new(2);
    machine.ask(1, kind::WATCH, "@releaseDomain\0r\0").unwrap();
    machine.store.watch("@introduceDomain", "came").unwrap();
    machine.store.watch("@releaseDomain", "went").unwrap();
    let heard = |machine: &mut Machine| {
        core::iter::from_fn(|| machine.store.heard()).map(|heard| heard.token).collect::<Vec<_>>()
    };
    assert_eq!(heard(&mut machine), ["came", "went"]);
    assert_eq!(machine.events(1), ["@releaseDomain r"]);
    machine.add(3);
    assert_eq!(heard(&mut machine), ["came"]);
    machine.store.stopped(3);
    machine.store.stopped(3);
    assert_eq!(heard(&mut machine), ["went"]);
    machine.store.release(3);
    assert_eq!(heard(&mut machine), ["went"]);
    assert!(machine.events(1).is_empty(), "only domain 0 may know");
    let permissions = alloc::vec![permission::Permission::none(0), permission::Permission::read(1)];
    machine.store.store.work(0, 0, |work| work.set_permissions("@releaseDomain", permissions)).unwrap();
    machine.store.release(2);
    assert_eq!(machine.events(1), ["@releaseDomain r"]);
}

#[test]
fn domain_0_hears_of_a_guest_that_answers() {
    let mut machine = Machine::new(1);
    machine.ask(1, kind::WATCH, "control/shutdown\0s\0").unwrap();
    machine.store.watch("/local/domain/1/control/shutdown", "ack").unwrap();
    machine.events(1);
    machine.store.heard().unwrap();
    machine.store.write("/local/domain/1/control/shutdown", b"poweroff").unwrap();
    assert_eq!(machine.events(1), ["control/shutdown s"]);
    assert_eq!(machine.store.heard().unwrap().path, "/local/domain/1/control/shutdown");
    machine.write(1, "control/shutdown", "").unwrap();
    let heard = machine.store.heard().unwrap();
    assert_eq!((heard.path.as_str(), heard.token.as_str()), ("/local/domain/1/control/shutdown", "ack"));
    assert_eq!(machine.store.heard(), None);
    assert_eq!(machine.store.read("/local/domain/1/control/shutdown").as_deref(), Some(&b""[..]));
}
