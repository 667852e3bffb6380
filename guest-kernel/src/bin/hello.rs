//! The smallest guest: says who it is, echoes what is typed, answers who asks, and sleeps otherwise.
#![no_std]
#![no_main]

extern crate alloc;

use guest_kernel::kernel::{Kernel, Pace, Program};
use guest_kernel::platform::atoll::{Atoll, Started};
use guest_kernel::programs::answer;
use guest_kernel::say;
use io_rings::urpc::Message;

guest_kernel::main!(run);

struct Hello;

impl Program<Atoll> for Hello {
    fn message(&mut self, kernel: &mut Kernel<Atoll>, slot: usize, message: &Message) {
        answer::pong(kernel, slot, message);
    }

    fn peer(&mut self, _: &mut Kernel<Atoll>, slot: usize, up: bool) {
        say!("hello: slot {slot} {}", if up { "came" } else { "went" });
    }

    fn line(&mut self, _: &mut Kernel<Atoll>, line: &str) {
        say!("hello: you typed: {line}");
    }
}

fn run(started: Started) -> ! {
    let Started { platform, handover, heap_bytes, vcpu, apic_id, domain, mesh, .. } = started;
    let name = handover.option("name").unwrap_or("hello");
    let domain = domain.map_or(alloc::string::String::from("a domain"), |id| alloc::format!("domain {id}"));
    let mhz = guest_kernel::platform::Platform::ticks_per_millisecond(&platform) / 1000;
    say!(
        "hello: {name} is {domain}, virtual CPU {vcpu} on core {apic_id}, {} MiB of memory, TSC {mhz} MHz",
        heap_bytes >> 20
    );
    Kernel::new(platform, mesh, Pace::from_option(handover.option("pace"))).run(&mut Hello)
}
