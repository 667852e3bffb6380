//! The control program: domain 0's own, on core 0. It decides what the hypervisor only does.
//!
//! It builds the guests of the boot configuration and those the toolstack asks for ([`builder`], out of [`images`],
//! [`unpack`] and [`image`]; [`policy`] when they end), owns the memory of all mesh channels ([`pages`]) and says who may use them when ([`membership`]),
//! takes cores out of service and puts them back ([`cores`], [`leaving`]), keeps the guests' consoles ([`console`]), and answers the toolstack on the second serial port ([`session`],
//! [`requests`]). It holds no memory of a guest's, moves no message between guests, and touches no device but its
//! serial port ([`serial`]).
//!
//! [`Control`] is one state and one bounded step, [`Control::turn`]: whatever it waits for is in the state, so that
//! nobody can hold it up. A guest's console, a guest's messages and the toolstack's frames are allegations; each has a
//! bounded share of a turn and of the memory. All of it runs on the host over a fake [`hypervisor`]; what runs in
//! domain 0 besides is `atoll` (the hypercalls) and `src/bin/control.rs` (the loop).

pub mod accounts;
mod acpi;
mod admission;
pub mod archive;
#[cfg(feature = "bare")]
pub mod atoll;
pub mod bench;
mod boot;
pub mod builder;
pub mod console;
mod cores;
pub mod crash;
mod devices;
pub mod guest;
pub mod hypervisor;
pub mod image;
pub mod images;
pub mod journal;
mod knowing;
mod leaving;
mod life;
pub mod link;
pub mod membership;
pub mod pages;
pub mod pc;
mod policy;
pub mod refusal;
mod replacing;
mod requests;
pub mod serial;
pub mod session;
pub mod start_info;
mod stores;
pub mod tail;
pub mod transfer;
mod turn;
pub mod unpack;
pub mod xenstore;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use abi::control::wire::{Event, Refusal};

use archive::Archive;
use bench::Bench;
use cores::Cores;
use guest::Guests;
use hypervisor::Hypervisor;
use images::Images;
use journal::Journal;
use knowing::Knowing;
use membership::Membership;
use pages::Pages;
use session::Session;
use stores::Stores;
pub use turn::Rest;

/// What domain 0 is called.
pub const OWN_NAME: &str = "Domain-0";

/// All that domain 0 knows.
pub struct Control<H> {
    hypervisor: H,
    images: Images,
    pages: Pages,
    guests: Guests,
    cores: Cores,
    membership: Membership,
    knowing: Knowing,
    session: Session,
    stores: Stores,
    /// Consoles the toolstack follows.
    follows: Vec<Follow>,
    /// Events that still have to go out.
    news: Vec<Event>,
    journal: Journal,
    bench: Bench,
    boot: BootReport,
    tsc_khz: u64,
    /// A domain may have stopped since we last looked.
    domains_changed: bool,
    /// The machine shall stop: with this code, and by this tick even if the line to the toolstack is stuck.
    stopping: Option<(u8, u64)>,
}

/// A console that the toolstack follows.
struct Follow {
    name: String,
    /// Position of the next byte to send.
    next: u64,
}

/// How the start went.
#[derive(Default)]
struct BootReport {
    /// Guests that could not be started, and why.
    failed: Vec<(String, Refusal)>,
    /// When all others ran.
    guests_running_tsc: u64,
    stop_when_done: bool,
}

impl<H: Hypervisor> Control<H> {
    /// Domain 0 at its start, with this boot archive.
    pub fn new(mut hypervisor: H, archive: &'static [u8]) -> Self {
        let machine = hypervisor.machine_info().unwrap_or_default();
        let knowing = Knowing::new(&mut hypervisor, &machine);
        Self {
            hypervisor,
            images: Images::new(Archive::read(archive)),
            pages: Pages::new(machine.cores as usize),
            guests: Guests::default(),
            cores: Cores::default(),
            membership: Membership::default(),
            knowing,
            session: Session::default(),
            stores: Stores::default(),
            follows: Vec::new(),
            news: Vec::new(),
            journal: Journal::default(),
            bench: Bench::default(),
            boot: BootReport::default(),
            tsc_khz: u64::from(machine.tsc_khz).max(1),
            domains_changed: false,
            stopping: None,
        }
    }

    /// Takes a byte from the toolstack, and does what it asks for, where that byte completes a request.
    pub fn receive(&mut self, byte: u8) {
        let arrived = self.hypervisor.ticks();
        if let Some((ticket, request)) = self.session.receive(byte) {
            let result = self.answer(request, arrived);
            self.session.reply(ticket, result);
        }
    }

    /// Whether a byte from the toolstack may be taken now: the answer, if it asks for one, will have room.
    pub fn wants_input(&self) -> bool {
        self.session.wants_input()
    }

    /// The next byte for the toolstack.
    pub fn transmit(&mut self) -> Option<u8> {
        self.session.transmit()
    }

    /// Whether bytes wait for the toolstack.
    pub fn has_output(&self) -> bool {
        self.session.has_output()
    }

    /// `VIRQ_DOM_EXC` came: the next turn looks which domain has stopped.
    pub fn domains_changed(&mut self) {
        self.domains_changed = true;
    }

    /// The tick `milliseconds` after `now`.
    fn after(&self, now: u64, milliseconds: u64) -> u64 {
        now.saturating_add(self.tsc_khz.saturating_mul(milliseconds))
    }
}
