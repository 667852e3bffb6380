//! A member of the multikernel, on Atoll. What it can be told at its console is in the program's head. With `tree=flat` it
//! sends to each other member by itself; else along the tree that follows from where the cores are. With
//! `patience=MILLISECONDS` it waits so long for a member that owes it an answer and says nothing, with 0 for ever.
#![no_std]
#![no_main]

use guest_kernel::handover::unpack;
use guest_kernel::platform::atoll::Started;
use guest_kernel::programs::multikernel::boot::{self, Build};

guest_kernel::main!(run);

const BUILD: Build =
    Build { name: "multikernel", read: |_, package| unpack(package), after: |_, _| Ok(()), first: |_| {} };

fn run(started: Started) -> ! {
    boot::run(started, &BUILD)
}
