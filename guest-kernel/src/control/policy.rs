//! What becomes of a guest that stopped: what its configuration says, under the names that `xl.cfg` has for it.

use alloc::string::String;
use alloc::{format, vec::Vec};

use abi::control::wire::{Event, Policy, Refusal, State};
use abi::xen::sched::reason;

use super::Control;
use super::guest::Guest;
use super::hypervisor::Hypervisor;
use super::refusal::{no_such_guest, refuse};

/// A guest that lived shorter than this, in milliseconds, has come to its end quickly.
const QUICK: u64 = 1000;
/// So many quick ends in a row are too many: who starts and stops for ever would have domain 0 do nothing else.
const TOO_MANY: u32 = 5;

impl Guest {
    fn policy(&self) -> Policy {
        match self.state {
            State::Shutdown(reason::REBOOT) => self.config.on_reboot,
            // It stays as it is, as with `xl`: whoever had it suspend itself has plans for it.
            State::Shutdown(reason::SUSPEND) => Policy::Preserve,
            State::Shutdown(reason::CRASH) | State::Crashed => self.config.on_crash,
            State::Shutdown(reason::WATCHDOG) => self.config.on_watchdog,
            State::Shutdown(_) => self.config.on_poweroff,
            State::Running | State::Paused | State::Kept => Policy::Preserve,
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

    /// Creates a guest again that has stopped. Its console goes on, for those who follow it too, and its last crash
    /// stays known. Its core must be free for the new one, so the old domain goes first; should the new one fail then,
    /// what there is to be looked at of the old stays.
    fn restart(&mut self, name: &str) -> Result<u16, Refusal> {
        let now = self.hypervisor.ticks();
        let slot = self.guests.find(name);
        let Some((slot, guest)) = slot.and_then(|slot| Some((slot, self.guests.get(slot)?))) else {
            return Err(no_such_guest(name));
        };
        let lived = now.saturating_sub(guest.started) / self.tsc_khz;
        let quick_ends = if lived < QUICK { guest.quick_ends + 1 } else { 0 };
        if quick_ends > TOO_MANY {
            return Err(refuse(
                format!("it has come to its end {quick_ends} times within {QUICK} ms of its start"),
                "look at its console, destroy it, and create it again",
            ));
        }
        let mut config = guest.config.clone();
        // Where it was, whoever else is idle by now.
        let slots = guest.cores.clone();
        config.cores = self.processors_of(slots);
        config.cores.sort_unstable();
        let old = self.end(slot)?;
        let created = self.create(&config, now);
        match (created, self.guests.get_mut(slot)) {
            (Ok(_), Some(new)) => {
                (new.quick_ends, new.from_boot, new.crash) = (quick_ends, old.from_boot, old.crash);
                (new.restarts, new.ended_at) = (old.restarts.saturating_add(1), Some(old.stopped_at));
                new.console.go_on_from(old.console);
                Ok(new.domain)
            }
            (Ok(_), None) => Err(no_such_guest(name)),
            (Err(refusal), _) => {
                self.guests.put(slot, old);
                Err(refusal)
            }
        }
    }
}
