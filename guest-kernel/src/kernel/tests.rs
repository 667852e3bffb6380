//! The loop, on thin air.

use std::boxed::Box;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use abi::mesh::kind;
use abi::xen::sched::reason;
use io_rings::bytes::XenstorePage;

use super::*;
use crate::control::xenstore::Xenstore;
use crate::control::xenstore::link::PageRing;
use crate::control::xenstore::tests::newcomer;
use crate::mesh::fixture::gather;
use crate::platform::fake::{Fake, Switch};
use crate::programs::answer;

/// A program that writes down what it is told.
#[derive(Default)]
struct Diary {
    lines: Vec<String>,
    ports: Vec<Port>,
    messages: Vec<(usize, u64)>,
    wish: Option<Step>,
    restless: bool,
    woken: u32,
    farewells: u32,
    resumed: u32,
}

impl Program<Fake> for Diary {
    fn step(&mut self, _: &mut Kernel<Fake>) -> Step {
        self.wish.unwrap_or(Step::Idle)
    }

    fn event(&mut self, _: &mut Kernel<Fake>, port: Port) {
        self.ports.push(port);
    }

    fn message(&mut self, kernel: &mut Kernel<Fake>, slot: usize, message: &Message) {
        self.messages.push((slot, message[0]));
        answer::pong(kernel, slot, message);
    }

    fn line(&mut self, _: &mut Kernel<Fake>, line: &str) {
        self.lines.push(line.to_string());
    }

    fn suspend(&mut self, kernel: &mut Kernel<Fake>) -> bool {
        assert_eq!(kernel.platform.suspended.get(), 0);
        self.farewells = self.farewells.saturating_sub(1);
        self.farewells == 0
    }

    fn resumed(&mut self, _: &mut Kernel<Fake>) {
        self.resumed += 1;
    }

    fn hand_over(&mut self, kernel: &mut Kernel<Fake>) -> Option<Vec<u8>> {
        assert!(
            kernel.store.as_ref().is_none_or(store::Store::is_quiet),
            "another kernel would hear its answers"
        );
        self.farewells = self.farewells.saturating_sub(1);
        (self.farewells == 0).then(|| b"all".to_vec())
    }

    fn not_replaced(&mut self, _: &mut Kernel<Fake>, why: Option<Failure>) {
        assert_eq!(why, Some(Failure::Panicked));
        self.resumed += 1;
    }

    fn may_sleep(&mut self) -> bool {
        !self.restless
    }

    fn awake(&mut self) {
        self.woken += 1;
    }
}

fn alone() -> (Kernel<Fake>, Diary) {
    (Kernel::new(Switch::new().domain(1), None, Pace::Sleep(0)), Diary::default())
}

/// A kernel with a port to itself.
fn with_port() -> (Kernel<Fake>, Diary, Port) {
    let platform = Switch::new().domain(1);
    let there = platform.alloc_unbound(1).unwrap();
    let here = platform.bind_interdomain(1, there).unwrap();
    platform.take_events(&mut |_| ());
    (Kernel::new(platform, None, Pace::Sleep(0)), Diary::default(), here)
}

#[test]
fn typed_bytes_become_lines() {
    let (mut kernel, mut diary, port) = with_port();
    kernel.platform.typed.borrow_mut().extend(b"one\r\ntwo\n\nthr");
    kernel.platform.send_event(port).unwrap();
    assert_eq!(kernel.round(&mut diary), Round::Busy);
    assert_eq!(diary.lines, ["one", "two"]);
    kernel.platform.typed.borrow_mut().extend(b"ee\n");
    kernel.platform.typed.borrow_mut().extend([b'x'; 1000]);
    kernel.platform.typed.borrow_mut().extend(b"\n");
    kernel.platform.send_event(port).unwrap();
    kernel.round(&mut diary);
    assert_eq!(diary.lines[2], "three");
    assert_eq!(diary.lines[3].len(), LINE_BYTES, "a line too long is cut");
}

#[test]
fn a_quiet_round_says_until_when() {
    let (mut kernel, mut diary) = alone();
    assert_eq!(kernel.round(&mut diary), Round::Quiet(None));
    diary.wish = Some(Step::IdleUntil(77));
    assert_eq!(kernel.round(&mut diary), Round::Quiet(Some(77)));
    diary.wish = Some(Step::Stop(3));
    assert_eq!(kernel.round(&mut diary), Round::Stop(3));
}

#[test]
fn a_halt_does_not_outlast_news() {
    let (mut kernel, mut diary, port) = with_port();
    kernel.halt(&mut diary, Some(5));
    assert_eq!(kernel.platform.halts.get(), 1);
    assert_eq!(kernel.platform.deadline.get(), Some(5));
    kernel.platform.send_event(port).unwrap();
    kernel.halt(&mut diary, None);
    assert_eq!(kernel.platform.halts.get(), 1, "an event came between look and halt");
    kernel.round(&mut diary);
    assert_eq!(diary.ports.len(), 1);
    diary.restless = true;
    kernel.halt(&mut diary, None);
    assert_eq!(kernel.platform.halts.get(), 1, "the program found news of its own");
    diary.restless = false;
    kernel.halt(&mut diary, Some(0));
    assert_eq!(kernel.platform.halts.get(), 1, "the deadline has passed");
    assert_eq!(diary.woken, 3);
}

#[test]
fn a_message_that_came_last_moment_keeps_the_kernel_awake() {
    let mut guests = gather(2);
    let (second, second_mesh) = guests.pop().unwrap();
    let (first, mut first_mesh) = guests.pop().unwrap();
    let mut kernel = Kernel::new(second, Some(second_mesh), Pace::Sleep(0));
    let mut diary = Diary::default();
    kernel.halt(&mut diary, None);
    assert_eq!(kernel.platform.halts.get(), 1);
    first_mesh.send(2, &[kind::PING, 5, 0, 0, 0, 0, 0]).unwrap();
    kernel.halt(&mut diary, None);
    assert_eq!(kernel.platform.halts.get(), 1);
    assert_eq!(kernel.round(&mut diary), Round::Busy);
    assert_eq!(diary.messages, vec![(1, kind::PING)]);
    assert_eq!(first_mesh.poll(&first), Some(News::Message(2, [kind::PONG, 5, 0, 0, 0, 0, 0])));
}

#[test]
fn pace_by_its_name() {
    assert_eq!(Pace::from_option(Some("poll")), Pace::Poll);
    assert!(matches!(Pace::from_option(None), Pace::Sleep(_)));
}

/// A kernel, and the page that it shares with the store.
fn with_store() -> (Kernel<Fake>, Diary, Port, &'static XenstorePage) {
    let (mut kernel, diary, port) = with_port();
    let page: &'static XenstorePage = Box::leak(Box::new(XenstorePage::new()));
    kernel.store = Some(Store::new(page, port));
    (kernel, diary, port, page)
}

#[test]
fn who_is_asked_to_stop_in_xenstore_does_and_says_so() {
    for (word, reason) in [("poweroff", reason::POWEROFF), ("reboot", reason::REBOOT)] {
        let (mut kernel, mut diary, port, page) = with_store();
        let mut store = Xenstore::new();
        let newcomer = newcomer(1);
        store.introduce(&newcomer, PageRing::new(page), 9).unwrap();
        kernel.notify_store();
        let path = "/local/domain/1/control/shutdown";
        let mut rounds = |store: &mut Xenstore<PageRing>, kernel: &mut Kernel<Fake>| {
            for _ in 0..10 {
                store.turn(|_| kernel.platform.deliver(port));
                if let Round::Stop(reason) = kernel.round(&mut diary) {
                    return Some(reason);
                }
            }
            None
        };
        assert_eq!(rounds(&mut store, &mut kernel), None);
        assert_eq!(store.read("/local/domain/1/control/feature-reboot").as_deref(), Some(&b"1"[..]));
        store.write(path, b"dance").unwrap();
        assert_eq!(rounds(&mut store, &mut kernel), None);
        store.write(path, word.as_bytes()).unwrap();
        assert_eq!(rounds(&mut store, &mut kernel), Some(reason));
        store.turn(|_| {});
        assert_eq!(store.read(path).as_deref(), Some(&b""[..]));
    }
}

#[test]
fn who_is_asked_to_suspend_itself_does_and_goes_on() {
    let (mut kernel, mut diary, port, page) = with_store();
    let mut store = Xenstore::new();
    store.introduce(&newcomer(1), PageRing::new(page), 9).unwrap();
    kernel.notify_store();
    let path = "/local/domain/1/control/shutdown";
    diary.farewells = 3;
    for word in ["", "suspend", ""] {
        if !word.is_empty() {
            store.write(path, word.as_bytes()).unwrap();
        }
        for _ in 0..10 {
            store.turn(|_| kernel.platform.deliver(port));
            assert!(!matches!(kernel.round(&mut diary), Round::Stop(_)));
        }
    }
    assert_eq!(store.read(path).as_deref(), Some(&b""[..]));
    assert_eq!((kernel.platform.suspended.get(), diary.farewells, diary.resumed), (1, 0, 1));
}

#[test]
fn who_is_asked_to_hand_over_does_and_goes_on_where_nobody_takes_over() {
    let (mut kernel, mut diary, port, page) = with_store();
    let mut store = Xenstore::new();
    store.introduce(&newcomer(1), PageRing::new(page), 9).unwrap();
    kernel.store.as_mut().unwrap().offer_replace();
    kernel.notify_store();
    let path = "/local/domain/1/control/shutdown";
    for times in 1..3 {
        diary.farewells = 3;
        store.turn(|_| kernel.platform.deliver(port));
        store.write(path, b"replace").unwrap();
        for _ in 0..20 {
            store.turn(|_| kernel.platform.deliver(port));
            assert!(!matches!(kernel.round(&mut diary), Round::Stop(_)));
        }
        assert_eq!(store.read(path).as_deref(), Some(&b""[..]));
        assert_eq!((diary.farewells, diary.resumed), (0, times));
        assert_eq!(*kernel.platform.handed.borrow(), vec![b"all".to_vec(); times as usize]);
    }
    assert_eq!(store.read("/local/domain/1/control/feature-replace").as_deref(), Some(&b"1"[..]));
}

#[test]
fn peers_are_measured_when_domain_0_asks() {
    let pages = crate::mesh::fixture::Pages::new(4);
    let (members, mut controls) = crate::mesh::fixture::gather_all(&pages, 3);
    let mut control = controls.remove(0);
    let mut kernels: Vec<_> = members
        .into_iter()
        .map(|(platform, mesh)| {
            let mut kernel = Kernel::new(platform, Some(mesh), Pace::Poll);
            kernel.reporting = false;
            (kernel, crate::programs::exchange::Exchange::new())
        })
        .collect();
    control.sender.try_send(&[kind::MEASURE, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut said = Vec::new();
    for round in 0..1000 {
        for (kernel, exchange) in &mut kernels {
            kernel.round(&mut Quiet(exchange));
        }
        if round == 20 {
            // The slot that is asked first goes, in the middle of it.
            control.sender.try_send(&[kind::PEER_DOWN, 3, 0, 0, 0, 0, 0]).unwrap();
        }
        said.extend(control.receiver.try_receive().unwrap());
    }
    let about: Vec<_> = said.iter().filter(|said| said[0] == kind::MEASURE).map(|said| said[1]).collect();
    assert_eq!(about, [2, kind::MEASURED_ALL]);
}

/// The exchange, as far as it listens.
struct Quiet<'a>(&'a mut crate::programs::exchange::Exchange);

impl Program<Fake> for Quiet<'_> {
    fn message(&mut self, kernel: &mut Kernel<Fake>, slot: usize, message: &Message) {
        self.0.message(kernel, slot, message);
    }
}

#[test]
fn a_watchdog_is_fed_in_time_and_by_the_loop_alone() {
    let (mut kernel, mut diary) = alone();
    kernel.watchdog = Watchdog::from_option(Some("2"));
    let ms = kernel.platform.ticks_per_millisecond();
    kernel.watchdog.feed(&kernel.platform);
    assert_eq!(kernel.round(&mut diary), Round::Quiet(Some(kernel.platform.now() + 500 * ms)));
    for _ in 0..10 {
        kernel.platform.switch().advance(400 * ms);
        kernel.round(&mut diary);
    }
    let fed = kernel.platform.fed.take();
    assert_eq!((fed[0].1, fed[1].1), (0, 1), "the first makes it");
    assert!(fed.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 1000 * ms) && fed.len() >= 5, "{fed:?}");
    let (mut kernel, mut diary) = alone();
    kernel.watchdog = Watchdog::from_option(None);
    assert_eq!(kernel.round(&mut diary), Round::Quiet(None));
    assert!(kernel.platform.fed.take().is_empty());
}
