//! RDMSR and WRMSR of a full guest, as far as they are its local APIC's. The others are as for a para guest.

use vmx::injection::Injection;
use x86::msr::{IA32_APIC_BASE, IA32_BIOS_SIGN_ID, IA32_EFER};

use super::{mmio, shadow, virtual_apic};
use crate::core::Core;
use crate::devices::local_apic::Effect;
use crate::exits;
use crate::machine;
use crate::msr_policy::{TSC_DEADLINE, X2APIC_FIRST, X2APIC_LAST};

/// The microcode's revision, in the upper half: newer than any whose errata a kernel works around. Of those none is this
/// PC's, whose timer is not the processor's.
const MICROCODE: u64 = 0x7fff_ffff << 32;

pub(super) fn read(core: &mut Core) {
    let number = core.frame.registers.rcx as u32;
    let now = machine::now();
    // Exits with shadow page tables alone.
    let efer = if number == IA32_EFER { shadow::registers::efer(core) } else { 0 };
    let Some(local) = core.local() else { return };
    let value = match number {
        IA32_APIC_BASE => Ok(local.apic.base()),
        TSC_DEADLINE => Ok(local.apic.tsc_deadline()),
        X2APIC_FIRST..=X2APIC_LAST => local.apic.read_msr(number - X2APIC_FIRST, now),
        IA32_BIOS_SIGN_ID => Ok(MICROCODE),
        IA32_EFER => Ok(efer),
        _ => return exits::msr::read(core),
    };
    match value {
        Ok(value) => {
            let registers = &mut core.frame.registers;
            (registers.rax, registers.rdx) = (value & 0xffff_ffff, value >> 32);
            core.advance();
        }
        Err(_) => core.inject(Injection::GENERAL_PROTECTION),
    }
}

/// The processor keeps up the local APIC, of which this has been written.
#[inline(never)]
fn show(core: &mut Core, number: u32) {
    match number {
        IA32_APIC_BASE => virtual_apic::set_mode(core),
        X2APIC_FIRST..=X2APIC_LAST => virtual_apic::show(core, number - X2APIC_FIRST),
        _ => {}
    }
}

pub(super) fn write(core: &mut Core) {
    let registers = &core.frame.registers;
    let (number, value) = (registers.rcx as u32, registers.rax & 0xffff_ffff | registers.rdx << 32);
    let now = machine::now();
    if number == IA32_EFER && shadow::shadows(core).is_some() {
        return match shadow::registers::write_efer(core, value) {
            Some(()) => core.advance(),
            None => core.inject(Injection::GENERAL_PROTECTION),
        };
    }
    let Some(local) = core.local() else { return };
    let effect = match number {
        IA32_APIC_BASE => local.apic.set_base(value).map(|()| Effect::Addressed),
        TSC_DEADLINE => {
            local.apic.set_tsc_deadline(value);
            Ok(Effect::None)
        }
        X2APIC_FIRST..=X2APIC_LAST => local.apic.write_msr(number - X2APIC_FIRST, value, now),
        _ => return exits::msr::write(core),
    };
    match effect {
        Ok(effect) => {
            local.note(effect);
            let is_shown = number != TSC_DEADLINE && local.virtual_apic.is_some();
            mmio::follow(core, effect);
            if is_shown {
                show(core, number);
            }
            core.advance();
        }
        Err(_) => core.inject(Injection::GENERAL_PROTECTION),
    }
}
