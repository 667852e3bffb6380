//! A family of hostile guests, for the others to survive. `act=NAME` on the command line chooses what it does.
//!
//! It says so first, does it, and says `bad: NAME done` if it is still there: refused with a fault, which it steps
//! over, or ignored. Some acts have no afterwards: the hypervisor stops the guest, or it never comes back by itself.
//! `seed=` makes the random ones differ.
#![no_std]
#![no_main]

extern crate alloc;

mod attempt;
mod calls;
mod flood;
mod hypercalls;
mod msrs;
mod pages;
mod pointers;
mod ports;
mod processor;
mod queues;
mod real_mode;
mod rings;
mod second;
mod storms;

use core::arch::asm;

use guest_kernel::kernel::{Kernel, Pace};
use guest_kernel::platform::atoll::{Started, memory};
use guest_kernel::programs::{answer::Ordinary, random::Random};
use guest_kernel::say;

guest_kernel::main!(run);

/// Far above any guest's memory, below the windows.
const NOBODYS_MEMORY: u64 = 0xd000_0000;

fn run(started: Started) -> ! {
    let Started { platform, handover, mesh, domain, store, .. } = started;
    let own = domain.unwrap_or(0);
    let act = handover.option("act").unwrap_or("");
    let mut random = Random::new(handover.option("seed").and_then(|seed| seed.parse().ok()).unwrap_or(1));
    attempt::install();
    say!("bad: {act}");
    match act {
        "triple-fault" => triple_fault(),
        "wild-ept-write" => wild_ept_write(),
        "msr-sweep" => msrs::sweep(),
        "port-sweep" => ports::sweep(),
        "hypercall-fuzz" => hypercalls::fuzz(&mut random),
        "cli-loop" => cli_loop(),
        "ring-lies" => match &mesh {
            Some(mesh) => rings::lie_to_peers(mesh, &mut random),
            None => say!("bad: no mesh here, nobody to lie to"),
        },
        "queue-lies" => queues::lie(&mut random),
        "timer-storm" => queues::timers(&mut random),
        "reservation-storm" => pages::reservations(&mut random),
        "grant-lies" => pages::grant_lies(own, &mut random),
        "wild-pointers" => pointers::wild_pointers(own),
        "call-lists" => pointers::lists(),
        "race" => second::race(own, &mut random),
        "store-flood" => flood::store(store, &mut random),
        "event-storm" => storms::events(),
        "icr-storm" => storms::interrupts(),
        "cr-abuse" => processor::control_registers(),
        "real-mode" => real_mode::general_protection(),
        "spurious-vector" => {
            storms::spurious_vector();
            cli_loop();
        }
        "lvt-reserved" => storms::local_vectors(),
        "vmx-instructions" => processor::vmx_instructions(),
        _ => say!("bad: no such act"),
    }
    say!("bad: {act} done");
    if act == "ring-lies" {
        // Behind the last word, because nothing can be said any more afterwards.
        rings::lie_to_keeper(&mut random);
    }
    Kernel::new(platform, mesh, Pace::from_option(handover.option("pace"))).run(&mut Ordinary)
}

/// An exception without a table to handle it.
fn triple_fault() {
    let nothing = [0u8; 10];
    // SAFETY: this guest is to end here.
    unsafe { asm!("lidt [{0}]", "ud2", in(reg) nothing.as_ptr(), options(noreturn)) }
}

/// A write to memory that this guest was never given, through page tables that say it may.
fn wild_ept_write() {
    if memory::map_window(NOBODYS_MEMORY..NOBODYS_MEMORY + 4096).is_ok() {
        // SAFETY: not memory of this program's; the hypervisor is expected to stop it.
        unsafe { (NOBODYS_MEMORY as *mut u64).write_volatile(0x0bad_0bad_0bad_0bad) };
    }
}

/// A core that takes no interrupt and never asks for anything again.
fn cli_loop() {
    // SAFETY: touches nothing.
    unsafe { asm!("cli", "2: jmp 2b", options(noreturn)) }
}
