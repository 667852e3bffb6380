//! Rings: guests that do not read, break the rules, begin anew, or flood.

use abi::xen::xs_wire::{connection, fault};
use io_rings::hostile::{Liar, SharedPage};
use proptest::prelude::*;

use super::*;

#[test]
fn the_guest_is_notified_when_bytes_moved_and_not_otherwise() {
    let mut machine = Machine::new(2);
    assert!(!machine.turn());
    assert!(machine.notified.is_empty());
    machine.guests[1].end.write(&Message::bytes(kind::READ, 1, 0, &[b"name\0"])[..7]);
    machine.turn();
    machine.read(1, "name").unwrap();
    assert!(machine.notified.contains(&101));
}

#[test]
fn a_header_too_long_ends_that_guests_conversation_only() {
    let mut machine = Machine::new(2);
    machine.ask(1, kind::WATCH, "data\0t\0").unwrap();
    machine.write(1, "data/said", "before").unwrap();
    machine.events(1);
    let mut header = Message::bytes(kind::READ, 1, 0, &[]);
    header[12..].copy_from_slice(&u32::MAX.to_le_bytes());
    machine.guests[0].end.write(&header);
    machine.turn();
    assert_eq!(machine.guests[0].page.error(), fault::PROTO);
    machine.guests[0].end.write(&Message::bytes(kind::READ, 1, 0, &[b"name\0"]));
    assert!(!machine.turn());
    assert_eq!(machine.read(2, "name").as_deref(), Ok("web"));
    begin_anew(&mut machine);
    assert_eq!(machine.read(1, "data/said").as_deref(), Ok("before"), "what was acknowledged stays");
    machine.write(1, "data/x", "x").unwrap();
    assert!(machine.events(1).is_empty(), "its watches are gone");
}

fn begin_anew(machine: &mut Machine) {
    let guest = &mut machine.guests[0];
    guest.page.set_connection(connection::RECONNECT);
    machine.turn();
    let guest = &mut machine.guests[0];
    assert_eq!((guest.page.connection(), guest.page.error()), (connection::CONNECTED, 0));
    guest.end = PageEnd::guest(guest.page);
    guest.input = Assembler::default();
}

#[test]
fn indices_that_lie_end_it_too() {
    let mut machine = Machine::new(2);
    machine.guests[0].page.words().nth(1).unwrap().set(5000);
    machine.turn();
    assert_eq!(machine.guests[0].page.error(), fault::RINGIDX);
    assert_eq!(machine.read(2, "name").as_deref(), Ok("web"));
    begin_anew(&mut machine);
    assert_eq!(machine.read(1, "name").as_deref(), Ok("web"));
}

#[test]
fn whoever_does_not_read_is_not_listened_to_for_ever() {
    let mut machine = Machine::new(2);
    let request = Message::bytes(kind::READ, 1, 0, &[b"memory/static-max\0"]);
    let mut taken = 0;
    for _ in 0..1000 {
        taken += machine.guests[0].end.write(&request);
        machine.turn();
    }
    assert!(taken < 8192, "{taken}");
    assert_eq!(machine.read(2, "name").as_deref(), Ok("web"));
    let mut answers = 0;
    for _ in 0..100 {
        while machine.guests[0].receive().is_some() {
            answers += 1;
        }
        machine.turn();
    }
    assert_eq!(answers, taken / request.len());
}

#[test]
fn events_nobody_reads_take_bounded_memory() {
    let mut machine = Machine::new(2);
    machine.ask(1, kind::WATCH, &["data\0", &"t".repeat(3000), "\0"].concat()).unwrap();
    for number in 0..2000 {
        machine.store.write(&alloc::format!("/local/domain/1/data/{number}"), b"").unwrap();
    }
    assert!(machine.store.store.memory_left(1) < 10_000);
    assert!(machine.store.store.sessions[&1].bytes() <= quota::MEMORY);
    machine.fails(2, kind::READ, "data/none\0", "ENOENT");
}

/// Streams that have broken stores before, each with whether the conversation goes on after it.
#[test]
fn streams_that_break_careless_stores() {
    let long = "x".repeat(4094);
    let deep = "/a".repeat(1024);
    let messages = |kind: u32, tx: u32, payload: &str| Message::bytes(kind, 0, tx, &[payload.as_bytes()]);
    let corpus: [(&str, Vec<u8>, bool); 10] = [
        ("no payload at all, for every kind", (0..32).flat_map(|kind| messages(kind, 0, "")).collect(), true),
        ("the longest payload, without a zero", messages(kind::WRITE, 0, &[&long, "xx"].concat()), true),
        ("the longest payload, all zeroes", messages(kind::SET_PERMS, 0, &"\0".repeat(4096)), true),
        ("a path as deep as can be", messages(kind::MKDIR, 0, &[&deep[1..], "\0"].concat()), true),
        ("a path too long", messages(kind::READ, 0, &[&long, "\0"].concat()), true),
        ("the end of a transaction that is none", messages(kind::TRANSACTION_END, u32::MAX, "T\0"), true),
        ("its own home removed", messages(kind::RM, 0, "/local/domain/1\0"), true),
        ("the root removed", messages(kind::RM, 0, "/\0"), true),
        ("one byte too many announced", [&messages(2, 0, "")[..12], &4097u32.to_le_bytes()].concat(), false),
        ("all ones", alloc::vec![0xff; 64], false),
    ];
    for (name, stream, goes_on) in corpus {
        let mut machine = Machine::new(2);
        let mut rest = stream.as_slice();
        for _ in 0..200 {
            rest = &rest[machine.guests[0].end.write(rest)..];
            machine.turn();
            while goes_on && machine.guests[0].receive().is_some() {}
        }
        assert!(rest.is_empty(), "{name}");
        assert_eq!(machine.guests[0].page.error() == 0, goes_on, "{name}");
        assert_eq!(machine.read(2, "name").as_deref(), Ok("web"), "{name}");
        if goes_on {
            assert_eq!(machine.read(1, "name").as_deref(), Ok("web"), "{name}");
        }
    }
}

proptest! {
    /// Any bytes in any pieces: the store answers or ends it, and the neighbour notices nothing.
    #[test]
    fn any_bytes(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..80),
                (0u32..24, 0u32..4, "[a-z/@]{0,12}\0?[nrwb]?[0-9]{0,3}\0?").prop_map(|(kind, tx, text)| {
                    Message::bytes(kind, 9, tx, &[text.as_bytes()])
                }),
            ],
            0..60,
        ),
    ) {
        let mut machine = Machine::new(2);
        for piece in pieces {
            machine.guests[0].end.write(&piece);
            machine.turn();
            if machine.guests[0].page.error() == 0 {
                while machine.guests[0].receive().is_some() {}
            }
        }
        prop_assert_eq!(machine.read(2, "name"), Ok("web".to_string()));
    }

    /// Words of the page change under the store's feet.
    #[test]
    fn any_words(seed: u64) {
        let (mut machine, mut liar) = (Machine::new(2), Liar::new(seed));
        for _ in 0..50 {
            machine.guests[0].end.write(&Message::bytes(kind::READ, 1, 0, &[b"name\0"]));
            liar.scribble(machine.guests[0].page);
            machine.turn();
        }
        prop_assert_eq!(machine.read(2, "name"), Ok("web".to_string()));
    }
}
