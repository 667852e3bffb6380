//! The same work, however the guest is virtualized: with Xen's interface or as a PC, and on the bare machine.
//!
//! A row's name is the mode, a slash and the work. Under Bochs a tick is an instruction, and what a row costs beyond the
//! bare machine's is the hypervisor's.

use alloc::format;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use boot::descriptors::InterruptFrame;
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, cpu, hypercall, interrupt_self, interrupts, memory, pc};
use guest_kernel::programs::measure::Row;

use crate::local::{Sampling, repeat};
use crate::print;

/// Operations in a sample.
const OPERATIONS: u64 = 10;
/// A vector that leaves a note.
const VECTOR: u8 = 0x51;
/// A page that is mapped and unmapped.
const PAGE: u64 = 0xefd0_0000;
/// Bytes of a console's row.
const TEXT: usize = 4096;

/// Where the page's entry is, for the page-fault handler; 0: it is not to be mended.
static ENTRY: AtomicU64 = AtomicU64::new(0);
/// What the handler puts there.
static PRESENT: AtomicU64 = AtomicU64::new(0);

/// Measures and prints all rows.
pub fn measure(platform: &Atoll, mode: &str, empty: u64) {
    let row = |work: &str, operation: &dyn Fn()| {
        let name = format!("{mode}/{work}").leak();
        print(repeat(name, &Sampling::of(empty, OPERATIONS), operation));
    };
    row("cpuid", &|| {
        core::hint::black_box(core::arch::x86_64::__cpuid(0));
    });
    if !platform.is_pc() {
        row("hypercall", &|| {
            core::hint::black_box(hypercall::xen_version());
        });
    }
    row("port_uart_status", &|| {
        core::hint::black_box(pc::line_status());
    });
    row("port_timer_count", &|| {
        core::hint::black_box(pc::interval_timer());
    });
    row("timer_set", &|| platform.set_deadline(Some(u64::MAX)));
    platform.set_deadline(None);
    row("timer_fired", &|| {
        platform.set_deadline(Some(1));
        cpu::interrupt_window();
    });
    platform.set_deadline(None);
    row("self_ipi_x2apic", &|| interrupt(platform, || interrupt_self(VECTOR)));
    page_rows(&row);
    if platform.is_pc()
        && let Some(apic) = pc::XApic::enter(interrupts::SPURIOUS_VECTOR)
    {
        row("mmio_apic_id", &|| {
            core::hint::black_box(apic.id());
        });
        row("self_ipi_xapic", &|| interrupt(platform, || apic.interrupt_self(VECTOR)));
    }
    let text = [b'.'; TEXT];
    let name = format!("{mode}/console_4k").leak();
    let mut console = Row::of(name, 20, 2);
    while !console.is_complete() {
        let before = cpu::tsc();
        platform.console_write(&text[..TEXT - 1]);
        platform.console_write(b"\n");
        while platform.console_flush() {
            core::hint::spin_loop();
        }
        console.add(cpu::tsc().wrapping_sub(before), 1);
    }
    print(console);
}

/// From the command until its handler has ended the interrupt. Interrupts are on, and it comes at once.
fn interrupt(platform: &Atoll, send: impl Fn()) {
    cpu::with_interrupts(|| {
        send();
        let mut came = false;
        while !came {
            platform.take_interrupts(&mut |_| came = true);
        }
    });
}

/// Work on page tables: the guest's own, which it changes as it likes.
fn page_rows(row: &dyn Fn(&str, &dyn Fn())) {
    if memory::map_window(PAGE..PAGE + 4096).is_err() {
        return;
    }
    let Some(entry) = memory::entry_of(PAGE) else { return };
    let present = entry.load(Ordering::Relaxed);
    row("page_table_update", &|| {
        entry.store(present ^ 1 << 9, Ordering::Relaxed);
        memory::forget(PAGE);
        entry.store(present, Ordering::Relaxed);
        memory::forget(PAGE);
    });
    row("page_table_load", &memory::reload);
    // The page's own frame: any that is the kernel's.
    let frame = core::ptr::from_ref(&ENTRY) as u64 & !4095;
    PRESENT.store(present & 0xfff | present & 1 << 63 | frame, Ordering::Relaxed);
    ENTRY.store(core::ptr::from_ref(entry) as u64, Ordering::Relaxed);
    interrupts::on_exception(mend);
    row("page_fault", &|| {
        entry.store(0, Ordering::Relaxed);
        memory::forget(PAGE);
        let value: u64;
        // SAFETY: the handler maps a page of the kernel's own there, which is only read.
        unsafe { asm!("mov {0}, [{1}]", out(reg) value, in(reg) PAGE, options(nostack, readonly)) };
        core::hint::black_box(value);
    });
    entry.store(present, Ordering::Relaxed);
    memory::forget(PAGE);
    ENTRY.store(0, Ordering::Relaxed);
}

/// Maps the page that a fault missed.
fn mend(frame: &mut InterruptFrame) -> bool {
    const PAGE_FAULT: u64 = 14;
    let entry = ENTRY.load(Ordering::Relaxed);
    if frame.vector != PAGE_FAULT || entry == 0 {
        return false;
    }
    // SAFETY: `page_rows` stored the address of an entry of these very page tables.
    let entry = unsafe { &*(entry as *const AtomicU64) };
    entry.store(PRESENT.load(Ordering::Relaxed), Ordering::Relaxed);
    true
}
