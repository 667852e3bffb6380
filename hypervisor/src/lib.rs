//! Atoll's mechanisms: cores, domains, exits, hypercalls, event channels.
//!
//! The hypervisor is itself a multikernel. Each core runs [`core::Core::run`], one visible loop: enter the guest, get
//! the exit back as a value, handle it, enter again. A core owns its domain and everything the exit path needs; cores
//! ask each other by message and NMI ([`core`]). Memory as such is core 0's ([`memory`]).
//!
//! What this room never does: parse a file (but for domain 0's own image, at boot), keep policy (that is domain 0's,
//! in `guest-kernel/src/control`), or read a message that guests send each other.
//!
//! A reader's path: `main.rs` for the boot, [`core`] for the loop, [`exits`] for what a guest can cause, [`hypercall`]
//! for what it can ask, [`domain`] for what it is. Guests that believe that they own a PC have a room of their own,
//! [`pc`].
#![no_std]

#[cfg(test)]
extern crate std;

pub mod apic_state;
pub mod checks;
pub mod console;
pub mod core;
pub mod cpuid_policy;
pub mod devices;
pub mod domain;
pub mod events;
pub mod exits;
pub mod grants;
pub mod guest_memory;
pub mod hypercall;
pub mod interrupts;
pub mod machine;
pub mod memory;
pub mod msr_policy;
pub mod pc;
pub mod ports;
pub mod registry;
pub mod stop;
pub mod time;

/// The word with these bits set.
const fn bits<const WIDTH: usize>(numbers: [u32; WIDTH]) -> u64 {
    let mut mask = 0;
    let mut at = 0;
    while at < WIDTH {
        mask |= 1 << numbers[at];
        at += 1;
    }
    mask
}
