//! A block device between two guests. `echo=back` serves it to whoever has one in its configuration (`devices =
//! ["echo,backend=NAME"]`), `echo=front` uses it, `echo=hostile` breaks every rule of it.
//!
//! Each says `echo: WHAT`: the states that it goes through, and what came of what it was asked for ([`front`] has the
//! commands). The back end keeps its blocks while front ends come and go; a front end keeps what was under way while
//! back ends do, and the next one does it. `pace=halt` halts whenever there is nothing to do, `pace=poll` never.
#![no_std]
#![no_main]

extern crate alloc;

mod back;
mod front;
mod hostile;
mod meter;

use abi::xen::xenbus::XenbusState;
use guest_kernel::kernel::store::Store;
use guest_kernel::kernel::{Kernel, Pace};
use guest_kernel::platform::atoll::ground::Grants;
use guest_kernel::platform::atoll::{Atoll, Started};
use guest_kernel::say;

guest_kernel::main!(run);

/// What xenstore calls this kind of device.
const KIND: &str = "echo";

/// `halt` is for measuring: each end sleeps whenever the other works.
fn pace(name: Option<&str>) -> Pace {
    match name {
        Some("halt") => Pace::Sleep(0),
        other => Pace::from_option(other),
    }
}

/// Says which state a device's end is in now, where that is another one.
fn tell(path: &str, before: XenbusState, now: XenbusState) {
    if before != now {
        say!("echo: {path} {now:?}");
    }
}

/// A kernel with a line to xenstore.
type EchoKernel = Kernel<Atoll>;

fn run(started: Started) -> ! {
    let Started { platform, handover, mesh, store, .. } = started;
    let mut kernel = Kernel::new(platform, mesh, pace(handover.option("pace")));
    kernel.store = store.map(|(page, port)| Store::new(page, port));
    let Some(grants) = Grants::new() else { panic!("there is no grant table to be had") };
    match handover.option("echo") {
        Some("back") => {
            let once = handover.option("once").is_some();
            kernel.run(&mut back::BackEnd::new(grants, once))
        }
        Some("hostile") => kernel.run(&mut hostile::HostileEnd::new(grants)),
        _ => {
            let bench = handover.option("bench").is_some();
            kernel.run(&mut front::FrontEnd::new(grants, bench))
        }
    }
}
