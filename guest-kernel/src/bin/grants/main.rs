//! Two guests and their grants. `role=granter` grants three pages to the domain of the next number and does what is asked of
//! it through the first of them; `role=user peer=N` uses the pages of domain N in every way, right and wrong, and counts
//! what that costs.
//!
//! Each says `grants: WHAT` for what went right, `grants: WRONG: WHAT` for the rest; the user ends with `grants: N right, M
//! wrong`, keeps the first page mapped, and says `grants: its page went by` as long as it can read there.
#![no_std]
#![no_main]

extern crate alloc;

mod granter;
mod pages;
mod user;

use guest_kernel::kernel::{Kernel, Pace};
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Started, memory};
use guest_kernel::programs::answer::Ordinary;
use guest_kernel::say;

guest_kernel::main!(run);

/// What goes right and wrong.
#[derive(Default)]
struct Tally {
    right: u32,
    wrong: u32,
}

impl Tally {
    fn note(&mut self, what: &str, is_right: bool) {
        if is_right {
            self.right += 1;
        } else {
            self.wrong += 1;
            say!("grants: WRONG: {what}");
        }
    }

    fn same<T: PartialEq + core::fmt::Debug>(&mut self, what: &str, found: T, wanted: T) {
        if found != wanted {
            say!("grants: {what}: {found:?}, not {wanted:?}");
        }
        self.note(what, found == wanted);
    }
}

fn run(started: Started) -> ! {
    let Started { platform, handover, mesh, domain, .. } = started;
    let own = domain.unwrap_or(0);
    if memory::map_window(pages::TABLE..pages::WINDOW + pages::WINDOW_PAGES * 4096).is_err() {
        say!("grants: WRONG: no room for a window");
    }
    match handover.option("peer").and_then(|peer| peer.parse().ok()) {
        Some(peer) => user::run(own, peer),
        None => granter::run(own, || platform.ticks_per_millisecond()),
    }
    Kernel::new(platform, mesh, Pace::from_option(handover.option("pace"))).run(&mut Ordinary)
}
