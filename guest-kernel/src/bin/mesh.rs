//! A guest that talks: asks every peer all the time, answers, passes the token, and reports what it counts. At its console
//! `latency SLOT` tells how long that peer's answers took since it was last asked, `answers` how many each peer has given; any
//! other line tells the counts.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;

use guest_kernel::kernel::store::Store;
use guest_kernel::kernel::watchdog::Watchdog;
use guest_kernel::kernel::{Kernel, Pace, Program, Step};
use guest_kernel::platform::atoll::{Atoll, Started};
use guest_kernel::programs::exchange::Exchange;
use guest_kernel::say;
use io_rings::urpc::Message;

guest_kernel::main!(run);

struct Member {
    exchange: Exchange,
}

impl Program<Atoll> for Member {
    fn step(&mut self, kernel: &mut Kernel<Atoll>) -> Step {
        if let Some(hops) = self.exchange.take_lap() {
            say!("mesh: the token went round in {hops} hops");
        }
        self.exchange.step(kernel)
    }

    fn message(&mut self, kernel: &mut Kernel<Atoll>, slot: usize, message: &Message) {
        self.exchange.message(kernel, slot, message);
    }

    fn peer(&mut self, _: &mut Kernel<Atoll>, slot: usize, up: bool) {
        say!("mesh: slot {slot} {}", if up { "came" } else { "went" });
        self.exchange.peer(slot);
    }

    fn line(&mut self, kernel: &mut Kernel<Atoll>, line: &str) {
        if let Some(slot) = line.strip_prefix("latency ").and_then(|slot| slot.parse().ok()) {
            let latency = self.exchange.watch(slot).unwrap_or_default();
            return say!(
                "mesh: latency to {slot}: {} answers, {} ticks at the median, {} at 99 %, {} at most",
                latency.number(),
                latency.hundredths(50),
                latency.hundredths(99),
                latency.most()
            );
        }
        if line == "answers" {
            let answers: String =
                self.exchange.answered().map(|(slot, answers)| format!(" {slot}:{answers}")).collect();
            return say!("mesh: answers{answers}");
        }
        if let Some(mesh) = &kernel.mesh {
            let counts = mesh.counts();
            say!(
                "mesh: received {}, sent {}, lost {}, liars {}",
                counts.received,
                counts.sent,
                counts.lost,
                counts.liars
            );
        }
    }
}

fn run(started: Started) -> ! {
    let Started { platform, handover, mesh, store, .. } = started;
    match &mesh {
        Some(mesh) => {
            say!("mesh: slot {} of {}, domain {}", mesh.own_slot(), mesh.slots(), mesh.own_domain())
        }
        None => say!("mesh: no mesh here, nobody to talk to"),
    }
    let pace = Pace::from_option(handover.option("pace"));
    let mut kernel = Kernel::new(platform, mesh, pace);
    kernel.watchdog = Watchdog::from_option(handover.option("watchdog"));
    kernel.store = store.map(|(page, port)| Store::new(page, port));
    kernel.run(&mut Member { exchange: Exchange::new() })
}
