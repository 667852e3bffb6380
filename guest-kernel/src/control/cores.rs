//! Cores that go offline and come back, and the guests that they keep.
//!
//! What a person calls a core is a *processor*. The hypervisor's own cores, by whose numbers guests have their slots, sit on
//! them: each on the one of its number at first. One that is off keeps its guest, and may be put on another processor,
//! with the guest; nothing else has to change for that. So a number here is a processor's where it comes from the
//! toolstack or goes there, and a slot everywhere else.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::control::hypercall::{CoreInfo, NO_PROCESSOR, presence};
use abi::control::wire::{Core, Kept, Presence, Refusal, Reply, State};
use abi::xen::errno::Errno;

use super::admission::no_such_core;
use super::guest::Guest;
use super::hypervisor::Hypervisor;
use super::leaving::Leaving;
use super::pages::Slot;
use super::refusal::{hypercall_failed, no_such_guest, refuse};
use super::replacing::Replacing;
use super::{Control, OWN_NAME};

/// What domain 0 knows of cores.
#[derive(Default)]
pub struct Cores {
    /// By slot: the processor that its core was on last, where it is not that of its number.
    moved: Vec<(Slot, u32)>,
    /// By processor: when it came or went last.
    since: Vec<(u32, u64)>,
    /// The one that is about to go, for which its guest has been asked to suspend itself.
    pub(super) leaving: Option<Leaving>,
    /// What became of the last such, until somebody asks.
    pub(super) left: Option<Result<Reply, Refusal>>,
    /// The kernel that is to make way for another one.
    pub(super) replacing: Option<Replacing>,
    /// What became of the last such, until somebody asks.
    pub(super) replaced: Option<Result<Reply, Refusal>>,
}

impl Cores {
    /// Whether this slot's core is about to go.
    pub(super) fn is_leaving(&self, slot: Slot) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.slot() == slot)
    }

    fn last(&self, slot: Slot) -> u32 {
        self.moved.iter().find(|(known, _)| *known == slot).map_or(slot as u32, |(_, processor)| *processor)
    }

    fn note(&mut self, slot: Slot, processor: u32, now: u64) {
        self.moved.retain(|(known, _)| *known != slot);
        self.moved.push((slot, processor));
        self.since.retain(|(known, _)| *known != processor);
        self.since.push((processor, now));
    }

    fn since(&self, processor: u32) -> Option<u64> {
        self.since.iter().find(|(known, _)| *known == processor).map(|(_, since)| *since)
    }
}

impl<H: Hypervisor> Control<H> {
    /// The processor of a slot's core; `None`: that is off.
    pub(super) fn processor_of(&mut self, slot: Slot) -> Option<u32> {
        let info = self.hypervisor.core_info(slot as u32).ok()?;
        Some(info.processor).filter(|&processor| processor != NO_PROCESSOR)
    }

    /// The slot whose core is on this processor; `None`: it is offline.
    pub(super) fn slot_on(&mut self, processor: u32) -> Option<Slot> {
        (0..self.pages.slots()).find(|&slot| self.processor_of(slot) == Some(processor))
    }

    /// The same, of a processor that has to be online.
    pub(super) fn online_slot(&mut self, processor: u32) -> Result<Slot, Refusal> {
        self.slot_on(processor).ok_or_else(|| {
            refuse(
                format!("core {processor} is offline"),
                format!("`atoll core online {processor}` brings it back"),
            )
        })
    }

    /// The processors of these slots' cores, without those that are off.
    pub(super) fn processors_of(&mut self, slots: impl IntoIterator<Item = u32>) -> Vec<u32> {
        slots.into_iter().filter_map(|slot| self.processor_of(slot as Slot)).collect()
    }

    /// The guest that has a slot's core, as its home or not.
    pub(super) fn guest_with(&self, slot: Slot) -> Option<(Slot, &Guest)> {
        self.guests.iter().find(|(_, guest)| !guest.is_remains && guest.cores.contains(&(slot as u32)))
    }

    /// All processors.
    pub(super) fn list_cores(&mut self) -> Result<Reply, Refusal> {
        self.notice_stopped();
        let failed = |error| hypercall_failed("asking for the cores", error);
        let mut all = Vec::new();
        for number in 0..self.pages.slots() as u32 {
            let CoreInfo { apic_id, package, core, thread, presence, .. } =
                self.hypervisor.core_info(number).map_err(failed)?;
            let slot = self.slot_on(number);
            let guest = match slot {
                Some(0) => Some(String::from(OWN_NAME)),
                Some(slot) => self.guest_with(slot).map(|(_, guest)| guest.name.clone()),
                None => None,
            };
            let keeps = self.resident(number).filter(|_| slot.is_none()).and_then(|slot| {
                let (_, guest) = self.guest_with(slot)?;
                Some((guest.name.clone(), guest.kept.unwrap_or(Kept::Frozen)))
            });
            let since_tsc = self.cores.since(number);
            all.push(Core {
                number,
                apic_id,
                package,
                core,
                thread,
                is_online: slot.is_some(),
                guest,
                keeps,
                since_tsc,
                presence: match presence {
                    presence::ABSENT => Presence::Absent,
                    presence::NEW => Presence::New,
                    _ => Presence::Known,
                },
            });
        }
        Ok(Reply::Cores(all))
    }

    /// The slot whose core was last on this processor, and is on none now.
    fn resident(&mut self, processor: u32) -> Option<Slot> {
        (1..self.pages.slots())
            .find(|&slot| self.cores.last(slot) == processor && self.processor_of(slot).is_none())
    }

    /// A processor that a guest may have, whether it is online or not.
    pub(super) fn check_processor(&self, processor: u32) -> Result<(), Refusal> {
        if processor == 0 {
            return Err(refuse(
                format!("core 0 has {OWN_NAME}, which controls the machine, and stays online"),
                "name another core; `atoll down` stops the whole machine",
            ));
        }
        if processor as usize >= self.pages.slots() {
            return Err(no_such_core(processor));
        }
        Ok(())
    }

    /// Takes a slot's core, with whatever guest it has, which does not run any more, off its processor.
    pub(super) fn switch_off(&mut self, slot: Slot, processor: u32) -> Result<(), Refusal> {
        self.hypervisor
            .core_off(slot as u32)
            .map_err(|error| hypercall_failed("switching the core off", error))?;
        let now = self.hypervisor.ticks();
        self.cores.note(slot, processor, now);
        Ok(())
    }

    fn switch_on(&mut self, slot: Slot, processor: u32) -> Result<(), Refusal> {
        self.hypervisor.core_on(slot as u32, processor).map_err(|error| match error {
            Errno::EIO => refuse(
                format!("core {processor} does not start"),
                "try again; if it stays away, see `atoll dmesg`, and go on without it",
            ),
            error => hypercall_failed("switching the core on", error),
        })?;
        let now = self.hypervisor.ticks();
        self.cores.note(slot, processor, now);
        Ok(())
    }

    /// Brings a processor online: with the guest of this name that is kept; or empty; or with what was there when it went.
    pub(super) fn online(
        &mut self,
        processor: u32,
        guest: Option<&str>,
        empty: bool,
        arrived: u64,
    ) -> Result<Reply, Refusal> {
        self.check_processor(processor)?;
        let here = self.slot_on(processor);
        let there = self.hypervisor.core_info(processor).map(|info| info.presence);
        if there == Ok(presence::ABSENT) {
            return Err(refuse(
                format!("core {processor} is a place for a processor that is not there"),
                "put one in first: in QEMU's monitor, `device_add`",
            ));
        }
        let slot = match (guest, empty) {
            (Some(name), _) => self.kept_slot(name)?,
            (None, true) => self.empty_slot(processor)?,
            (None, false) => match self.resident(processor) {
                Some(slot) => slot,
                None => self.empty_slot(processor)?,
            },
        };
        match here {
            None => {}
            // Its core is in the way, and nobody is on it.
            Some(here) if guest.is_some() && self.guest_with(here).is_none() => {
                self.switch_off(here, processor)?
            }
            Some(here) if guest.is_some() => {
                let name = self.guest_with(here).map_or("another domain", |(_, guest)| &guest.name);
                return Err(refuse(
                    format!("core {processor} belongs to {name}"),
                    "choose a core that is offline or idle (`atoll core list`)",
                ));
            }
            Some(_) => {
                return Err(refuse(
                    format!("core {processor} is online"),
                    "nothing is to be done; `atoll core list` shows all of them",
                ));
            }
        }
        self.switch_on(slot, processor)?;
        let resumed = self.resume(slot)?;
        let ticks = self.hypervisor.ticks().saturating_sub(arrived);
        // The serial line is slow: it is told when it is done.
        let with = resumed.as_deref().map_or(String::new(), |name| format!(" with {name}"));
        self.journal.say(&mut self.hypervisor, &format!("core {processor} is online{with}"));
        Ok(Reply::Online { core: processor, guest: resumed, ticks })
    }

    /// Lets the guest of a slot's core go on where it is kept and all its cores are on. Its name.
    fn resume(&mut self, slot: Slot) -> Result<Option<String>, Refusal> {
        let Some((home, guest)) = self.guest_with(slot) else { return Ok(None) };
        let (name, domain, kept, cores) = (guest.name.clone(), guest.domain, guest.kept, guest.cores.clone());
        if cores.iter().any(|&core| self.processor_of(core as Slot).is_none()) {
            return Ok(None);
        }
        let result = match kept {
            Some(Kept::Suspended) => self.hypervisor.domain_resume(domain),
            Some(Kept::Frozen) => self.hypervisor.domain_unpause(domain),
            // It was paused, or had stopped, and is so again.
            Some(Kept::Still) | None => Ok(()),
        };
        result.map_err(|error| hypercall_failed("letting the guest go on", error))?;
        if let Some(guest) = self.guests.get_mut(home) {
            if guest.state == State::Kept {
                guest.state = State::Running;
            }
            guest.kept = None;
        }
        Ok(Some(name))
    }

    /// The slot of a guest that is kept by a core which is off.
    fn kept_slot(&mut self, name: &str) -> Result<Slot, Refusal> {
        let slot = self.guests.find(name).ok_or_else(|| no_such_guest(name))?;
        let cores = self.guests.get(slot).map(|guest| guest.cores.clone()).unwrap_or_default();
        let off = cores.into_iter().map(|core| core as Slot).find(|&core| self.processor_of(core).is_none());
        off.ok_or_else(|| {
            refuse(
                format!("`{name}` has its core, and is not kept"),
                "take that offline first: `atoll core offline`",
            )
        })
    }

    /// A slot whose core is off and keeps nobody: that which was there last, if it is such a one.
    fn empty_slot(&mut self, processor: u32) -> Result<Slot, Refusal> {
        if self.slot_on(processor).is_some() {
            // Whether there is one or not makes no difference.
            return Ok(processor as Slot);
        }
        let mut empty: Vec<Slot> = (1..self.pages.slots())
            .filter(|&slot| self.processor_of(slot).is_none() && self.guest_with(slot).is_none())
            .collect();
        empty.sort_by_key(|&slot| self.cores.last(slot) != processor);
        empty.first().copied().ok_or_else(|| {
            let kept = self.resident(processor).and_then(|slot| self.guest_with(slot));
            let name = kept.map_or("a guest", |(_, guest)| &guest.name);
            refuse(
                format!("core {processor} keeps {name}, and there is room for one guest a core, kept ones among them"),
                "bring it online with that guest, resume the guest on another core with `--guest`, or destroy it",
            )
        })
    }
}
