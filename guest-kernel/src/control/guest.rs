//! The guests domain 0 has made, each in its slot until it is destroyed.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::control::hypercall::{CrashRecord, DomainInfo, DomainState};
use abi::control::wire::{GuestConfig, Kept, State};
use abi::mesh::MAX_SLOTS;
use abi::xen::DomId;
use abi::xen::event_channel::Port;

use super::accounts::Accounts;
use super::console::Console;
use super::journal::GuestLog;
use super::link::{Link, Report};
use super::pages::Slot;

/// One guest.
pub struct Guest {
    /// Its domain id.
    pub domain: DomId,
    /// Its name.
    pub name: String,
    /// What it was made of.
    pub config: GuestConfig,
    /// The hypervisor's cores that it has, ascending; that of virtual CPU 0 is its slot (see [`super::cores`]).
    pub cores: Vec<u32>,
    /// When it was started.
    pub started: u64,
    /// How often in a row it, and those before it of its name, came to an end soon after the start.
    pub quick_ends: u32,
    /// When it stopped; 0: it has not.
    pub stopped_at: u64,
    /// How often those before it of its name were created again.
    pub restarts: u32,
    /// When the one before it of its name stopped, until it has said its first word.
    pub ended_at: Option<u64>,
    /// How long it took from there to that word.
    pub recovery_ticks: Option<u64>,
    /// Its state when we last looked.
    pub state: State,
    /// How it is kept, while a core of its is offline.
    pub kept: Option<Kept>,
    /// It was asked to suspend itself, and then not waited for: should it do so late, it goes on at once.
    pub was_called_off: bool,
    /// What was recorded when it crashed, or when the one before it of its name did that it is the restart of.
    pub crash: Option<Box<CrashRecord>>,
    /// Its domain is no more: it was to be restarted, and could not be. It is kept for what it has left.
    pub is_remains: bool,
    /// Its console.
    pub console: Console,
    /// Its lines in the machine's log.
    pub log: GuestLog,
    /// Our channel with it, unless it is dead or has broken the rules.
    pub link: Option<Link>,
    /// The figures it last reported.
    pub report: Report,
    /// Whose time it was on its core, as it last told.
    pub accounts: Accounts,
    /// Its ports that wait for older guests it was not told of, by their slots.
    pub spare: Vec<(Slot, Port)>,
    /// It is one of the boot configuration's.
    pub from_boot: bool,
}

impl Guest {
    /// It has said something, at `now`. What there is to tell of it, where it is the first word after the end of the one
    /// before it.
    pub fn spoke(&mut self, now: u64) -> Option<String> {
        let ticks = now.saturating_sub(self.ended_at.take()?);
        self.recovery_ticks = Some(ticks);
        Some(format!("{} speaks again, {ticks} ticks after its end", self.name))
    }

    /// Whether it may still run.
    pub fn is_alive(&self) -> bool {
        matches!(self.state, State::Running | State::Paused | State::Kept)
    }
}

/// A domain's state, as a person sees it.
pub fn state(info: &DomainInfo) -> State {
    match DomainState::from_u32(info.state) {
        Some(DomainState::Running) => State::Running,
        Some(DomainState::Shutdown) => State::Shutdown(info.reason),
        Some(DomainState::Crashed) => State::Crashed,
        // Domain 0 starts what it builds in one step, so nobody sees one that is only built.
        Some(DomainState::Paused | DomainState::Building) | None => State::Paused,
    }
}

/// All guests, by slot.
#[derive(Default)]
pub struct Guests {
    slots: Vec<Option<Guest>>,
}

impl Guests {
    /// Puts a guest into a slot.
    pub fn put(&mut self, slot: Slot, guest: Guest) {
        if slot < MAX_SLOTS && self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(guest);
        }
    }

    /// Takes the guest out of its slot.
    pub fn take(&mut self, slot: Slot) -> Option<Guest> {
        self.slots.get_mut(slot)?.take()
    }

    /// The guest in this slot.
    pub fn get(&self, slot: Slot) -> Option<&Guest> {
        self.slots.get(slot)?.as_ref()
    }

    /// The guest in this slot.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Guest> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The slot of the guest of this name.
    pub fn find(&self, name: &str) -> Option<Slot> {
        self.iter().find_map(|(slot, guest)| (guest.name == name).then_some(slot))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Guest)> {
        self.slots.iter().enumerate().filter_map(|(slot, guest)| Some((slot, guest.as_ref()?)))
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Guest)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, guest)| Some((slot, guest.as_mut()?)))
    }
}
