//! Every hypercall a guest may make, with good arguments and bad, and what must come of it.
//!
//! Prints a line for each answer and a sum at the end. The answers expected are those of Xen 4.17 to a PVH guest, so
//! the same image tells the same on Xen; where domain 0 hears something else than others, that is said at the check.
//! It ends by shutting down, or, with `end=NAME` on the command line, in another way at once.
#![no_std]
#![no_main]

extern crate alloc;

mod call;
mod ends;
mod events;
mod fifo;
mod grants;
mod hvm;
mod memory;
mod mode;
mod multicall;
mod numbers;
mod places;
mod rings;
mod sched;
mod tally;
mod time;
mod vcpu;
mod version;

use abi::xen::hypercall::{VM_ASSIST, assist};
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Started, console};

use call::call;
use tally::{Error, Tally};

guest_kernel::main!(run);

/// How long the console's keeper gets.
const SECONDS_FOR_READING: u64 = 60;

fn run(started: Started) -> ! {
    let Started { platform, domain, handover, .. } = started;
    if let Some(end) = handover.option("end") {
        ends::meet(end);
    }
    let mut tally = Tally::new(domain.unwrap_or(0), version::is_control_domain());
    numbers::check(&mut tally);
    mode::check(&mut tally);
    rings::check(&mut tally);
    version::check(&mut tally);
    vm_assist(&mut tally);
    hvm::check(&mut tally);
    events::check(&mut tally);
    vcpu::check(&mut tally);
    multicall::check(&mut tally);
    memory::check(&mut tally);
    places::check(&mut tally);
    grants::check(&mut tally);
    sched::check(&mut tally, &platform);
    time::check(&mut tally, &platform);
    time::move_vcpu_info(&mut tally, &platform);
    fifo::check(&mut tally);
    tally.tell();
    // The keeper of the console may be slower than this was.
    console::drain(SECONDS_FOR_READING * 1000 * platform.ticks_per_millisecond());
    platform.shutdown(abi::xen::sched::reason::POWEROFF)
}

fn vm_assist(tally: &mut Tally) {
    let mut of = |what, command: u64, kind: u64, wanted| {
        tally.check(what, call(VM_ASSIST, [command, kind, 0, 0, 0]), wanted)
    };
    let flag = u64::from(assist::RUNSTATE_UPDATE_FLAG);
    of("vm_assist enable runstate_update_flag", assist::ENABLE.into(), flag, Ok(0));
    of("vm_assist disable runstate_update_flag", assist::DISABLE.into(), flag, Ok(0));
    of("vm_assist, no such command", 2, flag, Err(Error::ENOSYS));
    of("vm_assist, a type for guests without page tables", 0, 2, Err(Error::EINVAL));
    of("vm_assist, no such type", 0, 64, Err(Error::EINVAL));
    of("vm_assist, neither", 2, 63, Err(Error::EINVAL));
}
