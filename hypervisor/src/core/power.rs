//! Cores that leave their processor and come back, on that one or on another.
//!
//! ```text
//!   core 0                                     the core
//!   nobody interrupts its guest any more
//!   Off ─────────────────────────────────────▶ back in its loop: keeps what the guest has in the processor,
//!                                              VMCLEAR, VMXOFF, says that it is off, halts
//!   INIT ────────────────────────────────────▶ waits for a start-up IPI
//!      ...
//!   start-up IPI, to this processor or another ▶ the trampoline, VMXON, VMPTRLD, the guest's part put back
//!                                              says that it is on; its loop
//! ```
//!
//! A [`Core`] is its memory: stack, tables, frame, VMCS, channels. So what moves to another processor is not the guest but
//! the core, all of it, under its number. Nobody else notices: ports, grants, mesh and books go by that number, and
//! whoever interrupts it looks its processor's APIC id up in its face.
//!
//! While it is off a core answers nothing and is asked nothing, and its memory is core 0's.
//!
//! A processor that comes while the machine runs finds a core that has been off from the start. Its memory is there since
//! boot; the [`Core`] in it is made when it is first started.

use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use core::sync::atomic::fence;

use abi::control::hypercall::{DomainState, NO_DOMAIN, NO_PROCESSOR, presence};
use abi::xen::errno::{Errno, HypercallResult};
use arrayvec::ArrayVec;
use boot::cores::MAX_CORES;

use super::face::{Called, FACES, OFF};
use super::kept::Kept;
use super::message::Request;
use super::start::{self, Order};
use super::{Core, guest_state};
use crate::domain::Domain;
use crate::machine::{self, IoPorts, Patience};
use crate::{events, interrupts};

/// What core 0 needs to start cores, and what it knows of those that are off.
#[derive(Debug)]
pub struct Power {
    /// By core.
    pub orders: ArrayVec<Order, MAX_CORES>,
    /// The page that a start-up IPI names.
    pub trampoline: u8,
    /// By core, while it is off: how events reached its guest, by upcall vector or callback vector.
    pub called: [Called; MAX_CORES],
    /// By processor: when it was last sent INIT.
    pub reset_at: [u64; MAX_CORES],
    /// By processor: whether a core is on it, or was.
    pub known: [bool; MAX_CORES],
}

impl Power {
    /// So many cores are started at boot, by these orders; the others when their processors come.
    pub fn new(orders: &[Order], at_boot: usize, trampoline: u8) -> Self {
        let orders = orders.iter().map(|order| Order { again: order.index < at_boot, ..*order }).collect();
        let known = core::array::from_fn(|processor| processor < at_boot);
        Self { orders, trampoline, called: [Called::default(); MAX_CORES], reset_at: [0; MAX_CORES], known }
    }
}

impl Core {
    fn power(&mut self) -> Result<&mut Power, Errno> {
        Ok(&mut self.registry.as_deref_mut().ok_or(Errno::EPERM)?.power)
    }

    fn order(&mut self, core: usize) -> Result<Order, Errno> {
        self.power()?.orders.get(core).copied().ok_or(Errno::ENODEV)
    }

    /// The domain that has a core, whether as its home or not.
    fn domain_on(&self, core: usize) -> Result<Option<&'static Domain>, Errno> {
        let registry = self.registry.as_deref().ok_or(Errno::EPERM)?;
        let id = FACES[core].domain.load(Relaxed);
        if id == NO_DOMAIN {
            return Ok(None);
        }
        let home = registry
            .records
            .iter()
            .position(|record| record.is_some_and(|record| u32::from(record.id) == id));
        Ok(home.and_then(|home| registry.domain(home)))
    }

    /// Whether the processor of this number is there. Core 0 alone asks.
    pub fn presence(&mut self, processor: usize) -> Result<u32, Errno> {
        let apic_id = *self.machine.apic_ids.get(processor).ok_or(Errno::ENODEV)?;
        if self.power()?.known[processor] {
            return Ok(presence::KNOWN);
        }
        let has_come = self.machine.hotplug.is_some_and(|block| block.has(&mut IoPorts, apic_id));
        Ok(if has_come { presence::NEW } else { presence::ABSENT })
    }

    /// Takes a core off its processor. Core 0 alone does.
    pub fn switch_off(&mut self, core: usize) -> HypercallResult {
        let begun = machine::now();
        if core == self.index {
            return Err(Errno::EPERM);
        }
        self.order(core)?;
        let face = FACES.get(core).ok_or(Errno::ENODEV)?;
        if face.is_off() {
            return Err(Errno::EEXIST);
        }
        let domain = self.domain_on(core)?;
        if domain.is_some_and(|domain| matches!(domain.state(), DomainState::Running | DomainState::Building))
        {
            return Err(Errno::EBUSY);
        }
        let called = face.silence();
        if let Some(domain) = domain {
            // Whoever looked up how to interrupt it before has done so after this.
            self.fence(domain.face().acquainted.load(SeqCst));
        }
        if let Err(error) = self.ask(core, Request::Off) {
            face.call_again(called);
            return Err(error);
        }
        let mut patience = Patience::default();
        while !face.is_off() {
            patience.wait();
        }
        let processor = face.processor.swap(NO_PROCESSOR, Relaxed) as usize;
        // SAFETY: the core has said that it is off: its processor halts, and runs nothing of ours any more.
        unsafe { self.apic.init(face.apic_id.load(Relaxed)) };
        let now = machine::now();
        let power = self.power()?;
        power.called[core] = called;
        if let Some(at) = power.reset_at.get_mut(processor) {
            *at = now;
        }
        Ok(now - begun)
    }

    /// Puts a core that is off on a processor that nobody has. Core 0 alone does.
    pub fn switch_on(&mut self, core: usize, processor: usize) -> HypercallResult {
        let begun = machine::now();
        let order = self.order(core)?;
        let face = FACES.get(core).ok_or(Errno::ENODEV)?;
        let apic_id = *self.machine.apic_ids.get(processor).ok_or(Errno::ENODEV)?;
        if !face.is_off() {
            return Err(Errno::EEXIST);
        }
        if FACES.iter().any(|other| !other.is_off() && other.processor.load(Relaxed) as usize == processor) {
            return Err(Errno::EBUSY);
        }
        let presence = self.presence(processor)?;
        if presence == presence::ABSENT {
            return Err(Errno::ENODEV);
        }
        if presence == presence::NEW {
            // Nobody has sent it INIT yet; it takes one like any other.
            // SAFETY: it runs nothing yet.
            unsafe { self.apic.init(apic_id) };
            self.power()?.reset_at[processor] = machine::now();
        }
        let power = self.power()?;
        let (trampoline, reset_at) = (power.trampoline, power.reset_at.get(processor).copied().unwrap_or(0));
        face.apic_id.store(apic_id, Relaxed);
        face.processor.store(processor as u32, Relaxed);
        if !start::start_up(self, &order, trampoline, reset_at) {
            // Should it come yet, it shall not.
            // SAFETY: it runs nothing of ours.
            unsafe { self.apic.init(apic_id) };
            face.processor.store(NO_PROCESSOR, Relaxed);
            return Err(Errno::EIO);
        }
        if presence == presence::NEW
            && let Some(block) = self.machine.hotplug
        {
            block.greet(&mut IoPorts, apic_id);
        }
        let power = self.power()?;
        (power.orders[core].again, power.known[processor]) = (true, true);
        face.call_again(power.called[core]);
        // Either a sender sees how to interrupt, or this sees what it has sent.
        fence(SeqCst);
        events::redeliver(self, core);
        Ok(machine::now() - begun)
    }

    /// Forgets the domain that a core keeps which is off. Core 0 alone does.
    pub fn release_kept(&mut self, core: usize) {
        let Ok(power) = self.power() else { return };
        let Some(place) = power.orders.get(core).map(|order| order.area.core()) else { return };
        power.called[core] = Called::default();
        // SAFETY: a core that is off has said so after its last use of its memory (`leave`), and uses it again only when core 0
        // has started it.
        let kept = unsafe { &mut *place };
        (kept.vcpu, kept.home, kept.kept, kept.running) = (None, None, None, false);
        kept.on_trial = false;
        kept.face.up.store(0, Relaxed);
    }

    /// Leaves the processor. What follows on it, if anything, is [`Core::come_back`].
    pub(super) fn leave(&mut self) -> ! {
        if let Some(vcpu) = &self.vcpu {
            self.kept = Some(Kept::take(self.registers, !vcpu.domain.is_full));
            guest_state::forget_translations(self, vcpu.domain);
        }
        guest_state::zero_registers();
        interrupts::quiesce(self.registers, &self.host.bases);
        self.leaving = false;
        self.frame.relaunch();
        // SAFETY: in VMX root operation; the VMCS is used again only after it was taken up, which `come_back` does first.
        let left = unsafe { vmx::vmcs::clear(self.vmcs_region).and_then(|()| vmx::vmcs::vmxoff()) };
        if let Err(failed) = left {
            panic!("core {}: {failed}", self.index);
        }
        self.face.parked.store(1, Relaxed);
        self.face.power.store(OFF, Release);
        loop {
            // SAFETY: this processor has nothing to do until it is reset; an NMI that comes before is taken note of.
            unsafe { core::arch::asm!("cli", "hlt") };
        }
    }

    /// Has a processor again: it is in VMX root operation, with this core's tables. Takes up the VMCS, and puts the guest's
    /// part of the processor back.
    pub(super) fn come_back(&mut self) {
        self.frame.clear_kick();
        // SAFETY: `leave` has cleared this region, which is this core's own.
        match unsafe { vmx::vmcs::take_up(self.vmcs_region) } {
            Ok(vmcs) => self.vmcs = vmcs,
            Err(failed) => panic!("core {}: {failed}", self.index),
        }
        guest_state::zero_registers();
        interrupts::quiesce(self.registers, &self.host.bases);
        if let Some(vcpu) = &self.vcpu {
            guest_state::forget_translations(self, vcpu.domain);
        }
        if let Some(kept) = self.kept.take() {
            let apic_id = self.face.apic_id.load(Relaxed);
            kept.put_back(&mut self.apic, apic_id, self.registers, &self.host.bases);
        }
    }

    /// Whether every core of a domain has a processor.
    pub fn has_processors(domain: &Domain) -> bool {
        domain.cores.iter().all(|&core| !FACES[usize::from(core)].is_off())
    }
}
