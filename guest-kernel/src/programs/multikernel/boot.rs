//! How a member begins in the running machine: anew, or where the kernel before it stood.
//!
//! What differs between one build of the kernel and another is a [`Build`]; an image is a build and a main function.

use alloc::rc::Rc;

use abi::mesh::MAX_SLOTS;
use boot::handover::Handover;

use super::Multikernel;
use super::carry::{Carried, Core, Stage};
use crate::agreement::Topology;
use crate::handover::Refused;
use crate::kernel::store::Store;
use crate::kernel::watchdog::Watchdog;
use crate::kernel::{Kernel, Pace};
use crate::knowledge::Knowledge;
use crate::mesh::Mesh;
use crate::platform::atoll::memory::Frames;
use crate::platform::atoll::{Atoll, Started, cpu, hypercall, module};
use crate::platform::{Handed, Platform};
use crate::say;

/// Milliseconds that a member waits for another: five times as long as one that is asked to suspend itself has for it.
const PATIENCE: u64 = 10_000;

/// A build of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// What it calls itself.
    pub name: &'static str,
    /// How it reads a package.
    pub read: fn(&Handover, &[u8]) -> Result<Carried, Refused>,
    /// What it does after each stage of taking over.
    pub after: fn(&Handover, Stage) -> Result<(), Refused>,
    /// What it does first when it has taken over.
    pub first: fn(&Handover),
}

/// Runs a member of this build.
pub fn run(started: Started, build: &Build) -> ! {
    let Started { platform, handover, mesh, store, .. } = started;
    let Some(mesh) = mesh else {
        say!("multikernel: no mesh here, nobody to agree with");
        cpu::halt_for_ever()
    };
    let is_successor = handover.option("handover") == Some("1");
    let (mut kernel, mut program) = if is_successor {
        take_over(platform, &handover, &mesh, build)
    } else {
        begin(platform, &handover, mesh)
    };
    kernel.store = store.map(|(page, port)| {
        let mut store = Store::new(page, port);
        store.offer_replace();
        store
    });
    if is_successor {
        kernel.notify_store();
    } else {
        kernel.begin(&mut program);
    }
    loop {
        kernel.run_while(&mut program, |program| !program.is_to_be_replaced());
        if let Err(refused) = Multikernel::replace(&mut kernel, &mut program, cpu::tsc) {
            log::warn!("no other kernel takes over: {refused:?}");
        }
    }
}

/// A member that nobody was before.
fn begin(platform: Atoll, handover: &Handover, mesh: Mesh<'static>) -> (Kernel<Atoll>, Multikernel) {
    let topology = match handover.option("tree") {
        Some("flat") => Topology::flat(),
        _ => Topology::of(&Knowledge::of_mesh(mesh.places())),
    };
    let Ok(mut program) = Multikernel::in_mesh(&mesh, topology, cpu::tsc, Rc::new(Frames)) else {
        say!("multikernel: more tasks than there are places for them");
        cpu::halt_for_ever()
    };
    let patience = handover.option("patience").and_then(|value| value.parse().ok()).unwrap_or(PATIENCE);
    program.set_patience(platform.ticks_per_millisecond().saturating_mul(patience));
    say!("multikernel: core {} of {}", mesh.own_slot(), mesh.slots());
    let mut kernel = Kernel::new(platform, Some(mesh), Pace::from_option(handover.option("pace")));
    // Domain 0 sleeps: each report would be an event, and so an exit.
    kernel.reporting = handover.option("reports") == Some("1");
    kernel.watchdog = Watchdog::from_option(handover.option("watchdog"));
    (kernel, program)
}

/// A member that goes on where the one before it stood. Up to the hypercall that says so the one before it can come back.
fn take_over(
    platform: Atoll,
    handover: &Handover,
    mesh: &Mesh<'static>,
    build: &Build,
) -> (Kernel<Atoll>, Multikernel) {
    let package = module(handover);
    let pace = Pace::from_option(handover.option("pace"));
    let windows: [_; MAX_SLOTS] = core::array::from_fn(|slot| mesh.window(slot));
    let end = platform.same_core();
    let taken = (build.read)(handover, package).and_then(|carried| {
        let window = |slot: usize| windows.get(slot).copied().flatten();
        let after = |stage| (build.after)(handover, stage);
        let core = Core { platform, pace, pages: Rc::new(Frames) };
        Multikernel::take_over(carried, core, cpu::tsc, window, after)
    });
    match taken {
        Ok(taken) => {
            if let Err(error) = hypercall::take_over() {
                panic!("taking over: {error:?}");
            }
            (build.first)(handover);
            say!("multikernel: {} took over, {} bytes", build.name, package.len());
            taken
        }
        Err(refused) => {
            say!("multikernel: {} does not take over: {refused:?}", build.name);
            end.shutdown(refused.failure().as_reason())
        }
    }
}
