//! Rows that need nobody else: what it costs to leave the guest and come back.

use core::arch::asm;

use abi::xen::cpuid;
use abi::xen::hvm::param;
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, cpu, hypercall, upcall};
use guest_kernel::programs::measure::Row;
use guest_kernel::say;

use crate::print;

/// Operations in a row between two looks at the counter: with several cores Bochs moves it in steps of five.
const OPERATIONS: u64 = 10;
/// Ticks from which an operation is measured by itself: the counter's steps are nothing to it, and where cores share a
/// processor fewer samples have another's turn in them.
const DEAR: u64 = 1000;

/// IA32_APIC_BASE: not passed through to any guest.
const APIC_BASE: u32 = 0x1b;

/// Measures and prints all of them.
pub fn measure(platform: &Atoll, sampling: &Sampling) {
    print(repeat("hypercall_null", sampling, || {
        core::hint::black_box(hypercall::xen_version());
    }));
    print(repeat("exit_cpuid", sampling, || {
        core::hint::black_box(core::arch::x86_64::__cpuid(cpuid::BASE));
    }));
    print(repeat("exit_rdmsr", sampling, read_apic_base));
    print(repeat("hypercall_pointer", sampling, || {
        // Whatever it answers, it was read and written.
        let _ = core::hint::black_box(hypercall::get_param(param::CONSOLE_EVTCHN));
    }));
    match event_self(platform, sampling) {
        Some(row) => print(row),
        None => say!("bench: event_self: no port to send to ourselves"),
    }
}

/// How samples are taken.
pub struct Sampling {
    /// The cost of looking at the counter.
    pub empty: u64,
    /// Operations in one sample.
    operations: u64,
}

impl Sampling {
    /// Where looking at the counter costs so much.
    pub fn new(empty: u64) -> Self {
        Self { empty, operations: operations_per_sample(empty) }
    }
}

impl Sampling {
    /// With this many operations in a sample.
    pub const fn of(empty: u64, operations: u64) -> Self {
        Self { empty, operations }
    }
}

/// [`OPERATIONS`], or one where leaving the guest is dear.
fn operations_per_sample(empty: u64) -> u64 {
    let exit = || {
        let before = cpu::tsc();
        core::hint::black_box(hypercall::xen_version());
        cpu::tsc().wrapping_sub(before).saturating_sub(empty)
    };
    let least = (0..100).map(|_| exit()).min().unwrap_or(0);
    if least < DEAR { OPERATIONS } else { 1 }
}

/// The median of samples of one operation.
pub fn repeat(name: &'static str, sampling: &Sampling, operation: impl Fn()) -> Row {
    let mut row = Row::new(name);
    while !row.is_complete() {
        let before = cpu::tsc();
        for _ in 0..sampling.operations {
            operation();
        }
        let after = cpu::tsc();
        row.add(after.wrapping_sub(before).saturating_sub(sampling.empty), sampling.operations);
    }
    row
}

fn read_apic_base() {
    // SAFETY: reads an MSR that every processor with a local APIC has.
    unsafe {
        asm!("rdmsr", in("ecx") APIC_BASE, out("eax") _, out("edx") _, options(nostack, nomem, preserves_flags));
    }
}

/// From before the hypercall until the upcall's handler has returned. What takes the event's bits down again is not
/// part of it: a kernel does that once for many events.
fn event_self(platform: &Atoll, sampling: &Sampling) -> Option<Row> {
    let port = hypercall::bind_ipi(0).ok()?;
    let mut row = Row::new("event_self");
    cpu::with_interrupts(|| {
        while !row.is_complete() {
            let mut sum = 0;
            for _ in 0..sampling.operations {
                platform.take_events(&mut |_| ());
                let (_, upcalls) = upcall::last();
                let before = cpu::tsc();
                if hypercall::send(port).is_err() {
                    return None;
                }
                while upcall::last().1 == upcalls {
                    core::hint::spin_loop();
                }
                sum += cpu::tsc().wrapping_sub(before).saturating_sub(sampling.empty);
            }
            row.add(sum, sampling.operations);
        }
        platform.close(port);
        Some(row)
    })
}
