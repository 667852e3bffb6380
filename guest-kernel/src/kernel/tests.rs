//! The loop, on thin air.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use abi::mesh::kind;

use super::*;
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
