//! The smallest guest: says who it is, echoes what is typed, answers who asks, and sleeps otherwise.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;

use guest_kernel::kernel::store::Store;
use guest_kernel::kernel::watchdog::Watchdog;
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
    let Started { platform, handover, heap_bytes, vcpu, domain, mesh, store } = started;
    let name = handover.option("name").unwrap_or("hello");
    let domain = domain.map_or(String::from("a domain"), |id| format!("domain {id}"));
    // The local APIC of a virtual CPU does not know its core: domain 0 says which it is.
    let core = handover.option("core").map_or(String::new(), |core| format!(" on core {core}"));
    let mhz = guest_kernel::platform::Platform::ticks_per_millisecond(&platform) / 1000;
    say!(
        "hello: {name} is {domain}, virtual CPU {vcpu}{core}, {} MiB of memory, TSC {mhz} MHz",
        heap_bytes >> 20
    );
    let mut kernel = Kernel::new(platform, mesh, Pace::from_option(handover.option("pace")));
    kernel.watchdog = Watchdog::from_option(handover.option("watchdog"));
    kernel.store = store.map(|(page, port)| Store::new(page, port));
    kernel.run(&mut Hello)
}
