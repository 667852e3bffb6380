//! The upcall: the interrupt that says that events wait. It is the one that must be cheap, so it has a gate of its own,
//! and saves nothing but the three registers it uses.

use core::sync::atomic::{AtomicU64, Ordering};

use x86::msr::IA32_X2APIC_EOI;

/// When the last one came.
static LAST_TSC: AtomicU64 = AtomicU64::new(0);
/// How many came. Only the handler writes it, so it need not count in one step.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// When the last upcall came, and how many there were.
#[inline]
pub fn last() -> (u64, u64) {
    (LAST_TSC.load(Ordering::Relaxed), COUNT.load(Ordering::Relaxed))
}

/// Notes the time, counts, ends the interrupt. What waits is found by the kernel, in the shared-info page.
#[unsafe(naked)]
pub(super) extern "C" fn enter() {
    core::arch::naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov [rip + {last}], rax",
        "inc qword ptr [rip + {count}]",
        "xor eax, eax",
        "xor edx, edx",
        "mov ecx, {eoi}",
        "wrmsr",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "iretq",
        last = sym LAST_TSC,
        count = sym COUNT,
        eoi = const IA32_X2APIC_EOI,
    )
}
