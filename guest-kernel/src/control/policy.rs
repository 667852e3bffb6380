//! What becomes of a guest that stopped: what its configuration says, under the names that `xl.cfg` has for it.

use alloc::string::String;
use alloc::{format, vec::Vec};

use abi::control::wire::{Event, Policy, Refusal, Reply, State};
use abi::xen::sched::reason;

use super::Control;
use super::guest::Guest;
use super::hypervisor::Hypervisor;
use super::refusal::refuse;

/// A guest that lived shorter than this, in milliseconds, has come to its end quickly.
const QUICK: u64 = 1000;
/// So many quick ends in a row are too many: who starts and stops for ever would have domain 0 do nothing else.
const TOO_MANY: u32 = 5;

impl Guest {
    fn policy(&self) -> Policy {
        match self.state {
            State::Shutdown(reason::REBOOT) => self.config.on_reboot,
            State::Shutdown(reason::CRASH) | State::Crashed => self.config.on_crash,
            State::Shutdown(_) => self.config.on_poweroff,
            State::Running | State::Paused => Policy::Preserve,
        }
    }
}

impl<H: Hypervisor> Control<H> {
    /// Does with these guests, which have just stopped, what is wanted.
    pub(super) fn apply_policies(&mut self, stopped: Vec<String>) {
        for name in stopped {
            let Some(guest) = self.guests.find(&name).and_then(|slot| self.guests.get(slot)) else {
                continue;
            };
            match guest.policy() {
                Policy::Preserve => {}
                Policy::Destroy => {
                    // It is there, and stopped; should it fail nevertheless, it stays to be looked at.
                    let _ = self.destroy(&name);
                }
                Policy::Restart => {
                    let domain = self.restart(&name);
                    if let Err(refusal) = &domain {
                        let told = format!("{name} is not restarted: {}", refusal.what);
                        self.journal.say(&mut self.hypervisor, &told);
                    }
                    self.news.push(Event::Restarted { name, domain });
                }
            }
        }
    }

    /// Creates a guest again that has stopped. Whoever follows its console goes on with the new one's.
    fn restart(&mut self, name: &str) -> Result<u16, Refusal> {
        let now = self.hypervisor.ticks();
        let slot = self.guests.find(name);
        let Some(guest) = slot.and_then(|slot| self.guests.get_mut(slot)) else {
            return Err(refuse(
                format!("there is no guest named `{name}`"),
                "`atoll list` shows those there are",
            ));
        };
        let lived = now.saturating_sub(guest.started) / self.tsc_khz;
        let quick_ends = if lived < QUICK { guest.quick_ends + 1 } else { 0 };
        if quick_ends > TOO_MANY {
            return Err(refuse(
                format!("it has come to its end {quick_ends} times within {QUICK} ms of its start"),
                "look at its console, destroy it, and create it again",
            ));
        }
        let (mut config, from_boot) = (guest.config.clone(), guest.from_boot);
        // Where it was, whoever else is idle by now.
        config.cores.clone_from(&guest.cores);
        let followed = self.follows.iter().any(|follow| follow.name == name);
        self.destroy(name)?;
        let created = self.create(&config, now)?;
        if followed {
            self.follows.push(super::Follow { name: name.into(), next: 0 });
        }
        if let Some(guest) = self.guests.find(name).and_then(|slot| self.guests.get_mut(slot)) {
            (guest.quick_ends, guest.from_boot) = (quick_ends, from_boot);
        }
        match created {
            Reply::Created { domain, .. } => Ok(domain),
            _ => Ok(0),
        }
    }
}
