//! The same work, however the guest is virtualized: with Xen's interface or as a PC, and on the bare machine.
//!
//! A row's name is the mode, a slash and the work. Under Bochs a tick is an instruction, and what a row costs beyond the
//! bare machine's is the hypervisor's. Where there is one, the same work is then done again as often as the row has it in
//! operations, in a phase over which domain 0 counts the exits.

mod console;
mod disk;
mod pages;

use alloc::format;
use alloc::string::String;
use core::arch::asm;

use boot::descriptors::InterruptFrame;
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, cpu, hypercall, interrupt_self, interrupts, pc};
use guest_kernel::programs::measure::Row;
use guest_kernel::say;

use crate::local::{Sampling, repeat};
use crate::{BenchKernel, pair, print};

/// Operations in a sample.
const OPERATIONS: u64 = 10;
/// Operations over which exits are counted.
const COUNTED: u64 = 1000;
/// Samples of what takes long.
const FEW: usize = 50;
/// A vector that leaves a note.
const VECTOR: u8 = 0x51;
/// Ticks of rest before what is counted, for domain 0 to have written the lines before by its serial port, and after it: it
/// looks in both.
const REST: [u64; 2] = [4_000_000, 1_000_000];
/// Exceptions.
const BREAKPOINT: u64 = 3;

/// Measures in one mode.
struct Meter<'a> {
    platform: &'a Atoll,
    mode: &'a str,
    /// The cost of looking at the counter.
    empty: u64,
}

/// Measures and prints all rows.
pub fn measure(kernel: &mut BenchKernel, mode: &str, empty: u64) {
    alone(&kernel.platform, mode, empty);
    if kernel.mesh.is_some() {
        pair::notify(kernel, empty, format!("{mode}/notify_guest").leak(), REST);
    }
}

/// Rows that need no other guest.
fn alone(platform: &Atoll, mode: &str, empty: u64) {
    let meter = Meter { platform, mode, empty };
    interrupts::on_exception(answer);
    // First, while the local APIC is as a PC has it at its start: Bochs does not turn one on again that was off, which is
    // the way back from x2APIC mode.
    if platform.is_pc()
        && let Some(apic) = pc::XApic::enter(interrupts::SPURIOUS_VECTOR)
    {
        meter.row("mmio_apic_id", || {
            core::hint::black_box(apic.id());
        });
        meter.row("self_ipi_xapic", || interrupt(platform, || apic.interrupt_self(VECTOR)));
    }
    // What is asked of the system below that costs least: a full guest and a PC have nobody to call.
    let identify = || {
        core::hint::black_box(core::arch::x86_64::__cpuid(0));
    };
    if platform.is_pc() {
        meter.row("null_call", identify);
    } else {
        meter.row("null_call", || {
            core::hint::black_box(hypercall::xen_version());
        });
    }
    meter.row("cpuid", identify);
    // SAFETY: the handler returns, and changes nothing.
    meter.row("system_call", || unsafe { asm!("int3", options(nostack)) });
    meter.row("port_uart_status", || {
        core::hint::black_box(pc::line_status());
    });
    meter.row("port_timer_count", || {
        core::hint::black_box(pc::interval_timer());
    });
    meter.row("timer_set", || platform.set_deadline(Some(u64::MAX)));
    platform.set_deadline(None);
    meter.row("timer_fired", || {
        platform.set_deadline(Some(1));
        cpu::interrupt_window();
    });
    platform.set_deadline(None);
    meter.row("self_ipi_x2apic", || interrupt(platform, || interrupt_self(VECTOR)));
    pages::measure(&meter);
    if platform.is_pc() {
        disk::measure(&meter);
    }
    console::measure(&meter);
}

impl Meter<'_> {
    /// A row's name.
    fn name(&self, work: &str) -> String {
        format!("{}/{work}", self.mode)
    }

    /// A row of single operations.
    fn row(&self, work: &str, operation: impl Fn()) {
        let sampling = Sampling::of(self.empty, OPERATIONS);
        print(repeat(self.name(work).leak(), &sampling, &operation));
        self.count(work, COUNTED, || (0..COUNTED).for_each(|_| operation()));
    }

    /// A row of operations that are done so many at a time, and told of each.
    fn batched(&self, work: &str, operations: u64, batch: impl Fn()) {
        self.sampled(work, Row::new(self.name(work).leak()), operations, COUNTED.div_ceil(operations), batch);
    }

    /// A row of operations that take so long that few samples must do.
    fn seldom(&self, work: &str, operation: impl Fn()) {
        self.sampled(work, Row::of(self.name(work).leak(), FEW, 1), 1, FEW as u64, operation);
    }

    /// A row of batches of so many operations; exits are counted over so many batches.
    fn sampled(&self, work: &str, mut row: Row, operations: u64, counted: u64, batch: impl Fn()) {
        while !row.is_complete() {
            let before = cpu::tsc();
            batch();
            row.add(cpu::tsc().wrapping_sub(before).saturating_sub(self.empty), operations);
        }
        print(row);
        self.count(work, counted * operations, || (0..counted).for_each(|_| batch()));
    }

    /// Does work of so many operations while domain 0 counts the exits, where there is a domain 0.
    fn count(&self, work: &str, operations: u64, run: impl FnOnce()) {
        if self.mode == "bare" {
            return;
        }
        let name = self.name(work);
        announce(&name, operations);
        crate::phase(&name, REST, run);
    }
}

/// Says of how many operations the next phase of this name is.
pub fn announce(name: &str, operations: u64) {
    say!(r#"bench: {{"name":"{name}","median":{operations},"unit":"operations","samples":{operations}}}"#);
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

/// Answers the exceptions that the rows cause.
fn answer(frame: &mut InterruptFrame) -> bool {
    frame.vector == BREAKPOINT || pages::mend(frame)
}
