//! The control program as a whole, over a fake hypervisor, with a toolstack and guests played by the tests.

mod channels;
mod consoles;
mod cores;
mod devices;
mod knowing;
mod meeting;
mod policies;
mod repeats;
mod replacing;
mod requests;
mod runs;
mod stores;
mod wear;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use abi::control::frame::{self, Decoder};
use abi::control::hypercall::{DomainState, ExitKind};
use abi::control::wire::{
    Domain, Event, GuestConfig, MachineConfig, Paging, Refusal, Reply, Request, State, ToControl,
    ToToolstack, VERSION, Virt,
};
use abi::mesh::kind;
use io_rings::bytes::{Reader, Writer};
use io_rings::hostile::{Liar, SharedPage as _};
use io_rings::urpc::{Message, Receiver, Sender};
use proptest::prelude::*;

use super::fake::Fake;
use super::pages::Slot;
use super::*;

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
    screen: Writer<'static, 2048>,
    keys: Reader<'static, 1024>,
}

fn guest(name: &str, core: Option<u32>) -> GuestConfig {
    GuestConfig {
        name: name.into(),
        image: "hello".into(),
        cores: core.into_iter().collect(),
        vcpus: 1,
        memory_mib: 2,
        mesh: true,
        virt: Virt::Para,
        paging: Paging::Ept,
        ..GuestConfig::default()
    }
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
        let (keys, screen) = self.control.pages.guest(slot).unwrap().console.guest();
        Inside {
            screen,
            keys,
            to_control: Sender::new(&pair.downwards),
            from_control: Receiver::new(&pair.upwards),
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
