//! A core on its way off: its guest is suspended first.
//!
//! A guest that says so in xenstore (`control/feature-suspend`, as on Xen) is asked, by `control/shutdown = suspend`. It takes
//! leave of those it has to take leave of, and then suspends itself (`SCHEDOP_shutdown`). One that cannot, or that does
//! not in time, is frozen between two instructions. To its peers it then is what a paused guest is: it keeps its place,
//! nothing that was sent to it is lost, and whoever needs its answer waits. They are not told that it went, since it
//! could not be told that they had been.

use alloc::format;
use alloc::string::String;

use abi::control::wire::{Kept, Refusal, Reply, State};
use abi::xen::DomId;
use abi::xen::sched::reason;

use super::Control;
use super::hypervisor::Hypervisor;
use super::pages::Slot;
use super::refusal::{hypercall_failed, refuse};
use super::xenstore::path::home;

/// Milliseconds that a guest has to suspend itself.
const PATIENCE: u64 = 2000;

/// What is under way.
#[derive(Clone, Debug)]
pub struct Leaving {
    slot: Slot,
    processor: u32,
    name: String,
    domain: DomId,
    /// The guest did it.
    is_suspended: bool,
    arrived: u64,
    deadline: u64,
}

impl Leaving {
    /// Whose core it is.
    pub(super) const fn slot(&self) -> Slot {
        self.slot
    }
}

impl<H: Hypervisor> Control<H> {
    /// Takes a processor offline. `Leaving`: its guest was asked, and [`Self::left`] will tell.
    pub(super) fn offline(&mut self, processor: u32, arrived: u64) -> Result<Reply, Refusal> {
        self.check_processor(processor)?;
        if let Some(Leaving { processor, name, .. }) = &self.cores.leaving {
            return Err(refuse(
                format!("core {processor} is on its way off, and waits for {name}"),
                "try again when it is off",
            ));
        }
        let slot = self.online_slot(processor)?;
        self.notice_stopped();
        self.check_not_replacing(slot)?;
        let guest = self.guest_with(slot).map(|(_, guest)| (guest.name.clone(), guest.domain, guest.state));
        match guest {
            None => self.off(slot, processor, None, arrived),
            Some((name, domain, State::Running)) => {
                if self.ask_to_suspend(slot, domain) {
                    let deadline = self.after(arrived, PATIENCE);
                    let is_suspended = false;
                    self.cores.left = None;
                    self.cores.leaving =
                        Some(Leaving { slot, processor, name, domain, is_suspended, arrived, deadline });
                    return Ok(Reply::Leaving);
                }
                self.freeze(slot, domain)?;
                self.off(slot, processor, Some(name), arrived)
            }
            Some((name, ..)) => {
                self.keep(slot, Kept::Still);
                self.off(slot, processor, Some(name), arrived)
            }
        }
    }

    /// What became of it.
    pub(super) fn left(&mut self) -> Result<Reply, Refusal> {
        if self.cores.leaving.is_some() {
            return Ok(Reply::Leaving);
        }
        let nothing = || refuse("no core was asked to go", "`atoll core list` shows them");
        self.cores.left.clone().unwrap_or_else(|| Err(nothing()))
    }

    /// Whether this domain has done what it was asked for, perhaps too late, so that its stop is not its end.
    pub(super) fn is_suspension(&mut self, domain: DomId, state: State) -> bool {
        let asked = self.cores.leaving.as_mut().filter(|leaving| leaving.domain == domain);
        if state != State::Shutdown(reason::SUSPEND) {
            return false;
        }
        if let Some(leaving) = asked {
            leaving.is_suspended = true;
            return true;
        }
        let late = self.guests.iter_mut().find(|(_, guest)| guest.domain == domain && guest.was_called_off);
        late.is_some_and(|(_, guest)| {
            guest.was_called_off = false;
            self.hypervisor.domain_resume(domain).is_ok()
        })
    }

    /// Goes on with the core that is on its way off, if something has come of it by `now`.
    pub(super) fn go_on_leaving(&mut self, now: u64) {
        let Some(leaving) = self.cores.leaving.clone() else { return };
        let Leaving { slot, processor, name, domain, is_suspended, arrived, deadline } = leaving;
        let guest = self.guest_with(slot).map(|(_, guest)| (guest.domain, guest.state));
        let left = match guest {
            Some((there, State::Running)) if there == domain && is_suspended => {
                self.keep(slot, Kept::Suspended);
                self.off(slot, processor, Some(name), arrived)
            }
            Some((there, State::Running)) if there == domain && now < deadline => return,
            Some((there, State::Running)) if there == domain => {
                self.take_back(domain);
                let frozen = self.freeze(slot, domain);
                frozen.and_then(|()| self.off(slot, processor, Some(name), arrived))
            }
            Some((there, _)) if there == domain => {
                self.keep(slot, Kept::Still);
                self.off(slot, processor, Some(name), arrived)
            }
            Some(_) => Err(refuse(
                format!("{name} came to its end meanwhile, and another is on core {processor}"),
                "look at `atoll list`, and say it again",
            )),
            // It was destroyed.
            None => self.off(slot, processor, None, arrived),
        };
        self.cores.leaving = None;
        self.cores.left = Some(left);
    }

    /// When that has to be looked at.
    pub(super) fn leaving_deadline(&self) -> Option<u64> {
        self.cores.leaving.as_ref().map(|leaving| leaving.deadline)
    }

    fn off(
        &mut self,
        slot: Slot,
        processor: u32,
        guest: Option<String>,
        arrived: u64,
    ) -> Result<Reply, Refusal> {
        self.switch_off(slot, processor)?;
        let kept = self.guest_with(slot).and_then(|(_, guest)| guest.kept);
        let ticks = self.hypervisor.ticks().saturating_sub(arrived);
        let keeps = guest.as_deref().map_or(String::new(), |name| format!(" and keeps {name}"));
        self.journal.say(&mut self.hypervisor, &format!("core {processor} is offline{keeps}"));
        Ok(Reply::Offline { core: processor, guest: guest.zip(kept), ticks })
    }

    /// Writes the word, for a guest that can. `false`: it cannot.
    fn ask_to_suspend(&mut self, slot: Slot, domain: DomId) -> bool {
        let home_slot = self.guest_with(slot).map(|(home, _)| home);
        if let Some(guest) = home_slot.and_then(|home| self.guests.get_mut(home)) {
            guest.was_called_off = false;
        }
        let store = self.stores.xenstore();
        let can = store.read(&format!("{}/control/feature-suspend", home(domain)));
        can.is_some_and(|value| value == b"1")
            && self.stores.xenstore().write(&format!("{}/control/shutdown", home(domain)), b"suspend").is_ok()
    }

    /// Takes the word back, for a guest that did not hear it.
    fn take_back(&mut self, domain: DomId) {
        // A store that refuses it has none of it either.
        let _ = self.stores.xenstore().write(&format!("{}/control/shutdown", home(domain)), b"");
        if let Some((_, guest)) = self.guests.iter_mut().find(|(_, guest)| guest.domain == domain) {
            guest.was_called_off = true;
        }
    }

    fn freeze(&mut self, slot: Slot, domain: DomId) -> Result<(), Refusal> {
        self.hypervisor
            .domain_pause(domain)
            .map_err(|error| hypercall_failed("pausing the domain", error))?;
        self.keep(slot, Kept::Frozen);
        Ok(())
    }

    /// Notes how a slot's guest is kept from now on.
    fn keep(&mut self, slot: Slot, how: Kept) {
        let home = self.guest_with(slot).map(|(home, _)| home);
        if let Some(guest) = home.and_then(|home| self.guests.get_mut(home)) {
            if how != Kept::Still {
                guest.state = State::Kept;
            }
            // A guest with several cores may have been kept for another one's sake.
            guest.kept = guest.kept.or(Some(how));
        }
    }
}
