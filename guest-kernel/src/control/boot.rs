//! The start: the guests of the boot configuration, one after the other; and the end of a run nobody attends.

use alloc::format;
use alloc::string::String;

use abi::control::wire::{MachineConfig, Refusal, State};
use abi::exit_code::ExitCode;
use abi::xen::sched::reason;

use super::Control;
use super::hypervisor::Hypervisor;
use super::refusal::{printable, refuse};

impl<H: Hypervisor> Control<H> {
    /// Starts the guests of the boot configuration. The line with their number is what scripts wait for.
    pub fn start(&mut self) {
        let config = self.configuration().unwrap_or_else(|refusal| {
            self.cannot_start("the configuration", refusal);
            MachineConfig::default()
        });
        self.boot.stop_when_done = config.stop_when_done;
        let mut running = 0;
        for guest in &config.guests {
            let arrived = self.hypervisor.ticks();
            match self.create(guest, arrived) {
                Ok(_) => running += 1,
                Err(refusal) => self.cannot_start(&printable(&guest.name), refusal),
            }
        }
        for (_, guest) in self.guests.iter_mut() {
            guest.from_boot = true;
        }
        // Where there are no guests, all of them have ended.
        self.domains_changed = true;
        self.boot.guests_running_tsc = self.hypervisor.ticks();
        self.journal.line(&mut self.hypervisor, &format!("atoll: {running} guests running"));
    }

    fn configuration(&self) -> Result<MachineConfig, Refusal> {
        let remedy = "build the boot archive with this version's `atoll image`";
        let bytes = self
            .images
            .archive()
            .config()
            .ok_or_else(|| refuse("the boot archive has no configuration", remedy))?;
        postcard::from_bytes(bytes).map_err(|error| {
            refuse(format!("the boot archive's configuration is unreadable: {error}"), remedy)
        })
    }

    fn cannot_start(&mut self, what: &str, refusal: Refusal) {
        let told = format!("cannot start {what}: {}; {}", refusal.what, refusal.remedy);
        self.journal.say(&mut self.hypervisor, &told);
        self.boot.failed.push((String::from(what), refusal));
    }

    /// Stops the machine when a run that nobody attends is over: all guests of the boot configuration have ended.
    pub(super) fn stop_when_done(&mut self) {
        if !self.boot.stop_when_done || self.session.has_begun() || self.stopping.is_some() {
            return;
        }
        let ours = || self.guests.iter().filter(|(_, guest)| guest.from_boot).map(|(_, guest)| guest);
        if ours().any(|guest| guest.is_alive()) {
            return;
        }
        let well = |state| matches!(state, State::Shutdown(how) if how != reason::CRASH);
        let success = self.boot.failed.is_empty() && ours().all(|guest| well(guest.state));
        let code = if success { ExitCode::Success } else { ExitCode::TestFailed };
        let now = self.hypervisor.ticks();
        self.stopping = Some((code as u8, now));
    }
}
