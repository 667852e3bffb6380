//! The callback vector: how events reach a guest that has set one for its whole domain (`HVM_PARAM_CALLBACK_IRQ`), as
//! kernels did before each virtual CPU had an upcall vector of its own.
//!
//! On Xen that vector does not go through the local APIC: it comes when interrupts are on, for as long as the upcall byte
//! is set, and the guest ends it by clearing the byte. A real interrupt would wait for an EOI that never comes. So the
//! sender kicks the core, and the core injects the vector, at once or as soon as the guest takes interrupts: such guests
//! pay an exit or two for each upcall, and others nothing.

use core::sync::atomic::Ordering::Relaxed;

use abi::xen::hvm::callback;
use vmx::capabilities::Capabilities;
use vmx::field;
use vmx::injection::Injection;

use super::Core;
use super::face::FACES;
use crate::domain::Domain;
use crate::events;

/// In a face's word: there is a vector, in its lowest byte.
const SET: u32 = 1 << 8;

impl Core {
    /// A domain has this callback from now on. Other ways to be called than a vector need devices that no guest has.
    pub fn set_callback(&mut self, domain: &Domain, via: u64) {
        let word = if via >> callback::TYPE_SHIFT == callback::VECTOR { SET | via as u32 & 0xff } else { 0 };
        for &core in &domain.cores {
            FACES[usize::from(core)].callback.store(word, Relaxed);
            events::redeliver(self, core.into());
        }
    }

    /// Injects the callback vector if there is one and events wait, or sees that this core hears when it can.
    pub fn offer_callback(&mut self) {
        const ACTIVE: u32 = 0;
        let word = self.face.callback.load(Relaxed);
        if word == 0 || !self.running || !events::is_upcall_pending(self) {
            return;
        }
        if self.takes_interrupts() {
            self.watch_interrupts(false);
            self.inject(Injection::external(word as u8));
            // It halts no more.
            self.vmcs.write(field::GUEST_ACTIVITY, ACTIVE);
        } else {
            self.watch_interrupts(true);
        }
    }

    /// Whether an interrupt can be injected at the next VM entry.
    #[inline(always)]
    pub fn takes_interrupts(&self) -> bool {
        const INTERRUPTS_ON: u64 = 1 << 9;
        const BLOCKED_BY_STI_OR_MOV_SS: u32 = 3;
        self.vmcs.get(field::GUEST_RFLAGS) & INTERRUPTS_ON != 0
            && self.vmcs.get(field::GUEST_INTERRUPTIBILITY) & BLOCKED_BY_STI_OR_MOV_SS == 0
            && !Injection::is_under_way(self.vmcs.get(field::ENTRY_INTERRUPTION_INFO))
    }

    /// The guest takes interrupts, which this core waited for; or there was nothing to wait for.
    pub fn interrupts_on(&mut self) {
        self.watch_interrupts(false);
        self.offer_callback();
    }

    /// Exits as soon as the guest takes interrupts, or does not. One that halts with interrupts on takes them: where that
    /// does not end the halt, the halt itself exits.
    fn watch_interrupts(&mut self, watch: bool) {
        let primary = self.vmcs.get(field::PRIMARY_CONTROLS);
        let watching = Capabilities::with_interrupt_window(primary, watch);
        if watch || watching != primary {
            let halts_exit = watch || !self.registers.is_on();
            self.vmcs.write(field::PRIMARY_CONTROLS, Capabilities::with_halts(watching, halts_exit));
        }
    }
}
