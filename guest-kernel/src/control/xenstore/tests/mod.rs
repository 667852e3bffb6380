//! The store, with guests played by the tests.

mod kills;
mod model;
mod requests;
mod rings;
mod transactions;
mod watches;

use abi::xen::DomId;
use abi::xen::xs_wire::{Header, kind};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use io_rings::bytes::XenstorePage;

use super::layout::Newcomer;
use super::link::PageRing;
use super::*;
use crate::xenstore::wire::{Assembler, ByteRing, Message, PageEnd};

/// A store with guests 1, 2, ...
pub struct Machine {
    pub store: Xenstore<PageRing>,
    pub guests: Vec<Guest>,
    pub notified: Vec<Port>,
}

/// A guest at its end of the ring.
pub struct Guest {
    pub domain: DomId,
    pub page: &'static XenstorePage,
    pub end: PageEnd,
    pub input: Assembler,
    pub next: u32,
    pub events: Vec<String>,
}

pub fn newcomer(domain: DomId) -> Newcomer<'static> {
    Newcomer {
        domain,
        name: "web",
        uuid: [domain as u8; 16],
        memory_kib: 65536,
        vcpus: 2,
        console_frame: 0xffffe,
        console_port: 1,
        store_frame: 0xffffd,
        store_port: 2,
    }
}

impl Machine {
    pub fn new(guests: DomId) -> Self {
        let mut machine = Self { store: Xenstore::new(), guests: Vec::new(), notified: Vec::new() };
        (1..=guests).for_each(|domain| machine.add(domain));
        machine
    }

    pub fn add(&mut self, domain: DomId) {
        let page: &'static XenstorePage = Box::leak(Box::new(XenstorePage::new()));
        self.store.introduce(&newcomer(domain), PageRing::new(page), 100 + Port::from(domain)).unwrap();
        self.guests.push(Guest {
            domain,
            page,
            end: PageEnd::guest(page),
            input: Assembler::default(),
            next: 1,
            events: Vec::new(),
        });
    }

    pub fn turn(&mut self) -> bool {
        let notified = &mut self.notified;
        self.store.turn(|port| notified.push(port))
    }

    fn guest(&mut self, domain: DomId) -> &mut Guest {
        self.guests.iter_mut().find(|guest| guest.domain == domain).unwrap()
    }

    /// Asks in a transaction, and waits for the answer; events that come meanwhile are kept.
    pub fn ask_in(&mut self, tx: u32, domain: DomId, kind: u32, payload: &[u8]) -> Result<Vec<u8>, String> {
        let guest = self.guest(domain);
        let request = guest.next;
        guest.next += 1;
        let bytes = Message::bytes(kind, request, tx, &[payload]);
        let mut bytes = bytes.as_slice();
        for _ in 0..100 {
            let guest = self.guest(domain);
            bytes = &bytes[guest.end.write(bytes)..];
            self.turn();
            if let Some(Message { header, payload }) = self.guest(domain).receive() {
                assert!(bytes.is_empty());
                assert_eq!((header.request, header.transaction), (request, tx));
                return if header.kind == kind {
                    Ok(payload)
                } else {
                    assert_eq!(header.kind, kind::ERROR);
                    Err(String::from_utf8(payload).unwrap().trim_end_matches('\0').to_string())
                };
            }
        }
        panic!("no answer");
    }

    pub fn ask(&mut self, domain: DomId, kind: u32, payload: &str) -> Result<String, String> {
        self.ask_in(0, domain, kind, payload.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// The answer is that error.
    pub fn fails(&mut self, domain: DomId, kind: u32, payload: &str, error: &str) {
        assert_eq!(self.ask(domain, kind, payload).unwrap_err(), error, "{kind} {payload:?}");
    }

    pub fn write(&mut self, domain: DomId, path: &str, value: &str) -> Result<String, String> {
        self.ask(domain, kind::WRITE, &[path, value].join("\0"))
    }

    pub fn read(&mut self, domain: DomId, path: &str) -> Result<String, String> {
        self.ask(domain, kind::READ, &[path, "\0"].concat())
    }

    /// What a guest's watches told since the last time.
    pub fn events(&mut self, domain: DomId) -> Vec<String> {
        for _ in 0..100 {
            self.turn();
            assert_eq!(self.guest(domain).receive().map(|message| message.header), None::<Header>);
        }
        core::mem::take(&mut self.guest(domain).events)
    }
}

impl Guest {
    /// The next answer; events are put aside.
    pub fn receive(&mut self) -> Option<Message> {
        while let Some(message) = self.input.take(&mut self.end).unwrap() {
            if message.header.kind != kind::WATCH_EVENT {
                return Some(message);
            }
            assert_eq!((message.header.request, message.header.transaction), (0, 0));
            let text = String::from_utf8(message.payload).unwrap();
            self.events.push(text.trim_end_matches('\0').replace('\0', " "));
        }
        None
    }
}
