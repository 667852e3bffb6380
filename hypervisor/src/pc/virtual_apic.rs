//! A local APIC that the processor keeps up by itself (SDM 3C, "APIC Virtualization and Virtual Interrupts").
//!
//! Where it can, the processor holds the registers in a page, the virtual-APIC page: the guest reads them there without an
//! exit, and raises and lowers its priority, ends interrupts and takes them without one. What a write to another register
//! means, the model says ([`LocalApic`](crate::devices::local_apic::LocalApic)), after an exit that finds the write in the
//! page already. So of the state each part has one owner: priorities, requests and what is in service are the page's, all
//! else is the model's and only shown in the page. Requests that the model takes are handed over before the guest is
//! entered.
//!
//! An access to the page of registers is known by where it leads: the domain has a page of memory there, which nobody ever
//! sees, the APIC-access page. A virtual CPU in x2APIC mode finds that memory where a PC has nothing; it is its own.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use abi::address::{GuestPhys, HostPhys};
use boot::cores::MAX_CORES;
use ept::Access;
use vmx::capabilities::{ApicMode, Capabilities};
use vmx::exit::{ApicAccess, Exit};
use vmx::field;
use vmx::vmcs::Failed;

use super::{attend, interrupts, mmio};
use crate::core::Core;
use crate::devices::local_apic::{self, Effect, LocalApic, SHOWN, Vectors, register};
use crate::domain::Domain;
use crate::machine;
use crate::memory::physical::Identity;

/// A virtual-APIC page: registers at multiples of 16 bytes.
#[repr(C, align(4096))]
pub struct Page([AtomicU32; 1024]);

/// By core.
static PAGES: [Page; MAX_CORES] = [const { Page([const { AtomicU32::new(0) }; 1024]) }; MAX_CORES];

impl Page {
    /// The register with this number.
    fn get(&self, number: u32) -> u32 {
        self.0[(number as usize & 0xff) * 4].load(Relaxed)
    }

    fn set(&self, number: u32, value: u32) {
        self.0[(number as usize & 0xff) * 4].store(value, Relaxed);
    }

    /// In x2APIC mode the interrupt command register is one of 64 bits.
    fn set_wide(&self, number: u32, value: u64) {
        self.set(number, value as u32);
        self.0[(number as usize & 0xff) * 4 + 1].store((value >> 32) as u32, Relaxed);
    }

    fn address(&self) -> HostPhys {
        // What is the hypervisor's own lies where its addresses say.
        HostPhys::new(core::ptr::from_ref(self) as u64)
    }
}

/// What is known of a virtual local APIC that the processor keeps up.
#[derive(Clone, Copy, Debug)]
pub struct VirtualApic {
    mode: ApicMode,
    /// The vectors whose end exits, as the VMCS has them.
    levels: Vectors,
}

impl VirtualApic {
    /// Whether this has to be handed over: requests, or which vectors are levels.
    #[inline]
    pub const fn is_behind(&self, apic: &LocalApic) -> bool {
        apic.has_requests() || apic.levels().differs_from(&self.levels)
    }
}

/// Lets the processor keep up the local APIC of a virtual CPU that starts, where it can and the domain has a page for it.
pub fn begin(core: &mut Core, domain: &Domain) -> Result<(), Failed> {
    let index = core.index;
    let access = domain.view.translate(&Identity, GuestPhys::new(local_apic::ADDRESS), Access::Write);
    let (Some(access), true) = (access, core.capabilities.virtualizes_apic()) else { return Ok(()) };
    let Some(local) = core.local() else { return Ok(()) };
    // From here on `set_mode` makes the page what it is after reset.
    local.virtual_apic = Some(VirtualApic { mode: ApicMode::Off, levels: Vectors::NONE });
    let vmcs = &mut core.vmcs;
    vmcs.set(field::VIRTUAL_APIC_ADDRESS, PAGES[index].address().as_u64())?;
    vmcs.set(field::APIC_ACCESS_ADDRESS, access.hpa.as_u64())?;
    vmcs.set(field::TPR_THRESHOLD, 0)?;
    for bitmap in EOI_EXIT_BITMAPS {
        vmcs.set(bitmap, 0)?;
    }
    let (pin_based, primary, exit) = Capabilities::with_virtual_apic(
        vmcs.get(field::PIN_BASED_CONTROLS),
        vmcs.get(field::PRIMARY_CONTROLS),
        vmcs.get(field::EXIT_CONTROLS),
    );
    vmcs.set(field::PIN_BASED_CONTROLS, pin_based)?;
    vmcs.set(field::PRIMARY_CONTROLS, Capabilities::with_halts(primary, true))?;
    vmcs.set(field::EXIT_CONTROLS, exit)?;
    set_mode(core);
    Ok(())
}

const EOI_EXIT_BITMAPS: [field::Field<u64>; 4] =
    [field::EOI_EXIT_BITMAP_0, field::EOI_EXIT_BITMAP_1, field::EOI_EXIT_BITMAP_2, field::EOI_EXIT_BITMAP_3];

/// The model's mode may have changed.
pub(super) fn set_mode(core: &mut Core) {
    let (machine, index) = (core.machine, core.index);
    let Some(local) = core.local() else { return };
    let mode = match (local.apic.is_on(), local.apic.is_x2apic()) {
        (false, _) => ApicMode::Off,
        (true, false) => ApicMode::XApic,
        (true, true) => ApicMode::X2Apic,
    };
    let Some(state) = &mut local.virtual_apic else { return };
    let was_off = state.mode == ApicMode::Off;
    state.mode = mode;
    if was_off {
        // As after reset: nothing is requested, and nothing in service.
        PAGES[index].0.iter().for_each(|word| word.store(0, Relaxed));
        core.vmcs.write(field::GUEST_INTERRUPT_STATUS, 0);
    }
    let secondary = Capabilities::with_apic_mode(core.vmcs.get(field::SECONDARY_CONTROLS), mode);
    core.vmcs.write(field::SECONDARY_CONTROLS, secondary);
    let msrs = if mode == ApicMode::X2Apic { machine.msr_bitmap_x2apic } else { machine.msr_bitmap_full };
    core.vmcs.write(field::MSR_BITMAPS, msrs.as_u64());
    show_all(core);
}

fn show_all(core: &mut Core) {
    for number in SHOWN {
        show(core, number);
    }
}

/// Shows the guest a register of the model's.
pub(super) fn show(core: &mut Core, number: u32) {
    let page = &PAGES[core.index];
    let now = machine::now();
    let Some(local) = core.local() else { return };
    match local.virtual_apic.map(|state| state.mode) {
        Some(ApicMode::XApic) => page.set(number, local.apic.read_page(number << 4, now)),
        Some(ApicMode::X2Apic) => {
            // What is no register in this mode nobody can read.
            if let Ok(value) = local.apic.read_msr(number, now) {
                page.set_wide(number, value);
            }
        }
        Some(ApicMode::Off) | None => {}
    }
}

/// An APIC-write VM exit: what the guest has written is in the page.
pub(super) fn written(core: &mut Core, offset: u32) {
    let page = &PAGES[core.index];
    let number = offset >> 4;
    let now = machine::now();
    let Some(local) = core.local() else { return };
    let value = page.get(number);
    let effect = if local.apic.is_x2apic() {
        // The processor has checked all but the value.
        local.apic.write_msr(number, value.into(), now).unwrap_or(Effect::None)
    } else {
        if number == register::ICR {
            // Of this one the processor tells nobody.
            let high = page.get(register::ICR_HIGH);
            local.apic.write_page(register::ICR_HIGH << 4, high, now);
        }
        local.apic.write_page(number << 4, value, now)
    };
    local.note(effect);
    mmio::follow(core, effect);
    if number == register::SVR {
        // Switched off by software, all entries of the local vector table are masked.
        show_all(core);
    } else {
        show(core, number);
    }
}

/// An APIC-access VM exit: an access to the page that is not the processor's to carry out.
pub(super) fn accessed(core: &mut Core, access: ApicAccess, exit: Exit) {
    let address = GuestPhys::new(local_apic::ADDRESS + u64::from(access.offset));
    let done = access.is_write.map(|is_write| mmio::emulate(core, address, is_write, mmio::Place::KeptApic));
    if !matches!(done, Some(Ok(()))) {
        core.crash(exit);
    }
}

/// Reads what the processor has left to us: registers that are no mere storage, and parts of others. Each is the page's or
/// the model's.
pub(super) fn read(core: &mut Core, offset: u32, bytes: u8) -> u64 {
    let now = machine::now();
    let page = &PAGES[core.index];
    let (register, part) = (offset & !3, 8 * (offset & 3));
    let is_pages = register & 0xf == 0 && local_apic::is_kept_up(register >> 4);
    let value = match core.local() {
        Some(local) if local.apic.is_on() && !is_pages => local.apic.read_page(register, now),
        Some(local) if local.apic.is_on() => page.get(register >> 4),
        _ => return u64::MAX,
    };
    mmio::part_of(value, part, bytes)
}

/// A write that the processor has left to us: to what can only be read, or is no register; or one that is not of the 32 bits
/// that registers are to be written with, and has no effect.
pub(super) fn write(core: &mut Core, offset: u32, bytes: u8, value: u64) {
    let now = machine::now();
    let is_pages = local_apic::is_kept_up(offset >> 4);
    let Some(local) = core.local() else { return };
    if bytes != 4 || offset & 0xf != 0 || is_pages || !local.apic.is_on() {
        return;
    }
    let effect = local.apic.write_page(offset, value as u32, now);
    local.note(effect);
    mmio::follow(core, effect);
}

/// The end of an interrupt that is a level.
pub(super) fn ended(core: &mut Core, vector: u8) {
    mmio::follow(core, Effect::EndOfLevel(vector));
    attend(core);
}

/// Hands what the model's local APIC was asked for over to the processor.
#[inline(never)]
pub(super) fn hand_over(core: &mut Core) {
    let page = &PAGES[core.index];
    let Some(local) = core.local() else { return };
    let Some(state) = &mut local.virtual_apic else { return };
    if state.mode == ApicMode::Off {
        return;
    }
    let levels = local.apic.levels();
    let news = levels.differs_from(&state.levels).then_some(levels);
    state.levels = levels;
    let requests = local.apic.take_requests();
    if let Some(levels) = news {
        for (bitmap, bits) in EOI_EXIT_BITMAPS.into_iter().zip(levels.0) {
            core.vmcs.write(bitmap, bits);
        }
        (0..8).for_each(|part| page.set(register::TMR + part, levels.part(part)));
    }
    let Some(highest) = requests.highest() else { return };
    for part in 0..8 {
        let bits = requests.part(part);
        if bits != 0 {
            page.set(register::IRR + part, page.get(register::IRR + part) | bits);
        }
    }
    let status = core.vmcs.get(field::GUEST_INTERRUPT_STATUS);
    if highest > status as u8 {
        core.vmcs.write(field::GUEST_INTERRUPT_STATUS, status & 0xff00 | u16::from(highest));
    }
    wake(core);
}

/// Ends the guest's halt if an interrupt is pending that it takes. Processors do that themselves; Bochs does not.
pub(super) fn wake(core: &mut Core) {
    let (pending, priority) =
        (core.vmcs.get(field::GUEST_INTERRUPT_STATUS) as u8, PAGES[core.index].get(register::PPR));
    if u32::from(pending >> 4) > priority >> 4 & 0xf && core.takes_interrupts() {
        core.vmcs.write(field::GUEST_ACTIVITY, interrupts::ACTIVE);
    }
}
