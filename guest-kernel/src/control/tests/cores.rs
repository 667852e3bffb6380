//! Cores that go offline and come back.

use abi::control::hypercall::{NO_PROCESSOR, presence};
use abi::control::wire::{Core, Kept, Presence};
use abi::xen::sched::reason;

use super::*;

impl Machine {
    fn cores(&mut self) -> Vec<Core> {
        let Ok(Reply::Cores(cores)) = self.ask(Request::Cores) else { panic!("cores") };
        cores
    }

    fn offline(&mut self, core: u32) -> (Option<String>, Option<Kept>) {
        let Ok(Reply::Offline { core: gone, guest, .. }) = self.ask(Request::Offline { core }) else {
            panic!("offline")
        };
        assert_eq!(gone, core);
        guest.unzip()
    }

    fn online(&mut self, core: u32, guest: Option<&str>) -> Option<String> {
        let request = Request::Online { core, guest: guest.map(String::from), empty: false };
        let Ok(Reply::Online { guest, .. }) = self.ask(request) else { panic!("online") };
        guest
    }

    fn state_of(&mut self, name: &str) -> (State, Vec<u32>) {
        let domain = self.list().into_iter().find(|domain| domain.name == name).unwrap();
        (domain.state, domain.cores)
    }

    /// Says, as a guest would, that it can be suspended.
    fn can_suspend(&mut self, slot: Slot) -> String {
        let domain = self.control.guests.get(slot).unwrap().domain;
        let home = format!("/local/domain/{domain}/control");
        let path = format!("{home}/feature-suspend");
        self.ask(Request::XenstoreWrite { path, value: b"1".to_vec() }).unwrap();
        format!("{home}/shutdown")
    }

    fn stops_for(&mut self, slot: Slot, reason: u32) {
        let domain = self.control.guests.get(slot).unwrap().domain;
        self.control.hypervisor.becomes(domain, DomainState::Shutdown, reason);
        self.control.domains_changed();
        self.settle();
    }

    fn word(&mut self, path: &str) -> Vec<u8> {
        self.control.stores.xenstore().read(path).unwrap_or_default()
    }
}

#[test]
fn an_idle_core_comes_and_goes() {
    let mut machine = Machine::with(&["web"]);
    assert_eq!(machine.offline(3), (None, None));
    let cores = machine.cores();
    assert!(cores[2].is_online && !cores[3].is_online && cores[3].since_tsc.is_some());
    assert_eq!((cores[0].guest.as_deref(), cores[1].guest.as_deref()), (Some(OWN_NAME), Some("web")));
    machine.refused(Request::Offline { core: 3 }, "is offline");
    let on_it = |core| Request::Create(guest("new", Some(core)));
    machine.refused(on_it(3), "is offline");
    assert_eq!(machine.online(3, None), None);
    machine.refused(Request::Online { core: 3, guest: None, empty: false }, "is online");
    machine.ask(on_it(3)).unwrap();
}

#[test]
fn what_stays_online_says_so() {
    let mut machine = Machine::with(&[]);
    machine.refused(Request::Offline { core: 0 }, "stays online");
    machine.refused(Request::Online { core: 0, guest: None, empty: false }, "stays online");
    machine.refused(Request::Offline { core: 9 }, "no core 9");
    machine.refused(Request::Online { core: 9, guest: None, empty: false }, "no core 9");
    machine.refused(Request::Left, "no core was asked");
}

#[test]
fn a_guest_that_cannot_suspend_is_frozen_and_kept() {
    let mut machine = Machine::with(&["web"]);
    assert_eq!(machine.offline(1), (Some("web".into()), Some(Kept::Frozen)));
    assert_eq!(machine.state_of("web"), (State::Kept, vec![]));
    assert_eq!(machine.cores()[1].keeps, Some(("web".into(), Kept::Frozen)));
    machine.refused(Request::Unpause("web".into()), "is kept");
    machine.refused(Request::Online { core: 1, guest: None, empty: true }, "keeps web");
    assert_eq!(machine.online(1, None).as_deref(), Some("web"));
    assert_eq!(machine.state_of("web"), (State::Running, vec![1]));
}

#[test]
fn a_kept_guest_goes_on_another_core_and_is_restarted_there() {
    let mut machine = Machine::with(&["web", "mail"]);
    machine.offline(1);
    machine.refused(Request::Online { core: 2, guest: Some("web".into()), empty: false }, "belongs to mail");
    machine.refused(Request::Online { core: 3, guest: Some("mail".into()), empty: false }, "is not kept");
    machine.refused(Request::Online { core: 3, guest: Some("none".into()), empty: false }, "no guest named");
    assert_eq!(machine.online(3, Some("web")).as_deref(), Some("web"));
    assert_eq!(machine.state_of("web"), (State::Running, vec![3]));
    machine.refused(Request::Create(guest("new", Some(3))), "core 3 belongs to web");
    assert_eq!(machine.online(1, None), None);
    machine.ask(Request::Create(guest("new", Some(1)))).unwrap();
    assert_eq!(machine.state_of("new"), (State::Running, vec![1]));
    machine.ask(Request::Destroy("web".into())).unwrap();
    let Ok(Reply::Created { cores, .. }) = machine.ask(Request::Create(guest("web", None))) else { panic!() };
    assert_eq!(cores, [3]);
}

#[test]
fn a_paused_guest_is_paused_again() {
    let mut machine = Machine::with(&["web"]);
    machine.ask(Request::Pause("web".into())).unwrap();
    assert_eq!(machine.offline(1), (Some("web".into()), Some(Kept::Still)));
    machine.refused(Request::Unpause("web".into()), "kept by a core that is offline");
    assert_eq!(machine.online(1, None).as_deref(), Some("web"));
    assert_eq!(machine.state_of("web").0, State::Paused);
    machine.ask(Request::Unpause("web".into())).unwrap();
}

#[test]
fn a_guest_that_can_suspends_itself() {
    let mut machine = Machine::with(&["web"]);
    let shutdown = machine.can_suspend(1);
    assert_eq!(machine.ask(Request::Offline { core: 1 }), Ok(Reply::Leaving));
    assert_eq!(machine.ask(Request::Left), Ok(Reply::Leaving));
    assert_eq!(machine.word(&shutdown), b"suspend");
    machine.refused(Request::Offline { core: 2 }, "on its way off");
    machine.stops_for(1, reason::SUSPEND);
    let Ok(Reply::Offline { guest, ticks, .. }) = machine.ask(Request::Left) else { panic!("it is off") };
    assert!(guest == Some(("web".into(), Kept::Suspended)) && ticks > 0);
    assert_eq!(machine.events, [], "that was not its end");
    assert_eq!(machine.online(1, None).as_deref(), Some("web"));
    assert_eq!(machine.state_of("web"), (State::Running, vec![1]));
}

#[test]
fn one_that_does_not_in_time_is_frozen() {
    let mut machine = Machine::with(&["web"]);
    let shutdown = machine.can_suspend(1);
    machine.ask(Request::Offline { core: 1 }).unwrap();
    machine.control.hypervisor.now += 10_000_000;
    machine.settle();
    let Ok(Reply::Offline { guest, .. }) = machine.ask(Request::Left) else { panic!("it is off") };
    assert_eq!(guest, Some(("web".into(), Kept::Frozen)));
    assert_eq!(machine.word(&shutdown), b"", "nobody asks any more");
    machine.online(1, None);
    machine.stops_for(1, reason::SUSPEND);
    assert_eq!(machine.state_of("web").0, State::Running, "it comes late, and goes on");
    machine.stops_for(1, reason::SUSPEND);
    assert_eq!(machine.state_of("web").0, State::Shutdown(reason::SUSPEND), "that was its own wish");
}

#[test]
fn a_guest_that_is_destroyed_on_the_way_leaves_an_empty_core() {
    let mut machine = Machine::with(&["web"]);
    machine.can_suspend(1);
    machine.ask(Request::Offline { core: 1 }).unwrap();
    machine.ask(Request::Destroy("web".into())).unwrap();
    let Ok(Reply::Offline { guest: None, .. }) = machine.ask(Request::Left) else { panic!("it is off") };
    assert!(!machine.cores()[1].is_online && machine.cores()[1].keeps.is_none());
    assert_eq!(machine.online(1, None), None);
}

#[test]
fn a_kept_guest_can_be_destroyed() {
    let mut machine = Machine::with(&["web"]);
    machine.offline(1);
    machine.ask(Request::Destroy("web".into())).unwrap();
    assert_eq!(machine.cores()[1].keeps, None);
    machine.refused(Request::Create(guest("new", Some(1))), "is offline");
    assert_eq!(machine.online(1, None), None);
    machine.ask(Request::Create(guest("new", Some(1)))).unwrap();
}

#[test]
fn one_that_crashes_on_the_way_stays_to_be_looked_at() {
    let mut machine = Machine::with(&["web"]);
    machine.can_suspend(1);
    machine.ask(Request::Offline { core: 1 }).unwrap();
    machine.stops(1, DomainState::Crashed);
    let Ok(Reply::Offline { guest, .. }) = machine.ask(Request::Left) else { panic!("it is off") };
    assert_eq!(guest, Some(("web".into(), Kept::Still)));
    assert_eq!(machine.state_of("web").0, State::Crashed);
    machine.ask(Request::Crash("web".into())).unwrap();
}

#[test]
fn a_processor_that_is_put_in_is_offered() {
    let mut machine = Machine::with(&["web"]);
    // The place of core 3 is empty since boot.
    machine.control.hypervisor.processors[3] = NO_PROCESSOR;
    machine.control.hypervisor.presence[3] = presence::ABSENT;
    assert_eq!(machine.cores()[3].presence, Presence::Absent);
    machine.refused(Request::Online { core: 3, guest: None, empty: false }, "is not there");
    machine.refused(Request::Offline { core: 3 }, "is offline");
    machine.refused(Request::Create(guest("new", Some(3))), "is offline");
    machine.ask(Request::Create(guest("second", None))).unwrap();
    machine.refused(Request::Create(guest("third", None)), "every core has its guest");
    machine.control.hypervisor.presence[3] = presence::NEW;
    let new = machine.cores()[3].clone();
    assert_eq!((new.presence, new.is_online, new.since_tsc), (Presence::New, false, None));
    assert_eq!(machine.online(3, None), None);
    let there = machine.cores()[3].clone();
    assert!(there.presence == Presence::Known && there.is_online);
    machine.ask(Request::Create(guest("third", None))).unwrap();
    assert_eq!(machine.state_of("third"), (State::Running, vec![3]));
}
