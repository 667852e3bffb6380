//! What things cost, in ticks of the time-stamp counter; under Bochs a tick is an instruction.
//!
//! `role=main` measures and prints a row per line; `role=peer` is whom it talks to. First come the rows that need
//! nobody else ([`local`]), on Xen as well as on Atoll; then those with a peer ([`pair`]), where there is a mesh; then
//! two phases during which neither guest causes an exit, announced on the console so that domain 0, who can count
//! exits, looks before and after. At the end both guests power off. `role=para` prints the rows that need nobody else, and
//! more of them ([`para`]). `role=modes` prints what the same work costs however the guest is virtualized, also where
//! there is no hypervisor at all ([`modes`]).
#![no_std]
#![no_main]

extern crate alloc;

mod keepers;
mod local;
mod modes;
mod pair;
mod para;
mod peer;
mod ring;
mod second;

use abi::xen::sched::reason;
use guest_kernel::kernel::{Kernel, Pace};
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, Started, cpu};
use guest_kernel::programs::measure::Row;
use guest_kernel::say;

guest_kernel::main!(run);

/// How long a phase without exits lasts: long enough for domain 0 to look more than once, also where it shares a processor
/// with the guests.
fn phase_ticks(platform: &Atoll) -> u64 {
    (60 * platform.ticks_per_millisecond()).max(5_000_000)
}

/// How long the guest rests behind the line that begins a phase and before the one that ends it, so that what printing
/// costs is not counted, and domain 0, who first writes the line to a slow serial port, looks in time.
fn rest_ticks(platform: &Atoll) -> u64 {
    (200 * platform.ticks_per_millisecond()).max(1_500_000)
}

fn run(started: Started) -> ! {
    let Started { platform, handover, mesh, domain, store, .. } = started;
    let mut kernel = Kernel::new(platform, mesh, Pace::Poll);
    // A report is an event to domain 0, and so an exit, at a time nobody chose.
    kernel.reporting = false;
    if handover.option("role") == Some("peer") {
        kernel.run(&mut peer::Peer::default());
    }
    let empty = empty_pair();
    if kernel.platform.is_pc() || handover.option("role") == Some("modes") {
        modes::measure(&mut kernel, handover.option("mode").unwrap_or("bare"), empty);
        say!("bench: done");
        kernel.platform.shutdown(reason::POWEROFF)
    }
    let sampling = local::Sampling::new(empty);
    local::measure(&kernel.platform, &sampling);
    if handover.option("role") == Some("para") {
        keepers::measure(&kernel.platform, store, empty);
        para::measure(&kernel.platform, &sampling, domain.unwrap_or(0));
        say!("bench: done");
        kernel.platform.shutdown(reason::POWEROFF)
    }
    let ticks = phase_ticks(&kernel.platform);
    phase("steady_exits_compute", [rest_ticks(&kernel.platform); 2], || {
        let start = cpu::tsc();
        let mut state = start | 1;
        while cpu::tsc().wrapping_sub(start) < ticks {
            cpu::interrupt_window();
            // Work that the compiler cannot leave out, and that leaves the processor alone.
            for _ in 0..1000 {
                state =
                    core::hint::black_box(state.rotate_left(5) ^ state.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
        }
    });
    if kernel.mesh.is_some() {
        pair::measure(&mut kernel, empty);
    }
    say!("bench: done");
    kernel.platform.shutdown(reason::POWEROFF)
}

/// Runs `work` between the two lines that domain 0 looks for, with pauses of so many ticks before and after.
fn phase(name: &str, [before, after]: [u64; 2], work: impl FnOnce()) {
    let begins = cpu::tsc() + before;
    say!("bench: phase {name}-begin {begins}");
    rest(begins.saturating_sub(cpu::tsc()));
    work();
    let ended = cpu::tsc();
    rest(after);
    say!("bench: phase {name}-end {ended}");
}

/// Does nothing for a while, without leaving the core. Interrupts are let in now and then: under a hypervisor in Bochs, which
/// takes no external-interrupt exit from a guest that keeps them off, nobody else would get the processor.
fn rest(ticks: u64) {
    let start = cpu::tsc();
    while cpu::tsc().wrapping_sub(start) < ticks {
        cpu::interrupt_window();
        core::hint::spin_loop();
    }
}

/// The cost of reading the counter twice: the least of many.
fn empty_pair() -> u64 {
    (0..1000)
        .map(|_| {
            let before = cpu::tsc();
            cpu::tsc().wrapping_sub(before)
        })
        .min()
        .unwrap_or(0)
}

/// Prints a row that has samples.
fn print(row: Row) {
    if let Some(line) = row.line() {
        say!("{line}");
    }
}

/// The kernel all roles run on.
type BenchKernel = Kernel<Atoll>;
