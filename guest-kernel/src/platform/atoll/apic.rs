//! The core's local APIC, in x2APIC mode: end of interrupt, and the deadline timer.

use core::sync::atomic::{AtomicBool, Ordering};

use x86::msr::{
    IA32_APIC_BASE, IA32_TSC_DEADLINE, IA32_X2APIC_EOI, IA32_X2APIC_LVT_TIMER, IA32_X2APIC_SELF_IPI,
    IA32_X2APIC_SIVR, IA32_X2APIC_TPR, rdmsr, wrmsr,
};

use super::pc;

/// APIC_BASE: on, and in x2APIC mode.
const ENABLED_X2APIC: u64 = 1 << 11 | 1 << 10;
/// Spurious-interrupt vector register: the APIC takes interrupts.
const SOFTWARE_ENABLE: u64 = 1 << 8;
/// LVT timer: TSC-deadline mode.
const DEADLINE_MODE: u64 = 2 << 17;

/// Whether the local APIC is in xAPIC mode ([`pc::XApic`]).
pub(super) static END_BY_PAGE: AtomicBool = AtomicBool::new(false);

/// Turns the local APIC on and lets its timer raise `timer`.
pub fn enable(spurious: u8, timer: u8) {
    // SAFETY: the core's own APIC; handlers for both vectors are loaded, and interrupts are off.
    unsafe {
        let base = rdmsr(IA32_APIC_BASE);
        if base & ENABLED_X2APIC != ENABLED_X2APIC {
            wrmsr(IA32_APIC_BASE, base | ENABLED_X2APIC);
        }
        wrmsr(IA32_X2APIC_SIVR, SOFTWARE_ENABLE | u64::from(spurious));
        wrmsr(IA32_X2APIC_TPR, 0);
        wrmsr(IA32_X2APIC_LVT_TIMER, DEADLINE_MODE | u64::from(timer));
    }
}

/// Says that the interrupt in service is done.
#[inline(always)]
pub fn end_of_interrupt() {
    if END_BY_PAGE.load(Ordering::Relaxed) {
        return pc::end_of_interrupt();
    }
    // SAFETY: called from the handler of an interrupt that the APIC delivered.
    unsafe { wrmsr(IA32_X2APIC_EOI, 0) }
}

/// Raises the timer's vector at `tick`; 0 is never.
#[inline]
pub fn set_deadline(tick: u64) {
    // SAFETY: the timer is in deadline mode, and its vector has a handler.
    unsafe { wrmsr(IA32_TSC_DEADLINE, tick) }
}

/// Interrupts this core.
pub fn interrupt_self(vector: u8) {
    // SAFETY: every vector has a handler.
    unsafe { wrmsr(IA32_X2APIC_SELF_IPI, u64::from(vector)) }
}
