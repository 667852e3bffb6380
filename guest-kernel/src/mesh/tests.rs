//! Meshes of two and three guests on thin air, with a domain 0 that the tests play.

use std::rc::Rc;
use std::vec::Vec;

use abi::mesh::kind;
use io_rings::urpc::{Receiver, Sender};

use super::fixture::{Control, Pages, info, page};
use super::*;
use crate::platform::fake::{Fake, Switch};

/// Slots 1 and 2 with domains 1 and 2: the first runs alone, the second comes later.
struct Pair {
    switch: Rc<Switch>,
    pages: Pages,
    control: Control,
    old: (Fake, Mesh<'static>),
    new: (Fake, Mesh<'static>),
}

fn pair() -> Pair {
    let switch = Switch::new();
    let pages = Pages::new(3);
    let old = switch.domain(1);
    let port = switch.alloc_unbound(1, 0);
    let old_mesh =
        Mesh::new(&page(1, 3, &[(0, info(0, port)), (1, info(1, 0))]), |slot| pages.between(1, slot))
            .unwrap();
    let new = switch.domain(2);
    let control_port = switch.alloc_unbound(2, 0);
    let port = switch.alloc_unbound(2, 1);
    let place = [(0, info(0, control_port)), (1, info(1, port)), (2, info(2, 0))];
    let new_mesh = Mesh::new(&page(2, 3, &place), |slot| pages.between(2, slot)).unwrap();
    let mut control = pages.control(1);
    control.sender.try_send(&[kind::PEER_UP, 2, 2, u64::from(port), 0, 0, 0]).unwrap();
    Pair { switch, pages, control, old: (old, old_mesh), new: (new, new_mesh) }
}

/// The pair, after they have met.
fn met() -> Pair {
    let mut pair = pair();
    assert_eq!(pair.old.1.poll(&pair.old.0), Some(News::Up(2)));
    pair.old.1.flush(&pair.old.0);
    assert_eq!(pair.new.1.poll(&pair.new.0), Some(News::Up(1)));
    pair
}

const HELLO: Message = [kind::PROGRAM, 1, 2, 3, 4, 5, 6];

#[test]
fn the_older_binds_and_greets_and_both_can_talk() {
    let mut pair = pair();
    assert_eq!(pair.new.1.send(1, &HELLO), Err(NotSent::NoPeer), "not before it is greeted");
    assert_eq!(pair.new.1.poll(&pair.new.0), None);
    assert_eq!(pair.old.1.poll(&pair.old.0), Some(News::Up(2)));
    assert_eq!(pair.new.1.poll(&pair.new.0), Some(News::Up(1)));
    pair.new.1.send(1, &HELLO).unwrap();
    pair.old.1.send(2, &HELLO).unwrap();
    assert_eq!(pair.old.1.poll(&pair.old.0), Some(News::Message(2, HELLO)));
    assert_eq!(pair.new.1.poll(&pair.new.0), Some(News::Message(1, HELLO)));
    assert_eq!(pair.old.1.counts(), Counts { received: 1, sent: 1, lost: 0, liars: 0 });
    assert_eq!(pair.old.1.live().collect::<Vec<_>>(), [2]);
}

#[test]
fn only_a_sleeping_peer_costs_an_event_and_one_per_batch() {
    let mut pair = met();
    let before = pair.switch.sent.get();
    pair.old.1.send(2, &HELLO).unwrap();
    pair.old.1.flush(&pair.old.0);
    assert_eq!(pair.switch.sent.get(), before, "it polls");
    assert!(!pair.new.1.sleep(), "news is there");
    assert!(pair.new.1.poll(&pair.new.0).is_some());
    assert!(pair.new.1.sleep());
    for _ in 0..3 {
        pair.old.1.send(2, &HELLO).unwrap();
    }
    pair.old.1.flush(&pair.old.0);
    pair.old.1.flush(&pair.old.0);
    assert_eq!(pair.switch.sent.get(), before + 1);
    let mut ports = std::vec![];
    pair.new.0.take_events(&mut |port| ports.push(port));
    assert!(ports.contains(&pair.new.1.port(1).unwrap()));
}

#[test]
fn a_peer_that_goes_is_given_up_and_its_next_life_starts_afresh() {
    let mut pair = met();
    pair.old.1.send(2, &HELLO).unwrap();
    pair.control.sender.try_send(&[kind::PEER_DOWN, 2, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(pair.old.1.poll(&pair.old.0), Some(News::Down(2)));
    assert_eq!(pair.old.1.send(2, &HELLO), Err(NotSent::NoPeer));
    assert_eq!(pair.control.receiver.try_receive().unwrap().unwrap()[..2], [kind::PEER_DOWN_ACK, 2]);
    assert_eq!(pair.old.1.port(2), None);

    let window = pair.pages.between(1, 2);
    window.upwards.reset();
    window.downwards.reset();
    let next = pair.switch.domain(7);
    let control_port = pair.switch.alloc_unbound(7, 0);
    let port = pair.switch.alloc_unbound(7, 1);
    let place = [(0, info(0, control_port)), (1, info(1, port)), (2, info(7, 0))];
    let mut next_mesh = Mesh::new(&page(2, 3, &place), |slot| pair.pages.between(2, slot)).unwrap();
    pair.control.sender.try_send(&[kind::PEER_UP, 2, 7, u64::from(port), 0, 0, 0]).unwrap();
    assert_eq!(pair.old.1.poll(&pair.old.0), Some(News::Up(2)));
    assert_eq!(next_mesh.poll(&next), Some(News::Up(1)));
}

#[test]
fn a_peer_to_be_awaited_greets_on_fresh_pages() {
    let mut pair = met();
    let window = pair.pages.between(1, 2);
    let port = pair.switch.alloc_unbound(1, 2);
    pair.control.sender.try_send(&[kind::PEER_AWAIT, 2, 2, u64::from(port), 0, 0, 0]).unwrap();
    assert_eq!(pair.old.1.poll(&pair.old.0), None);
    assert!(!pair.old.1.is_live(2));
    window.upwards.reset();
    window.downwards.reset();
    Sender::new(&window.downwards).try_send(&[kind::GREET, 2, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(pair.old.1.poll(&pair.old.0), Some(News::Up(2)));
    assert_eq!(pair.old.1.port(2), Some(port));
}

#[test]
fn a_liar_is_dropped_and_reported_and_the_others_go_on() {
    let mut pair = met();
    pair.old.1.note_lost(2);
    // It acknowledges messages that were never sent.
    let stolen = &pair.pages.between(1, 2).upwards;
    let (mut sender, mut receiver) = (Sender::new(stolen), Receiver::new(stolen));
    for _ in 0..126 {
        sender.try_send(&HELLO).unwrap();
        receiver.try_receive().unwrap();
    }
    while pair.old.1.send(2, &HELLO).is_ok() {}
    assert_eq!(pair.old.1.send(2, &HELLO), Err(NotSent::Liar));
    assert_eq!(pair.old.1.poll(&pair.old.0), Some(News::Liar(2)));
    assert_eq!(pair.old.1.counts().lost, 0, "a liar's losses are its own");
    assert_eq!(pair.old.1.counts().liars, 1);
    assert!(pair.old.1.report_is_due());
    pair.old.1.report();
    let report = pair.control.receiver.try_receive().unwrap().unwrap();
    assert_eq!((report[0], report[4]), (kind::REPORT, 1));
    assert!(!pair.old.1.report_is_due());
}

#[test]
fn nothing_domain_zero_says_can_break_the_mesh() {
    let mut pair = met();
    for slot in [0, 1, 3, 31, 32, u64::MAX] {
        for what in [kind::PEER_UP, kind::PEER_DOWN, kind::PEER_AWAIT] {
            pair.control.sender.try_send(&[what, slot, u64::MAX, u64::MAX, 0, 0, 0]).unwrap();
            assert_eq!(pair.old.1.poll(&pair.old.0), None);
        }
    }
    pair.control.sender.try_send(&[kind::PEER_UP, 2, 99, 99, 0, 0, 0]).unwrap();
    assert_eq!(pair.old.1.poll(&pair.old.0), None, "no such port to bind to");
    assert!(!pair.old.1.is_live(2));
}

#[test]
fn a_page_that_contradicts_itself_gives_no_mesh() {
    let pages = Pages::new(3);
    assert!(Mesh::new(&page(3, 3, &[]), |slot| pages.between(1, slot)).is_none());
    assert!(Mesh::new(&page(1, 33, &[]), |slot| pages.between(1, slot)).is_none());
}

#[test]
fn what_the_channel_cannot_take_waits_its_turn() {
    let mut pair = met();
    for number in 0..100 {
        pair.old.1.send(2, &[kind::PROGRAM, number, 0, 0, 0, 0, 0]).unwrap();
    }
    assert!(pair.old.1.has_backlog());
    for number in 0..100 {
        let Some(News::Message(1, message)) = pair.new.1.poll(&pair.new.0) else {
            panic!("message {number}")
        };
        assert_eq!(message[1], number);
        pair.old.1.flush(&pair.old.0);
    }
    assert!(!pair.old.1.has_backlog());
}
