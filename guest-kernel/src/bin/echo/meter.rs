//! How long this core was awake: between two halts, less what the hypervisor did meanwhile.

use guest_kernel::platform::atoll::ground::Grants;
use guest_kernel::platform::atoll::{cpu, upcall};
use guest_kernel::programs::echo::Figures;

/// The meter.
pub struct Meter {
    grants: Grants,
    /// Ticks awake, up to the last halt.
    awake: u64,
    /// When the core woke; when it last halted.
    since: u64,
    halted: u64,
}

impl Meter {
    /// A meter that begins now.
    pub fn new(grants: Grants) -> Self {
        Self { grants, awake: 0, since: cpu::tsc(), halted: 0 }
    }

    /// The kernel is about to halt.
    pub fn sleeps(&mut self) {
        self.halted = cpu::tsc();
        self.awake = self.awake.wrapping_add(self.halted.wrapping_sub(self.since));
    }

    /// It is back: since the upcall that woke it, if one did.
    pub fn wakes(&mut self) {
        let (upcall, _) = upcall::last();
        self.since = if upcall > self.halted { upcall } else { cpu::tsc() };
    }

    /// What was spent so far.
    pub fn figures(&self) -> Figures {
        let calls = self.grants.figures();
        let now = self.awake.wrapping_add(cpu::tsc().wrapping_sub(self.since));
        Figures { awake: now.wrapping_sub(calls.hypervisor), ..calls }
    }
}
