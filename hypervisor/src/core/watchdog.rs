//! `SCHEDOP_watchdog`: a domain that does not feed its watchdog in time ends. Its home core keeps them.

use abi::control::hypercall::DomainState;
use abi::xen::errno::HypercallResult;
use abi::xen::sched::{Watchdog, reason};

use super::Core;
use crate::machine;

impl Core {
    /// A new watchdog, another time for one, or its end.
    pub fn set_watchdog(&mut self, order: Watchdog) -> HypercallResult {
        let per_second = u64::from(self.machine.tsc_khz) * 1000;
        let now = machine::now();
        let due = |seconds: u32| now.saturating_add(u64::from(seconds).saturating_mul(per_second));
        let id = self.at_home()?.1.watchdogs.set(&order, due)?;
        self.arm();
        Ok(id)
    }

    /// When the next of them is due, by the TSC.
    pub fn watchdog_due(&self) -> Option<u64> {
        self.home.as_ref()?.watchdogs.next()
    }

    /// Ends the domain if one of its watchdogs is due.
    pub fn look_at_watchdogs(&mut self) {
        if self.watchdog_due().is_some_and(|due| due <= machine::now()) {
            log::warn!("core {}: the watchdog was not fed", self.index);
            self.stop_domain(DomainState::Shutdown, reason::WATCHDOG);
        }
    }
}
