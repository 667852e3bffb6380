//! A member of the multikernel, on Atoll. What it can be told at its console is in the program's head. With `tree=flat` it
//! sends to each other member by itself; else along the tree that follows from where the cores are.
#![no_std]
#![no_main]

use guest_kernel::agreement::Topology;
use guest_kernel::kernel::store::Store;
use guest_kernel::kernel::watchdog::Watchdog;
use guest_kernel::kernel::{Kernel, Pace};
use guest_kernel::knowledge::Knowledge;
use guest_kernel::platform::atoll::{Started, cpu};
use guest_kernel::programs::multikernel::Multikernel;
use guest_kernel::say;

guest_kernel::main!(run);

fn run(started: Started) -> ! {
    let Started { platform, handover, mesh, store, .. } = started;
    let Some(mesh) = mesh else {
        say!("multikernel: no mesh here, nobody to agree with");
        cpu::halt_for_ever()
    };
    let topology = match handover.option("tree") {
        Some("flat") => Topology::flat(),
        _ => Topology::of(&Knowledge::of_mesh(mesh.places())),
    };
    let Ok(mut program) = Multikernel::in_mesh(&mesh, topology, cpu::tsc) else {
        say!("multikernel: more tasks than there are places for them");
        cpu::halt_for_ever()
    };
    say!("multikernel: core {} of {}", mesh.own_slot(), mesh.slots());
    let mut kernel = Kernel::new(platform, Some(mesh), Pace::from_option(handover.option("pace")));
    // Domain 0 sleeps: each report would be an event, and so an exit.
    kernel.reporting = handover.option("reports") == Some("1");
    kernel.watchdog = Watchdog::from_option(handover.option("watchdog"));
    kernel.store = store.map(|(page, port)| Store::new(page, port));
    kernel.begin(&mut program);
    loop {
        kernel.run_while(&mut program, |program| !program.is_to_be_replaced());
        if let Err(refused) = Multikernel::replace(&mut kernel, &mut program, cpu::tsc) {
            log::warn!("no other kernel takes over: {refused:?}");
        }
    }
}
