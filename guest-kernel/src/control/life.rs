//! The life of a guest: created, paused, unpaused, stopped by itself or by the hypervisor, destroyed.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::iter;

use abi::control::wire::{Event, GuestConfig, Refusal, Reply, State};
use abi::xen::DomId;

use super::accounts::Accounts;
use super::admission::no_such_core;
use super::builder::{self, Plan};
use super::console::Console;
use super::guest::{self, Guest};
use super::hypervisor::Hypervisor;
use super::journal::GuestLog;
use super::link::{Link, Report};
use super::pages::Slot;
use super::refusal::{hypercall_failed, no_such_guest, refuse};
use super::{Control, OWN_NAME, crash};

/// Messages a channel can hold: what a dead guest can have left in it.
const CHANNEL_MESSAGES: usize = 64;

/// The other members of the mesh, as a newcomer finds them.
#[derive(Default)]
struct Members {
    peers: Vec<(Slot, DomId)>,
    strangers: Vec<(Slot, DomId)>,
}

impl<H: Hypervisor> Control<H> {
    /// Creates and starts a guest. `arrived`: when somebody asked for it.
    pub(super) fn create(&mut self, config: &GuestConfig, arrived: u64) -> Result<Reply, Refusal> {
        self.check_name(&config.name)?;
        for image in iter::once(&config.image).chain(&config.ramdisk).chain(&config.disk) {
            self.images.find(image).ok_or_else(|| self.no_such_image(image))?;
        }
        let firmware =
            if config.firmware { self.images.find(&config.image).map_or(0, <[u8]>::len) } else { 0 };
        let disk = config.disk.as_deref().and_then(|name| self.images.find(name)).map_or(0, <[u8]>::len);
        self.check_memory(
            config.memory_mib.saturating_add((disk as u64 + firmware as u64).div_ceil(1 << 20) as u32),
        )?;
        self.check_devices(config)?;
        let cores = self.choose_cores(config)?;
        let home = cores.first().copied().unwrap_or_default();
        let slot = home as Slot;
        let own = self.pages.guest(slot).ok_or_else(|| no_such_core(home))?;
        own.console.reset();
        own.store.reset();
        let core = self.processor_of(slot).unwrap_or(home);
        let members = if config.mesh { self.make_fresh(slot)? } else { Members::default() };
        let plan = Plan {
            name: &config.name,
            image: self.images.find(&config.image).unwrap_or_default(),
            firmware: config.firmware,
            ramdisk: config.ramdisk.as_deref().and_then(|name| self.images.find(name)).unwrap_or_default(),
            disk: config.disk.as_deref().and_then(|name| self.images.find(name)).unwrap_or_default(),
            command_line: &config.command_line,
            memory_mib: config.memory_mib,
            cores: &cores,
            core,
            watchdog: config.watchdog,
            virt: config.virt,
            paging: config.paging,
            emulated_apic: config.emulated_apic,
            mesh: config.mesh,
            slot,
            peers: &members.peers,
            strangers: &members.strangers,
            knowledge: &self.knowing.knowledge,
        };
        let built = builder::build(&mut self.hypervisor, &self.pages, &plan)?;
        let started = self.hypervisor.ticks();
        let link = built.mesh.and_then(|port| Some(Link::new(self.pages.pair(0, slot)?, port)));
        if link.is_some() {
            let peers: Vec<Slot> = members.peers.iter().map(|(peer, _)| *peer).collect();
            self.membership.born(slot, &peers);
        }
        self.guests.put(
            slot,
            Guest {
                domain: built.domain,
                name: config.name.clone(),
                config: config.clone(),
                cores: cores.clone(),
                started,
                quick_ends: 0,
                stopped_at: 0,
                restarts: 0,
                ended_at: None,
                recovery_ticks: None,
                state: State::Running,
                kept: None,
                was_called_off: false,
                crash: None,
                is_remains: false,
                console: Console::new(own.console, built.console),
                log: GuestLog::new(arrived),
                link,
                report: Report::default(),
                accounts: Accounts::default(),
                spare: built.spare,
                from_boot: false,
            },
        );
        for (peer, port) in built.waiting {
            if let Some(link) = self.link(peer) {
                link.peer_up(slot, built.domain, port);
            }
        }
        self.introduce_to_store(
            built.domain,
            &config.name,
            (config.memory_mib, config.vcpus),
            slot,
            built.ports,
        );
        self.attach_devices(built.domain);
        // Should it have stopped already, the event that told so may have come before it was in the table.
        self.domains_changed = true;
        let cores = self.processors_of(cores);
        Ok(Reply::Created { domain: built.domain, cores, ticks: started.saturating_sub(arrived) })
    }

    /// Makes a slot's channels fresh: nobody has an end of these any more, since the slot is empty, and its peers' channels
    /// are fresh or left alone. Tells who the guest will know, and whom it may meet later.
    fn make_fresh(&mut self, slot: Slot) -> Result<Members, Refusal> {
        let window = self.pages.pair(0, slot).ok_or_else(|| no_such_core(slot as u32))?;
        window.reset();
        let peers = self.with_domains(self.membership.meetable(slot));
        let strangers = self.with_domains(self.membership.strangers(slot));
        for window in peers.iter().filter_map(|(peer, _)| self.pages.pair(slot, *peer)) {
            window.reset();
        }
        Ok(Members { peers, strangers })
    }

    /// Ends a guest for good; its slot is free when this returns.
    pub(super) fn destroy(&mut self, name: &str) -> Result<Reply, Refusal> {
        let slot = self.slot_of(name, "destroyed")?;
        self.end(slot)?;
        while self.send_followed() {}
        self.follows.retain(|follow| follow.name != name);
        Ok(Reply::Done)
    }

    /// Takes a guest out of its slot and its domain out of the machine: what is left of it.
    pub(super) fn end(&mut self, slot: Slot) -> Result<Guest, Refusal> {
        let gone = || refuse("the guest is gone", "`atoll list` shows those there are");
        let guest = self.guests.get(slot).ok_or_else(gone)?;
        let (domain, alive) = (guest.domain, guest.is_alive());
        if !guest.is_remains {
            self.hypervisor
                .domain_destroy(domain)
                .map_err(|error| hypercall_failed("destroying the domain", error))?;
        }
        if alive {
            self.part(slot);
        }
        if let Some(guest) = self.guests.get(slot).filter(|guest| !guest.is_remains) {
            self.detach_devices(guest.domain);
        }
        let mut guest = self.guests.take(slot).ok_or_else(gone)?;
        if !guest.is_remains {
            self.release_from_store(domain);
            self.hypervisor.close(guest.console.port());
        }
        guest.is_remains = true;
        Ok(guest)
    }

    /// Takes a guest off its core.
    pub(super) fn pause(&mut self, name: &str) -> Result<Reply, Refusal> {
        let domain = self.domain_in_state(name, State::Running, "paused")?;
        self.check_not_replacing(self.slot_of(name, "paused")?)?;
        self.hypervisor
            .domain_pause(domain)
            .map_err(|error| hypercall_failed("pausing the domain", error))?;
        self.set_state(name, State::Paused);
        Ok(Reply::Done)
    }

    /// Puts a guest back on its core.
    pub(super) fn unpause(&mut self, name: &str) -> Result<Reply, Refusal> {
        let domain = self.domain_in_state(name, State::Paused, "unpaused")?;
        if self
            .guests
            .find(name)
            .and_then(|slot| self.guests.get(slot))
            .is_some_and(|guest| guest.kept.is_some())
        {
            return Err(refuse(
                format!("`{name}` is kept by a core that is offline"),
                "`atoll core online` brings that back; then unpause it",
            ));
        }
        self.hypervisor
            .domain_unpause(domain)
            .map_err(|error| hypercall_failed("unpausing the domain", error))?;
        self.set_state(name, State::Running);
        Ok(Reply::Done)
    }

    /// Looks which guests have stopped since the last look.
    pub(super) fn notice_stopped(&mut self) {
        let now = self.hypervisor.ticks();
        self.go_on_replacing(now);
        let alive: Vec<(Slot, DomId)> = self
            .guests
            .iter()
            .filter(|(_, guest)| guest.is_alive() && guest.kept.is_none())
            .map(|(slot, guest)| (slot, guest.domain))
            .collect();
        let (mut stopped, mut told) = (Vec::new(), Vec::new());
        for (slot, domain) in alive {
            let Ok(info) = self.hypervisor.domain_info(domain) else { continue };
            let state = guest::state(&info);
            if info.domain != u32::from(domain) || !matches!(state, State::Shutdown(_) | State::Crashed) {
                continue;
            }
            if self.is_handing_over(domain) || self.is_suspension(domain, state) {
                continue;
            }
            self.part(slot);
            let Some(guest) = self.guests.get_mut(slot) else { continue };
            guest.state = state;
            guest.stopped_at = info.stopped_tsc;
            let name = guest.name.clone();
            let how = match state {
                State::Shutdown(reason) => format!("{name} shut down, {}", shutdown_reason(reason)),
                _ => match self.hypervisor.domain_crash(domain) {
                    Ok(record) => {
                        let cause = crash::cause(&record);
                        guest.crash = Some(Box::new(record));
                        format!("{name} crashed: {cause}")
                    }
                    Err(error) => format!("{name} crashed: no record of it ({error:?})"),
                },
            };
            told.push(how);
            self.news.push(Event::Stopped { name: name.clone(), state });
            stopped.push(name);
        }
        self.apply_policies(stopped);
        // The serial line is slow: who is to live again does before it is told why it died.
        for how in told {
            self.journal.say(&mut self.hypervisor, &how);
        }
    }

    /// A guest runs no more: its last words are heard and its peers told.
    fn part(&mut self, slot: Slot) {
        let Some(guest) = self.guests.get_mut(slot) else { return };
        self.stores.stopped(guest.domain);
        self.knowing.gone(slot);
        let Guest { name, console, log, .. } = guest;
        console
            .finish(&mut self.hypervisor, |hypervisor, line| log.line(hypervisor, name, line, self.tsc_khz));
        if let Some(mut link) = guest.link.take() {
            for _ in 0..CHANNEL_MESSAGES {
                match link.receive_last() {
                    Ok(Some(message)) => guest.report = Report::read(&message).unwrap_or(guest.report),
                    Ok(None) | Err(_) => break,
                }
            }
            self.hypervisor.close(link.port());
        }
        for survivor in self.membership.gone(slot) {
            if let Some(link) = self.link(survivor) {
                link.peer_down(slot);
            }
        }
    }

    /// Joins two guests that started as strangers: the older binds to a port of the newer.
    pub(super) fn introduce(&mut self, older: Slot, newer: Slot) {
        let (Some(window), Some(old), Some(new)) =
            (self.pages.pair(older, newer), self.guests.get(older), self.guests.get(newer))
        else {
            return;
        };
        let (old, new, spare) = (old.domain, new.domain, &new.spare);
        let Some(&(_, port)) = spare.iter().find(|(stranger, _)| *stranger == older) else { return };
        window.reset();
        // First whoever waits, though either order would do: the greeting stays in the page until it is read.
        if let Some(link) = self.link(newer) {
            link.peer_await(older, old, port);
        }
        if let Some(link) = self.link(older) {
            link.peer_up(newer, new, port);
        }
    }

    /// These slots, with the domains in them.
    fn with_domains(&self, slots: Vec<Slot>) -> Vec<(Slot, DomId)> {
        slots.into_iter().filter_map(|slot| Some((slot, self.guests.get(slot)?.domain))).collect()
    }

    /// Our channel with a guest.
    fn link(&mut self, slot: Slot) -> Option<&mut Link> {
        self.guests.get_mut(slot)?.link.as_mut()
    }

    /// The slot of a guest that is to be `verb`ed, which domain 0 never is.
    fn slot_of(&self, name: &str, verb: &str) -> Result<Slot, Refusal> {
        if name == OWN_NAME {
            return Err(refuse(
                format!("{OWN_NAME} controls the machine and cannot be {verb}"),
                "name a guest; `atoll down` stops the whole machine",
            ));
        }
        self.guests.find(name).ok_or_else(|| no_such_guest(name))
    }

    pub(super) fn domain_in_state(&mut self, name: &str, state: State, verb: &str) -> Result<DomId, Refusal> {
        let slot = self.slot_of(name, verb)?;
        self.notice_stopped();
        let guest = self.guests.get(slot).ok_or_else(|| no_such_guest(name))?;
        if guest.state != state {
            let (is, remedy) = match guest.state {
                State::Running => ("running", "nothing is to be done"),
                State::Paused => ("paused", "nothing is to be done"),
                State::Kept => ("kept", "`atoll core online` brings its core back, and the guest with it"),
                State::Shutdown(_) => ("shut down", "destroy it, and create it again"),
                State::Crashed => ("crashed", "`atoll crash` tells why; destroy it, and create it again"),
            };
            return Err(refuse(format!("`{name}` is {is} and cannot be {verb}"), remedy));
        }
        Ok(guest.domain)
    }

    fn set_state(&mut self, name: &str, state: State) {
        if let Some(guest) = self.guests.find(name).and_then(|slot| self.guests.get_mut(slot)) {
            guest.state = state;
        }
    }
}

fn shutdown_reason(reason: u32) -> String {
    use abi::xen::sched::reason;
    match reason {
        reason::POWEROFF => "power-off".into(),
        reason::REBOOT => "for a reboot".into(),
        reason::SUSPEND => "suspended".into(),
        reason::CRASH => "by its own word after a crash".into(),
        reason::WATCHDOG => "since it did not feed its watchdog".into(),
        other => format!("reason {other}"),
    }
}
