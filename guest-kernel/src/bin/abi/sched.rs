//! `sched_op`, but for the end.

use abi::xen::DOMID_SELF;
use abi::xen::event_channel::{CLOSE, SEND};
use abi::xen::hvm::GET_TIME;
use abi::xen::hypercall::{HVM_OP, SCHED_OP};
use abi::xen::sched::{self as op, Poll, RemoteShutdown, Watchdog};
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, cpu};

use crate::call::{NOBODY, NOWHERE, address, call, with};
use crate::events;
use crate::tally::{Error, Tally};

/// System time, by a call.
pub fn now() -> u64 {
    let mut time = [0u64];
    with(HVM_OP, GET_TIME, &mut time);
    // SAFETY: the hypervisor wrote it behind the compiler's back.
    unsafe { time.as_ptr().read_volatile() }
}

fn poll(ports: u64, nr_ports: u32, timeout: u64) -> u64 {
    with(SCHED_OP, op::POLL, &mut Poll { ports, nr_ports, pad: 0, timeout })
}

fn watchdog(id: u32, timeout: u32) -> u64 {
    with(SCHED_OP, op::WATCHDOG, &mut Watchdog { id, timeout })
}

pub fn check(tally: &mut Tally, platform: &Atoll) {
    for operation in [op::SHUTDOWN, op::POLL, op::REMOTE_SHUTDOWN, op::SHUTDOWN_CODE, op::WATCHDOG] {
        let answer = call(SCHED_OP, [operation, NOWHERE, 0, 0, 0]);
        tally.check("sched_op from nowhere", answer, Err(Error::EFAULT));
    }
    for operation in [8, 9, 0xffff_ffff] {
        let answer = call(SCHED_OP, [operation, NOWHERE, 0, 0, 0]);
        tally.check("sched_op, no such operation", answer, Err(Error::ENOSYS));
    }
    tally.check("yield", call(SCHED_OP, [op::YIELD, 0, 0, 0, 0]), Ok(0));
    tally.refused("pin_override", || call(SCHED_OP, [op::PIN_OVERRIDE, NOWHERE, 0, 0, 0]), Error::EPERM);
    let shutdown =
        |domain_id| with(SCHED_OP, op::REMOTE_SHUTDOWN, &mut RemoteShutdown { domain_id, pad: 0, reason: 0 });
    tally.check("remote_shutdown of nobody", shutdown(NOBODY), Err(Error::ESRCH));
    tally.check("remote_shutdown of oneself", shutdown(DOMID_SELF), Err(Error::ESRCH));
    tally.refused("remote_shutdown of domain 0", || shutdown(0), Error::EPERM);
    watchdogs(tally);
    waits(tally, platform);
}

fn watchdogs(tally: &mut Tally) {
    tally.check("watchdog that is not", watchdog(1, 1000), Err(Error::EINVAL));
    tally.check("watchdog that cannot be", watchdog(3, 1000), Err(Error::EINVAL));
    let dogs = [watchdog(0, 1000), watchdog(0, 1000)];
    tally.that("watchdogs", dogs[1], dogs == [1, 2]);
    // -ENOSPC, of 32 bits.
    tally.equal("one watchdog too many", watchdog(0, 1000), 0xffff_ffe4);
    tally.check("watchdog is fed", watchdog(1, 2000), Ok(0));
    tally.check("watchdog ends", watchdog(1, 0), Ok(0));
    tally.check("watchdog ends again", watchdog(1, 0), Err(Error::EINVAL));
    tally.check("the other ends", watchdog(2, 0), Ok(0));
}

fn waits(tally: &mut Tally, platform: &Atoll) {
    let milliseconds = platform.ticks_per_millisecond();
    // With interrupts on: the timer's ends the wait.
    let start = platform.now();
    platform.set_deadline(Some(start + 2 * milliseconds));
    let answer = cpu::with_interrupts(|| call(SCHED_OP, [op::BLOCK, 0, 0, 0, 0]));
    tally.check("block", answer, Ok(0));
    // An upcall of an earlier check's may have been waiting; a guest that blocks looks again.
    while platform.now() < start + 2 * milliseconds {
        cpu::with_interrupts(|| call(SCHED_OP, [op::BLOCK, 0, 0, 0, 0]));
    }
    tally.that("until the timer", platform.now() - start, platform.now() - start >= 2 * milliseconds);
    platform.set_deadline(None);
    platform.take_events(&mut |_| {});

    let (_, port) = events::ipi(0);
    // What the binding itself may have left behind.
    platform.take_events(&mut |_| {});
    let mut ports = [port];
    let list = address(&mut ports);
    tally.check("poll of too many", poll(list, 129, 0), Err(Error::EINVAL));
    tally.check("poll from nowhere", poll(NOWHERE, 1, 0), Err(Error::EFAULT));
    let mut closed = [port + 1];
    tally.check("poll of a closed port", poll(address(&mut closed), 1, 0), Err(Error::EINVAL));

    let start = now();
    tally.check("poll until it is late", poll(list, 1, start + 3_000_000), Ok(0));
    let waited = now() - start;
    tally.that("how long", waited, (2_900_000..1_000_000_000).contains(&waited));
    tally.check("poll until it was late", poll(list, 1, 1), Ok(0));
    tally.check("poll of nothing until it is late", poll(NOWHERE, 0, now() + 1_000_000), Ok(0));
    events::one(SEND, port);
    tally.check("poll of a port that is pending", poll(list, 1, 0), Ok(0));
    platform.take_events(&mut |_| {});
    events::one(CLOSE, port);
}
