//! What the toolstack may ask, and the answers.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::control::hypercall::DomainInfo;
use abi::control::transfer::MAX_BYTES;
use abi::control::wire::{
    Domain, MAX_PIECE, MAX_TEXT, Machine, Refusal, Reply, Request, State, Text, VERSION,
};
use abi::exit_code::ExitCode;
use abi::mesh::kind;
use abi::xen::DomId;
use abi::xen::errno::Errno;

use super::guest::{self, Guest};
use super::hypervisor::Hypervisor;
use super::link::Report;
use super::refusal::{hypercall_failed, no_such_guest, refuse};
use super::{Control, Follow, OWN_NAME, crash};

/// Milliseconds that an answer to `Stop` has to leave.
const FAREWELL: u64 = 1000;
/// Pages in a mebibyte.
const PAGES_PER_MIB: u64 = 256;

impl<H: Hypervisor> Control<H> {
    /// Does what is asked, and tells what came of it.
    pub(super) fn answer(&mut self, request: Request, arrived: u64) -> Result<Reply, Refusal> {
        match request {
            Request::Hello { .. } => {
                self.follows.clear();
                self.news.clear();
                Ok(Reply::Hello { version: VERSION, failed: self.boot.failed.clone() })
            }
            Request::List => self.list(),
            Request::Info => self.info(),
            Request::Topology => Ok(self.known()),
            Request::Measure => Ok(self.measure()),
            Request::Create(config) => self.create(&config, arrived),
            Request::Destroy(name) => self.destroy(&name),
            Request::PieceOnDisk { from, bytes } => match self.hypervisor.transfer(bytes as usize) {
                Some(bytes) => self.images.piece(from, &bytes, MAX_BYTES).map(done),
                None => Err(refuse("no piece lies on a transfer disk", "send it over the line")),
            },
            Request::Pause(name) => self.pause(&name),
            Request::Unpause(name) => self.unpause(&name),
            Request::Console { name, from, follow } => self.console(name, from, follow),
            Request::Input { name, bytes } => self.type_in(&name, &bytes),
            Request::Dmesg { from } => self.dmesg(from),
            Request::Audit => self.audit(),
            Request::Crash(name) => self.crash(&name),
            Request::Accounts(name) => self.accounts(&name),
            Request::Images => Ok(Reply::Images(self.images.list())),
            Request::Upload { name, bytes, sha256 } => self.images.begin(&name, bytes, sha256).map(done),
            Request::Piece { from, bytes } => self.images.piece(from, &bytes, MAX_PIECE).map(done),
            Request::RemoveImage(name) => self.images.remove(&name).map(done),
            Request::AbandonUpload => {
                self.images.abandon();
                Ok(Reply::Done)
            }
            Request::Shutdown(name) => self.ask_to_stop(&name, "poweroff"),
            Request::Reboot(name) => self.ask_to_stop(&name, "reboot"),
            Request::XenstoreList { path, after } => self.store_list(&path, after.as_deref()),
            Request::XenstoreWrite { path, value } => self.store_write(&path, &value),
            Request::XenstoreRemove(path) => self.store_remove(&path),
            Request::Cores => self.list_cores(),
            Request::Offline { core } => self.offline(core, arrived),
            Request::Left => self.left(),
            Request::Replace { core, image, command_line } => {
                self.replace(core, image.as_deref(), command_line.as_deref(), arrived)
            }
            Request::Replaced => self.replaced(),
            Request::Online { core, guest, empty } => self.online(core, guest.as_deref(), empty, arrived),
            Request::Stop(code) => self.stop(code, arrived),
        }
    }

    fn list(&mut self) -> Result<Reply, Refusal> {
        // So that what is listed as stopped has been heard and told to its peers.
        self.notice_stopped();
        let mut domains = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let info = match self.hypervisor.domain_info(from) {
                Ok(info) => info,
                Err(Errno::ESRCH) => break,
                Err(error) => return Err(hypercall_failed("asking for the domains", error)),
            };
            let id = DomId::try_from(info.domain).unwrap_or(DomId::MAX);
            domains.push(self.domain(id, &info));
            next = id.checked_add(1).filter(|&next| next > from);
        }
        for (_, guest) in self.guests.iter().filter(|(_, guest)| guest.is_remains) {
            let info = DomainInfo { domain: guest.domain.into(), ..DomainInfo::default() };
            domains.push(Domain {
                state: guest.state,
                cores: guest.cores.clone(),
                ..self.domain(guest.domain, &info)
            });
        }
        for domain in &mut domains {
            domain.cores = self.processors_of(core::mem::take(&mut domain.cores));
        }
        domains.sort_by_key(|domain| domain.id);
        Ok(Reply::Domains(domains))
    }

    fn domain(&self, id: DomId, info: &DomainInfo) -> Domain {
        let known = self.guests.iter().find(|(_, guest)| guest.domain == id).map(|(_, guest)| guest);
        let (name, image) = match known {
            Some(guest) => (guest.name.clone(), guest.config.image.clone()),
            None if id == 0 => (String::from(OWN_NAME), String::from(abi::archive::CONTROL_IMAGE)),
            None => (format!("Domain-{id}"), String::new()),
        };
        let Report { received, sent, lost, liars } = known.map(|guest| guest.report).unwrap_or_default();
        Domain {
            id,
            name,
            image,
            cores: (0..u64::BITS).filter(|core| info.cores & 1 << core != 0).collect(),
            vcpus: known.map_or(1, |guest| guest.config.vcpus),
            memory_mib: (info.pages / PAGES_PER_MIB) as u32,
            state: known
                .filter(|guest| guest.state == State::Kept)
                .map_or(guest::state(info), |guest| guest.state),
            exits: info.exits,
            events_in: info.events_in,
            events_out: info.events_out,
            messages_in: received,
            messages_out: sent,
            messages_lost: lost,
            liars,
            restarts: known.map_or(0, |guest| guest.restarts),
            recovery_ticks: known.and_then(|guest| guest.recovery_ticks),
        }
    }

    fn info(&mut self) -> Result<Reply, Refusal> {
        let machine = self
            .hypervisor
            .machine_info()
            .map_err(|error| hypercall_failed("asking for the machine", error))?;
        Ok(Reply::Machine(Machine {
            cores: machine.cores,
            tsc_khz: machine.tsc_khz,
            tsc: self.hypervisor.ticks(),
            boot_tsc: machine.boot_tsc,
            guests_running_tsc: self.boot.guests_running_tsc,
            frames_total: machine.frames_total,
            frames_free: machine.frames_free,
            features: self.hypervisor.features(),
        }))
    }

    fn console(&mut self, name: String, from: Option<u64>, follow: bool) -> Result<Reply, Refusal> {
        let (tail, start) = if name == OWN_NAME {
            (self.journal.tail(), 0)
        } else {
            let guest = self.guests.find(&name).and_then(|slot| self.guests.get(slot));
            let console = &guest.ok_or_else(|| no_such_guest(&name))?.console;
            (console.tail(), console.start())
        };
        let text = tail.read(from.unwrap_or(start));
        self.follows.retain(|follow| follow.name != name);
        if follow {
            self.follows.push(Follow { name, next: text.next });
        }
        Ok(Reply::Console(text))
    }

    fn type_in(&mut self, name: &str, keys: &[u8]) -> Result<Reply, Refusal> {
        if name == OWN_NAME {
            return Err(refuse(format!("{OWN_NAME} reads no console"), "use the toolstack's commands"));
        }
        let guest = self.guests.find(name).and_then(|slot| self.guests.get_mut(slot));
        let guest = guest.ok_or_else(|| no_such_guest(name))?;
        if !guest.is_alive() {
            return Err(refuse(format!("`{name}` runs no more"), "destroy it, and create it again"));
        }
        guest.console.type_in(&mut self.hypervisor, keys)?;
        Ok(Reply::Done)
    }

    fn dmesg(&mut self, from: u64) -> Result<Reply, Refusal> {
        let failed = |error| hypercall_failed("reading the hypervisor's log", error);
        let machine = self.hypervisor.machine_info().map_err(failed)?;
        let from = from.clamp(machine.log_start, machine.log_end.max(machine.log_start));
        let mut bytes = alloc::vec![0; MAX_TEXT];
        let count = self.hypervisor.log_read(from, &mut bytes).map_err(failed)?;
        bytes.truncate(count);
        Ok(Reply::Log(Text { from, next: from + bytes.len() as u64, bytes }))
    }

    fn audit(&mut self) -> Result<Reply, Refusal> {
        let found = self.hypervisor.audit().map_err(|error| hypercall_failed("the audit", error))?;
        Ok(Reply::Audit([
            found.domains,
            found.mappings,
            found.shared,
            found.leaked,
            found.hypervisor,
            found.free,
            found.miscounted,
        ]))
    }

    fn crash(&mut self, name: &str) -> Result<Reply, Refusal> {
        self.notice_stopped();
        let guest = self.guests.find(name).and_then(|slot| self.guests.get(slot));
        let (record, before) = match guest {
            Some(Guest { crash: Some(record), state, .. }) => (record, *state != State::Crashed),
            Some(_) => {
                return Err(refuse(
                    format!("`{name}` did not crash, or there is no record of it"),
                    "see `atoll list` for its state, `atoll dmesg` for its end",
                ));
            }
            None if name == OWN_NAME => {
                return Err(refuse(
                    format!("{OWN_NAME} did not crash, or it could not answer"),
                    "nothing is to be done",
                ));
            }
            None => return Err(no_such_guest(name)),
        };
        let before = if before { "before it was restarted: " } else { "" };
        let cause = format!("{before}{}", crash::cause(record));
        let code = record.code.get(..record.code_bytes.into()).unwrap_or_default().to_vec();
        let code_bits = record.code_bits as u8;
        Ok(Reply::Crash { cause, registers: crash::registers(record), code, code_bits })
    }

    /// What the guest told last; and it is asked anew, unless it has more to read than it should already.
    fn accounts(&mut self, name: &str) -> Result<Reply, Refusal> {
        let guest = self.guests.find(name).and_then(|slot| self.guests.get_mut(slot));
        let Some(guest) = guest else {
            if name == OWN_NAME {
                return Err(refuse(format!("{OWN_NAME} keeps no accounts"), "ask a guest of the mesh"));
            }
            return Err(no_such_guest(name));
        };
        let Some(link) = guest.link.as_mut() else {
            return Err(refuse(format!("`{name}` is not heard in the mesh"), "ask a guest that runs there"));
        };
        if !link.congested() {
            link.queue([kind::ACCOUNTS, 0, 0, 0, 0, 0, 0]);
        }
        Ok(Reply::Accounts { told: guest.accounts.told, accounts: guest.accounts.table.clone() })
    }

    fn stop(&mut self, code: u8, arrived: u64) -> Result<Reply, Refusal> {
        if ExitCode::from_u8(code).is_none() {
            return Err(refuse(format!("{code:#x} is no exit code"), "use 0x10 for success"));
        }
        self.stopping = Some((code, self.after(arrived, FAREWELL)));
        Ok(Reply::Done)
    }
}

fn done((): ()) -> Reply {
    Reply::Done
}
