//! The upcall: the interrupt that says that events wait. It is the one that must be cheap, so it has a gate of its own,
//! and saves nothing but the three registers it uses. Each virtual CPU has its own, so that neither waits for the
//! other's notes.

use core::sync::atomic::{AtomicU64, Ordering};

use x86::msr::IA32_X2APIC_EOI;

/// What an upcall leaves behind, on a cache line of its virtual CPU's own. Only the handler writes it, so it need not
/// count in one step.
#[repr(C, align(64))]
struct Notes {
    /// When the last one came.
    last_tsc: AtomicU64,
    /// How many came.
    count: AtomicU64,
}

impl Notes {
    const fn new() -> Self {
        Self { last_tsc: AtomicU64::new(0), count: AtomicU64::new(0) }
    }

    #[inline]
    fn read(&self) -> (u64, u64) {
        (self.last_tsc.load(Ordering::Relaxed), self.count.load(Ordering::Relaxed))
    }
}

static FIRST: Notes = Notes::new();
static SECOND: Notes = Notes::new();

/// When the last upcall of virtual CPU 0 came, and how many there were.
#[inline]
pub fn last() -> (u64, u64) {
    FIRST.read()
}

/// The same of virtual CPU 1.
#[inline]
pub fn last_of_second() -> (u64, u64) {
    SECOND.read()
}

macro_rules! gate {
    ($(#[$what:meta])* $name:ident, $notes:ident) => {
        $(#[$what])*
        #[unsafe(naked)]
        pub(super) extern "C" fn $name() {
            core::arch::naked_asm!(
                "push rax",
                "push rcx",
                "push rdx",
                "rdtsc",
                "shl rdx, 32",
                "or rax, rdx",
                "mov [rip + {notes}], rax",
                "inc qword ptr [rip + {notes} + 8]",
                "xor eax, eax",
                "xor edx, edx",
                "mov ecx, {eoi}",
                "wrmsr",
                "pop rdx",
                "pop rcx",
                "pop rax",
                "iretq",
                notes = sym $notes,
                eoi = const IA32_X2APIC_EOI,
            )
        }
    };
}

gate!(
    /// Notes the time, counts, ends the interrupt. What waits is found by the kernel, in the shared-info page.
    enter,
    FIRST
);
gate!(
    /// The same on virtual CPU 1.
    enter_on_second,
    SECOND
);
