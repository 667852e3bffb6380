//! RDMSR and WRMSR of what `msr_policy` does not pass through.

use abi::xen::cpuid::HYPERCALL_PAGE_MSR;
use vmx::capabilities::Capabilities;
use vmx::controls::Entry;
use vmx::field;
use vmx::injection::Injection;
use x86::msr::{
    IA32_APIC_BASE, IA32_BIOS_SIGN_ID, IA32_EFER, IA32_FEATURE_CONTROL, IA32_MISC_ENABLE, IA32_PAT,
    IA32_TIME_STAMP_COUNTER,
};

use super::apic;
use crate::core::Core;
use crate::msr_policy::{X2APIC_FIRST, X2APIC_LAST};

/// IA32_MISC_ENABLE as every guest has it: fast strings; no branch trace storage, no precise event sampling.
const MISC_ENABLE: u64 = 1 | 1 << 11 | 1 << 12;
/// Interrupt command register.
const ICR: u32 = 0x830;
/// Self IPI.
const SELF_IPI: u32 = 0x83f;
/// Local APIC id.
const APIC_ID: u32 = 0x802;
/// Logical destination.
const LDR: u32 = 0x80d;
/// Spurious-interrupt vector.
const SVR: u32 = 0x80f;
/// The APIC takes interrupts.
const SVR_ENABLED: u64 = 1 << 8;
/// Vector, and on: all that a guest may set. Other bits need not be there, and would be a fault.
const SVR_GUEST: u64 = 0xff | SVR_ENABLED;
/// Thermal LVT, performance LVT, LINT0, LINT1, error.
const LVT_OTHER: core::ops::RangeInclusive<u32> = 0x833..=0x837;
/// Mask and vector: all of such an entry that a guest may set.
const LVT_GUEST: u64 = 1 << 16 | 0xff;

/// RDMSR.
pub fn read(core: &mut Core) {
    let number = core.frame.registers.rcx as u32;
    match read_value(core, number) {
        Some(value) => {
            let registers = &mut core.frame.registers;
            registers.rax = value & 0xffff_ffff;
            registers.rdx = value >> 32;
            core.advance();
        }
        None => core.inject(Injection::GENERAL_PROTECTION),
    }
}

/// WRMSR.
#[inline(never)]
pub fn write(core: &mut Core) {
    let registers = &core.frame.registers;
    let (number, value) = (registers.rcx as u32, registers.rax & 0xffff_ffff | registers.rdx << 32);
    match write_value(core, number, value) {
        Some(()) => core.advance(),
        None => core.inject(Injection::GENERAL_PROTECTION),
    }
}

#[inline]
fn read_value(core: &Core, number: u32) -> Option<u64> {
    match number {
        IA32_APIC_BASE => core.vcpu.as_ref().map(|vcpu| vcpu.apic_base),
        IA32_PAT => core.vcpu.as_ref().map(|vcpu| vcpu.pat),
        // Locked, VMX off.
        IA32_FEATURE_CONTROL => Some(1),
        IA32_MISC_ENABLE => Some(MISC_ENABLE),
        // No revision: guests do not look for updates, nor take them.
        IA32_BIOS_SIGN_ID => Some(0),
        APIC_ID => core.vcpu.as_ref().map(|vcpu| vcpu.apic_id().into()),
        LDR => core.vcpu.as_ref().map(|vcpu| apic::logical_id(vcpu.apic_id()).into()),
        ICR => Some(0),
        // Without x2APIC in the processor its registers come here.
        X2APIC_FIRST..=X2APIC_LAST if !core.registers.is_x2apic() => Some(core.registers.read(number)),
        _ => None,
    }
}

#[inline(never)]
fn write_value(core: &mut Core, number: u32, value: u64) -> Option<()> {
    match number {
        // A guest keeps its local APIC, in x2APIC mode: writing what is there already is fine.
        IA32_APIC_BASE => core.vcpu.as_ref().filter(|vcpu| vcpu.apic_base == value).map(|_| ()),
        IA32_PAT => {
            // Each byte names a memory type that there is: UC, WC, WT, WP, WB, UC-.
            let valid = value.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7));
            core.vcpu.as_mut().filter(|_| valid)?.pat = value;
            Some(())
        }
        IA32_EFER => efer(core, value),
        // The counter is the machine's.
        IA32_TIME_STAMP_COUNTER => Some(()),
        ICR => apic::command(core, value),
        // Only fixed interrupts, or none: NMI, SMI and INIT on a pin are not a guest's to ask for.
        _ if LVT_OTHER.contains(&number) => {
            core.registers.local_vectors().find(|&entry| entry == number)?;
            // SAFETY: an entry of this core's local vector table that is there; without a delivery mode it is fixed.
            unsafe { core.registers.write(number, value & LVT_GUEST) };
            Some(())
        }
        SVR => {
            // SAFETY: this core's own APIC; no other core is reached.
            unsafe { core.registers.write(SVR, value & SVR_GUEST) };
            let on = value & SVR_ENABLED != 0;
            core.watch_halts(!on);
            if on {
                // Events that came while it was off had no interrupt, as on Xen.
                crate::events::redeliver(core, core.index);
            }
            Some(())
        }
        SELF_IPI if !core.registers.is_x2apic() => apic::self_ipi(core, value as u8),
        X2APIC_FIRST..=X2APIC_LAST if !core.registers.is_x2apic() => {
            if !matches!(number, 0x808 | 0x80b | 0x828 | 0x832 | 0x838 | 0x83e) {
                return None;
            }
            // SAFETY: the registers that x2APIC guests write directly; none reaches another core.
            unsafe { core.registers.write(number, value) };
            Some(())
        }
        // A guest that asks for its revision writes zero first; what it can switch in the other is not there.
        IA32_BIOS_SIGN_ID | IA32_MISC_ENABLE => Some(()),
        HYPERCALL_PAGE_MSR if core.domain().is_ok_and(|domain| !domain.is_full) => {
            crate::hypercall::page(core, value)
        }
        _ => None,
    }
}

/// Writes EFER as the processor would, and lets the crossing switch it only where it differs from the hypervisor's.
fn efer(core: &mut Core, value: u64) -> Option<()> {
    const LME: u64 = 1 << 8;
    const LMA: u64 = 1 << 10;
    const DEFINED: u64 = 1 | LME | LMA | 1 << 11;
    const CR0_PG: u64 = 1 << 31;
    const HOST: u64 = boot::trampoline::EFER as u64;
    let vmcs = &mut core.vmcs;
    let (exit, entry) = (vmcs.get(field::EXIT_CONTROLS), vmcs.get(field::ENTRY_CONTROLS));
    let switched = entry & Entry::LOAD_EFER.bits() != 0;
    let now = if switched { vmcs.get(field::GUEST_EFER) } else { HOST | LMA };
    let paging = vmcs.get(field::GUEST_CR0) & CR0_PG != 0;
    if value & !DEFINED != 0 || paging && (value ^ now) & LME != 0 {
        return None;
    }
    let in_long_mode = entry & Entry::IA32E_MODE_GUEST.bits() != 0;
    let value = value & !LMA | if in_long_mode { LMA } else { 0 };
    vmcs.write(field::GUEST_EFER, value);
    // Outside of long mode it is always switched: KVM, for one, would take LME away on an entry that does not load EFER.
    let same = in_long_mode && value & !LMA == HOST;
    let (exit, entry) = Capabilities::with_efer_switched(exit, entry, !same);
    vmcs.write(field::EXIT_CONTROLS, exit);
    vmcs.write(field::ENTRY_CONTROLS, entry);
    Some(())
}
