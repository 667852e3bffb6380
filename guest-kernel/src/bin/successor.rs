//! Another build of the multikernel's kernel, to replace one in a running core: it does the same, and calls itself otherwise.
//!
//! With `fails=` on its command line it fails where a build may fail that was never tried: `read`, `mesh`, `monitor`, `built`:
//! it refuses after that stage; `version`: it knows an older package; `panic`, `hang`, `fault`: it panics, hangs, or has a
//! triple fault when all is built; `late`: it panics when it has just taken over.
#![no_std]
#![no_main]

use core::arch::asm;

use ::boot::handover::Handover;
use guest_kernel::handover::{Refused, VERSION, unpack, unpack_as};
use guest_kernel::platform::atoll::Started;
use guest_kernel::programs::multikernel::boot::{self, Build};
use guest_kernel::programs::multikernel::{Carried, Stage};

guest_kernel::main!(run);

const BUILD: Build = Build { name: "successor", read, after, first };

fn run(started: Started) -> ! {
    boot::run(started, &BUILD)
}

fn read(handover: &Handover, package: &[u8]) -> Result<Carried, Refused> {
    match handover.option("fails") {
        Some("version") => unpack_as(VERSION - 1, package),
        _ => unpack(package),
    }
}

fn after(handover: &Handover, stage: Stage) -> Result<(), Refused> {
    match handover.option("fails") {
        Some(name) if name == stage.name() => Err(Refused::Failed(stage.name())),
        Some("panic") if stage == Stage::Built => panic!("asked to"),
        Some("hang") if stage == Stage::Built => loop {
            core::hint::spin_loop();
        },
        Some("fault") if stage == Stage::Built => triple_fault(),
        _ => Ok(()),
    }
}

fn first(handover: &Handover) {
    if handover.option("fails") == Some("late") {
        panic!("asked to");
    }
}

/// An exception without a way to handle it.
fn triple_fault() -> ! {
    let nothing = [0u64; 2];
    // SAFETY: ends this kernel: with an empty table of handlers the invalid instruction is a triple fault.
    unsafe { asm!("lidt [{0}]", "ud2", in(reg) &raw const nothing, options(noreturn, nostack)) }
}
