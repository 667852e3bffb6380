//! Kernels that take over from others in running guests.

use abi::control::succession::{Failure, HANDED_OVER, Stage, Succession};
use abi::xen::sched::reason;

use super::super::sample;
use super::*;

/// What the old kernel hands over.
const BYTES: u64 = 5000;

impl Machine {
    fn domain(&self) -> u16 {
        self.control.guests.get(1).unwrap().domain
    }

    /// A guest on core 1 that says that it can hand over.
    fn that_hands_over() -> Self {
        let mut machine = Self::with(&["web"]);
        let path = format!("/local/domain/{}/control/feature-replace", machine.domain());
        machine.ask(Request::XenstoreWrite { path, value: b"1".to_vec() }).unwrap();
        machine
    }

    fn replace(&mut self, line: Option<&str>) -> Result<Reply, Refusal> {
        self.ask(Request::Replace { core: 1, image: None, command_line: line.map(String::from) })
    }

    fn word_for(&mut self) -> Vec<u8> {
        let path = format!("/local/domain/{}/control/shutdown", self.domain());
        self.control.stores.xenstore().read(&path).unwrap_or_default()
    }

    /// The guest's domain as the hypervisor has it.
    fn fake(&mut self) -> &mut super::super::fake::Domain {
        let domain = self.domain();
        self.control.hypervisor.domain_mut(domain).unwrap()
    }

    fn becomes(&mut self, state: DomainState, reason: u32) {
        let domain = self.domain();
        self.control.hypervisor.becomes(domain, state, reason);
        self.control.domains_changed();
        self.settle();
    }

    /// As the old kernel does.
    fn hands_over(&mut self) {
        self.fake().succession = Succession { stage: Stage::Offered, bytes: BYTES };
        self.becomes(DomainState::Shutdown, HANDED_OVER);
    }

    /// As the new one does.
    fn takes_over(&mut self) {
        self.fake().succession.stage = Stage::Committed;
        self.control.domains_changed();
        self.settle();
    }

    fn state(&mut self) -> State {
        self.list().into_iter().find(|domain| domain.name == "web").unwrap().state
    }

    /// The old kernel goes on as if nothing had been, but that it knows why.
    fn is_back(&mut self, why: Failure, what: &str, free: u64) {
        self.refused(Request::Replaced, what);
        assert_eq!((self.fake().failed, self.state()), (Some(why), State::Running));
        assert_eq!(self.control.hypervisor.frames_free, free);
        assert_eq!(self.events, [], "that was nobody's end");
        assert_eq!(self.control.guests.get(1).unwrap().config.command_line, "");
    }
}

#[test]
fn another_kernel_takes_over() {
    let mut machine = Machine::that_hands_over();
    let free = machine.control.hypervisor.frames_free;
    assert_eq!(machine.replace(Some("new=1")), Ok(Reply::Replacing));
    assert_eq!(machine.word_for(), b"replace");
    assert_eq!(machine.ask(Request::Replaced), Ok(Reply::Replacing));
    assert_eq!(machine.fake().other.as_ref().unwrap()[0x10_0000..][..sample::TEXT.len()], *sample::TEXT);
    machine.refused(Request::Replace { core: 1, image: None, command_line: None }, "is being replaced");
    machine.refused(Request::Offline { core: 1 }, "is being replaced");
    machine.refused(Request::Pause("web".into()), "is being replaced");
    machine.hands_over();
    let [entry, info, package] = machine.fake().successor.unwrap().map(|at| at.as_u64());
    let memory = machine.fake().memory.clone();
    assert_eq!(entry, sample::ENTRY);
    assert!(package % 4096 == 0 && package + BYTES <= memory.len() as u64, "it lies at {package:#x}");
    let line = b"handover=1 mesh=1 name=web core=1 new=1\0";
    assert!(memory[info as usize..][..512].windows(line.len()).any(|window| window == line));
    assert_eq!(machine.state(), State::Running);
    machine.takes_over();
    let Ok(Reply::Replaced { core: 1, guest, image, bytes: BYTES, ticks, pause }) =
        machine.ask(Request::Replaced)
    else {
        panic!("it has taken over")
    };
    assert_eq!((guest.as_str(), image.as_str(), ticks > pause), ("web", "hello", true));
    assert_eq!((machine.control.hypervisor.frames_free, machine.state()), (free, State::Running));
    assert_eq!(machine.control.guests.get(1).unwrap().config.command_line, "new=1");
    machine.ask(Request::Pause("web".into())).unwrap();
}

#[test]
fn who_cannot_hand_over_is_not_asked() {
    let mut machine = Machine::with(&["web"]);
    machine.refused(Request::Replace { core: 1, image: None, command_line: None }, "cannot hand over");
    assert_eq!((machine.word_for(), machine.fake().succession.stage), (vec![], Stage::None));
    machine.refused(Request::Replace { core: 0, image: None, command_line: None }, "stays online");
    machine.refused(Request::Replace { core: 3, image: None, command_line: None }, "has no kernel");
    machine.refused(Request::Replaced, "no kernel was to be replaced");
    let mut machine = Machine::that_hands_over();
    let image = Some(String::from("nothing"));
    machine.refused(Request::Replace { core: 1, image, command_line: None }, "no image");
    machine.control.hypervisor.frames_free = 10;
    machine.refused(Request::Replace { core: 1, image: None, command_line: None }, "no memory");
    assert_eq!(machine.word_for(), b"");
}

#[test]
fn a_kernel_that_does_not_hand_over_in_time_goes_on() {
    let mut machine = Machine::that_hands_over();
    let free = machine.control.hypervisor.frames_free;
    machine.replace(None).unwrap();
    machine.control.hypervisor.now += 10_000_000;
    machine.settle();
    machine.refused(Request::Replaced, "did not hand over within 2 s");
    assert_eq!((machine.word_for(), machine.control.hypervisor.frames_free), (vec![], free));
    assert_eq!(machine.state(), State::Running);
}

#[test]
fn whatever_becomes_of_the_new_kernel_the_old_one_goes_on() {
    let ends = [
        (DomainState::Crashed, 0, Failure::Crashed, "crashed: "),
        (DomainState::Shutdown, reason::CRASH, Failure::Panicked, "panicked"),
        (DomainState::Shutdown, reason::POWEROFF, Failure::Ended, "shut itself down"),
        (DomainState::Shutdown, Failure::Version.as_reason(), Failure::Version, "a package of this version"),
    ];
    for (state, reason, why, what) in ends {
        let mut machine = Machine::that_hands_over();
        let free = machine.control.hypervisor.frames_free;
        machine.fake().memory[7] = 7;
        machine.replace(Some("new=1")).unwrap();
        machine.hands_over();
        machine.becomes(state, reason);
        machine.is_back(why, what, free);
        assert_eq!(machine.fake().memory[7], 7);
    }
}

#[test]
fn one_that_hangs_is_ended() {
    let mut machine = Machine::that_hands_over();
    let free = machine.control.hypervisor.frames_free;
    machine.replace(None).unwrap();
    machine.hands_over();
    assert_eq!(machine.ask(Request::Replaced), Ok(Reply::Replacing));
    machine.control.hypervisor.now += 10_000_000;
    machine.settle();
    machine.is_back(Failure::Hung, "not done in time", free);
}

#[test]
fn one_that_dies_after_it_has_taken_over_dies_as_anybody() {
    let mut machine = Machine::that_hands_over();
    machine.replace(None).unwrap();
    machine.hands_over();
    machine.fake().succession.stage = Stage::Committed;
    machine.becomes(DomainState::Crashed, 0);
    assert!(matches!(machine.ask(Request::Replaced), Ok(Reply::Replaced { .. })));
    assert_eq!(machine.state(), State::Crashed);
}

#[test]
fn a_guest_that_is_destroyed_or_dies_meanwhile_is_gone() {
    for hands_over in [false, true] {
        let mut machine = Machine::that_hands_over();
        let free = machine.control.hypervisor.frames_free + 512;
        machine.replace(None).unwrap();
        if hands_over {
            machine.hands_over();
        }
        machine.ask(Request::Destroy("web".into())).unwrap();
        machine.refused(Request::Replaced, "came to its end");
        assert_eq!(machine.control.hypervisor.frames_free, free);
        machine.ask(Request::Create(guest("web", Some(1)))).unwrap();
    }
    let mut machine = Machine::that_hands_over();
    let free = machine.control.hypervisor.frames_free;
    machine.replace(None).unwrap();
    machine.becomes(DomainState::Crashed, 0);
    machine.refused(Request::Replaced, "came to its end");
    assert_eq!((machine.control.hypervisor.frames_free, machine.state()), (free, State::Crashed));
}

/// Each call to the hypervisor fails once, with all that follow but those that undo: there is one kernel or the other, and no
/// memory is lost.
#[test]
fn whatever_fails_leaves_one_kernel() {
    for calls in 0..60 {
        let mut machine = Machine::that_hands_over();
        let free = machine.control.hypervisor.frames_free;
        machine.control.hypervisor.calls_left = Some(calls);
        let begun = machine.replace(None).is_ok();
        machine.control.hypervisor.calls_left = None;
        if !begun {
            assert_eq!((machine.word_for(), machine.state()), (vec![], State::Running));
            continue;
        }
        machine.fake().succession = Succession { stage: Stage::Offered, bytes: BYTES };
        machine.control.hypervisor.calls_left = Some(calls % 10);
        machine.becomes(DomainState::Shutdown, HANDED_OVER);
        machine.control.hypervisor.calls_left = None;
        machine.settle();
        if machine.fake().succession.stage == Stage::Trial {
            machine.takes_over();
        }
        machine.settle();
        assert!(machine.ask(Request::Replaced) != Ok(Reply::Replacing));
        assert_eq!((machine.state(), machine.control.hypervisor.frames_free), (State::Running, free));
    }
}
