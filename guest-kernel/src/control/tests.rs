//! The control program as a whole, over a fake hypervisor, with a toolstack and guests played by the tests.

mod meeting;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use abi::control::frame::{self, Decoder};
use abi::control::hypercall::{DomainState, ExitKind};
use abi::control::wire::{
    Domain, Event, GuestConfig, MachineConfig, Refusal, Reply, Request, State, ToControl, ToToolstack,
    VERSION,
};
use abi::mesh::kind;
use io_rings::hostile::{Liar, SharedPage as _};
use io_rings::urpc::{Message, Receiver, Sender};
use proptest::prelude::*;

use super::fake::Fake;
use super::pages::Slot;
use super::*;
use crate::console_ring::ConsolePage;

/// A machine with a toolstack at its line.
struct Machine {
    control: Control<Fake>,
    decoder: Decoder,
    next_id: u32,
    events: Vec<Event>,
}

/// The guest in a slot: its ends of what domain 0 shares with it.
struct Inside {
    to_control: Sender<'static>,
    from_control: Receiver<'static>,
    console: &'static ConsolePage,
}

fn guest(name: &str, core: Option<u32>) -> GuestConfig {
    GuestConfig { name: name.into(), image: "hello".into(), core, memory_mib: 2, command_line: String::new() }
}

fn archive(guests: Vec<GuestConfig>, stop_when_done: bool) -> &'static [u8] {
    let config = postcard::to_allocvec(&MachineConfig { guests, stop_when_done }).unwrap();
    let files = [("control", vec![]), ("config", config), ("images/hello", super::sample::elf())];
    let inputs = files
        .into_iter()
        .map(|(name, bytes)| (cpio::newc::Builder::new(name).mode(0o100_644), std::io::Cursor::new(bytes)));
    Box::leak(cpio::write_cpio(inputs, Vec::new()).unwrap().into_boxed_slice())
}

impl Machine {
    fn unattended(guests: Vec<GuestConfig>, stop_when_done: bool) -> Self {
        let mut control = Control::new(Fake::new(4), archive(guests, stop_when_done));
        control.start();
        Self { control, decoder: Decoder::new(), next_id: 0, events: Vec::new() }
    }

    fn new(guests: Vec<GuestConfig>) -> Self {
        let mut machine = Self::unattended(guests, false);
        machine.settle();
        machine.ask(Request::Hello { version: VERSION }).unwrap();
        machine
    }

    fn with(names: &[&str]) -> Self {
        Self::new(names.iter().map(|name| guest(name, None)).collect())
    }

    /// Turns until there is nothing more to do. The toolstack reads all the while.
    fn settle(&mut self) -> Option<(u32, Result<Reply, Refusal>)> {
        let mut reply = None;
        for _ in 0..1000 {
            let rest = self.control.turn(true);
            while let Some(byte) = self.control.transmit() {
                match self.decoder.push(byte) {
                    Some(ToToolstack::Reply { id, result }) => reply = Some((id, result)),
                    Some(ToToolstack::Event(event)) => self.events.push(event),
                    None => {}
                }
            }
            if rest != Rest::None {
                assert!(self.control.may_sleep());
                return reply;
            }
        }
        panic!("domain 0 never rests");
    }

    fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        self.next_id += 1;
        for byte in frame::encode(&ToControl { id: self.next_id, request }).unwrap() {
            self.control.receive(byte);
        }
        let (id, result) = self.settle().expect("an answer");
        assert_eq!(id, self.next_id);
        result
    }

    fn refused(&mut self, request: Request, word: &str) {
        let refusal = self.ask(request).unwrap_err();
        assert!(refusal.what.contains(word), "{refusal:?} does not say {word:?}");
        assert!(!refusal.remedy.is_empty());
    }

    fn list(&mut self) -> Vec<Domain> {
        let Ok(Reply::Domains(domains)) = self.ask(Request::List) else { panic!("a list") };
        domains
    }

    fn inside(&self, slot: Slot) -> Inside {
        let pair = self.control.pages.pair(0, slot).unwrap();
        Inside {
            to_control: Sender::new(&pair.downwards),
            from_control: Receiver::new(&pair.upwards),
            console: self.control.pages.guest(slot).unwrap().console,
        }
    }

    fn stops(&mut self, slot: Slot, state: DomainState) {
        let domain = self.control.guests.get(slot).unwrap().domain;
        self.control.hypervisor.becomes(domain, state, 0);
        self.control.domains_changed();
        self.settle();
    }
}

impl Inside {
    fn hears(&mut self) -> Vec<Message> {
        core::iter::from_fn(|| self.from_control.try_receive().unwrap()).collect()
    }

    fn says(&mut self, what: &[u64]) {
        let mut message = [0; 7];
        message[..what.len()].copy_from_slice(what);
        self.to_control.try_send(&message).unwrap();
    }
}

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
    let listed: Vec<_> = machine.list().into_iter().map(|domain| (domain.name, domain.core)).collect();
    assert_eq!(listed, [(OWN_NAME.into(), 0), ("web".into(), 2), ("db".into(), 1)]);
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
fn a_guest_lives_by_the_wire() {
    let mut machine = Machine::with(&[]);
    let Ok(Reply::Created { core: 1, ticks, .. }) = machine.ask(Request::Create(guest("web", None))) else {
        panic!("created")
    };
    assert!(ticks > 0);
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
    let Ok(Reply::Crash { cause, registers }) = machine.ask(Request::Crash("web".into())) else {
        panic!("a crash")
    };
    assert!(cause.contains("triple fault") && registers.contains(&("rip".into(), 0x10_0000)));
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
    machine.refused(with(&|config| config.core = Some(0)), "core 0 belongs to Domain-0");
    machine.refused(with(&|config| config.core = Some(1)), "core 1 belongs to web");
    machine.refused(with(&|config| config.core = Some(77)), "no core 77");
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
        machine.ask(Request::Console { name: OWN_NAME.into(), from: 0, follow: true })
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
    assert_eq!(machine.control.hypervisor.own_ports(), 4);
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
    one.says(&[kind::REPORT, 11, 22, 0]);
    machine.settle();
    let domains = machine.list();
    assert_eq!((domains[1].messages_in, domains[1].messages_out), (11, 22));
    one.says(&[kind::REPORT, 33, 44, 0]);
    machine.stops(1, DomainState::Shutdown);
    assert_eq!(machine.list()[1].messages_in, 33, "last words count");
}

#[test]
fn consoles_are_kept_logged_and_followed() {
    let mut machine = Machine::with(&["web"]);
    let web = machine.inside(1);
    web.console.guest_write(b"hello\nhalf a");
    machine.settle();
    assert!(machine.control.hypervisor.printed.ends_with("[web] hello\n"));
    let ask = |from, follow| Request::Console { name: "web".into(), from, follow };
    let Ok(Reply::Console(text)) = machine.ask(ask(2, true)) else { panic!("text") };
    assert_eq!((text.from, text.next, &text.bytes[..]), (2, 12, &b"llo\nhalf a"[..]));
    web.console.guest_write(b" line\n");
    machine.settle();
    let [Event::Console { name, text }] = &machine.events[..] else { panic!("one event") };
    assert_eq!((&name[..], text.from, &text.bytes[..]), ("web", 12, &b" line\n"[..]));
    machine.ask(ask(0, false)).unwrap();
    web.console.guest_write(b"unheard\n");
    machine.settle();
    assert_eq!(machine.events.len(), 1);
    machine.ask(Request::Input { name: "web".into(), bytes: b"keys".to_vec() }).unwrap();
    let mut keys = [0; 10];
    assert_eq!(web.console.guest_read(&mut keys), 4);
    machine.refused(Request::Console { name: "nobody".into(), from: 0, follow: true }, "no guest");
    // The last words of the dead are heard, and their events come before the end is told.
    machine.ask(ask(0, true)).unwrap();
    web.console.guest_write(b"last words");
    machine.stops(1, DomainState::Shutdown);
    assert!(machine.control.hypervisor.printed.contains("[web] last words\n"));
    assert!(matches!(machine.events.last(), Some(Event::Stopped { .. })));
    machine.refused(Request::Input { name: "web".into(), bytes: vec![1] }, "runs no more");
}

#[test]
fn the_next_guest_in_a_slot_starts_with_an_empty_console() {
    let mut machine = Machine::with(&["web"]);
    machine.inside(1).console.guest_write(b"old");
    machine.ask(Request::Input { name: "web".into(), bytes: b"old keys".to_vec() }).unwrap();
    machine.ask(Request::Destroy("web".into())).unwrap();
    machine.ask(Request::Create(guest("web", None))).unwrap();
    let Ok(Reply::Console(text)) =
        machine.ask(Request::Console { name: "web".into(), from: 0, follow: false })
    else {
        panic!("text")
    };
    assert_eq!(text.next, 0);
    assert_eq!(machine.inside(1).console.guest_read(&mut [0; 10]), 0);
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
    for byte in frame::encode(&ToControl { id: 1, request: Request::Stop(0x10) }).unwrap() {
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

#[test]
fn a_phase_is_measured_without_its_announcement() {
    let mut machine = Machine::with(&["bench"]);
    let inside = machine.inside(1);
    let exits = |machine: &mut Machine, more: u64| {
        let fake = &mut machine.control.hypervisor;
        fake.domain_mut(1).unwrap().exits[ExitKind::Hypercall as usize] += more;
    };
    let rest = |machine: &mut Machine| {
        for _ in 0..5 {
            machine.control.hypervisor.now += bench::REST / 5;
            machine.settle();
        }
    };
    inside.console.guest_write(b"bench: phase idle-begin\n");
    machine.settle();
    exits(&mut machine, 1);
    rest(&mut machine);
    exits(&mut machine, 3);
    rest(&mut machine);
    inside.console.guest_write(b"bench: phase idle-end\n");
    exits(&mut machine, 1);
    machine.control.hypervisor.now += bench::REST;
    machine.settle();
    let said =
        "[control] bench: {\"name\":\"steady_exits_idle\",\"median\":3,\"unit\":\"exits\",\"samples\":1}\n";
    assert!(machine.control.hypervisor.printed.contains(said));
}

/// What may happen to a machine, in any order.
#[derive(Clone, Debug)]
enum Happening {
    Ask(Request),
    Noise(Vec<u8>),
    Print(Slot, Vec<u8>),
    Say(Slot, Message),
    Scribble(Slot, u64),
    Stop(Slot, bool),
    Fail(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just(OWN_NAME)].prop_map(String::from);
    let core = proptest::option::of(0..6u32);
    let slot = 1..4usize;
    let message =
        (0..12u64, 0..5u64, any::<u64>()).prop_map(|(kind, slot, word)| [kind, slot, word, word, 0, 0, 0]);
    let request = prop_oneof![
        4 => (name.clone(), core).prop_map(|(name, core)| Request::Create(guest(&name, core))),
        3 => name.clone().prop_map(Request::Destroy),
        1 => name.clone().prop_map(Request::Pause),
        1 => name.clone().prop_map(Request::Unpause),
        1 => name.clone().prop_map(Request::Crash),
        1 => (name.clone(), any::<u64>(), any::<bool>())
            .prop_map(|(name, from, follow)| Request::Console { name, from, follow }),
        1 => (name, proptest::collection::vec(any::<u8>(), 0..3000)).prop_map(|(name, bytes)| Request::Input { name, bytes }),
        1 => Just(Request::List),
        1 => Just(Request::Info),
    ];
    prop_oneof![
        6 => request.prop_map(Happening::Ask),
        1 => proptest::collection::vec(any::<u8>(), 0..50).prop_map(Happening::Noise),
        1 => (slot.clone(), proptest::collection::vec(any::<u8>(), 0..3000)).prop_map(|(s, b)| Happening::Print(s, b)),
        4 => (slot.clone(), message).prop_map(|(s, m)| Happening::Say(s, m)),
        1 => (slot.clone(), any::<u64>()).prop_map(|(s, seed)| Happening::Scribble(s, seed)),
        1 => (slot, any::<bool>()).prop_map(|(s, crash)| Happening::Stop(s, crash)),
        1 => (0..40usize).prop_map(Happening::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever guests, wire and hypervisor do: every request is answered, nothing panics, nothing is leaked.
    #[test]
    fn nothing_wears_the_machine_down(happenings in proptest::collection::vec(happening(), 1..60)) {
        let mut machine = Machine::with(&["a"]);
        let mut insides: Vec<(Slot, u16, Inside)> = Vec::new();
        for happening in happenings {
            // The guest in a slot, with ends of its own as long as it lives.
            let domain = |machine: &Machine, slot| machine.control.guests.get(slot).map(|guest| guest.domain);
            insides.retain(|(slot, id, _)| domain(&machine, *slot) == Some(*id));
            for slot in 1..4 {
                if let Some(id) = domain(&machine, slot)
                    && !insides.iter().any(|(known, ..)| *known == slot)
                {
                    let inside = machine.inside(slot);
                    insides.push((slot, id, inside));
                }
            }
            let inside = |insides: &mut Vec<(Slot, u16, Inside)>, slot| {
                insides.iter_mut().position(|(known, ..)| *known == slot)
            };
            match happening {
                Happening::Ask(request) => {
                    let _ = machine.ask(request);
                    machine.control.hypervisor.calls_left = None;
                }
                Happening::Noise(bytes) => {
                    bytes.into_iter().chain([0]).for_each(|byte| machine.control.receive(byte));
                }
                Happening::Print(slot, bytes) => {
                    if let Some(at) = inside(&mut insides, slot) {
                        insides[at].2.console.guest_write(&bytes);
                    }
                }
                Happening::Say(slot, message) => {
                    if let Some(at) = inside(&mut insides, slot) {
                        let _ = insides[at].2.to_control.try_send(&message);
                        let _ = insides[at].2.from_control.try_receive();
                    }
                }
                Happening::Scribble(slot, seed) => {
                    let pair = machine.control.pages.pair(0, slot).unwrap();
                    let mut liar = Liar::new(seed);
                    liar.scribble(&pair.downwards);
                    liar.scribble(&pair.upwards);
                }
                Happening::Stop(slot, crash) => {
                    if machine.control.guests.get(slot).is_some_and(|guest| guest.is_alive()) {
                        machine.stops(slot, if crash { DomainState::Crashed } else { DomainState::Shutdown });
                    }
                }
                Happening::Fail(calls) => machine.control.hypervisor.calls_left = Some(calls),
            }
            machine.settle();
        }
        machine.control.hypervisor.calls_left = None;
        for domain in machine.list().into_iter().skip(1) {
            machine.ask(Request::Destroy(domain.name)).unwrap();
        }
        prop_assert_eq!(machine.control.hypervisor.own_ports(), 0);
        prop_assert_eq!(machine.control.hypervisor.domains.len(), 1);
        for name in ["a", "b", "c"] {
            machine.ask(Request::Create(guest(name, None))).unwrap();
        }
        let told = format!("{:?}", machine.list());
        prop_assert!(told.contains("Running"));
    }
}
