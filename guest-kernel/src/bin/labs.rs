//! Labs within one guest: its virtual CPUs share memory, and each has a core of its own. `atoll lab NAME --on vm` starts it, and
//! reads what it prints.
//!
//! `lab=urpc` has the first two send each other messages: `labs: latency ROUNDS TICKS`, `labs: stream MESSAGES TICKS`. `lab=locks`
//! has one, two, and so on up to `cores=` of them take turns in each lock for a while: `labs: NAME TICKS COUNT...`, a count for each
//! core. In the end it says `labs: done`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use guest_kernel::kernel::{Kernel, Pace};
use guest_kernel::labs::locks::ALL;
use guest_kernel::labs::{Padded, messages, pause};
use guest_kernel::platform::atoll::crew::Crew;
use guest_kernel::platform::atoll::{Started, cpu};
use guest_kernel::programs::answer::Ordinary;
use guest_kernel::say;
use io_rings::urpc::ChannelPage;

guest_kernel::main!(run);

/// Messages there and back.
const ROUNDS: u64 = 5_000;
/// Messages one way.
const STREAM: u64 = 20_000;
/// How long each lock is fought for.
const SPAN_TICKS: u64 = 200_000;

fn run(started: Started) -> ! {
    let Started { platform, handover, mesh, .. } = started;
    let cores = handover.option("cores").and_then(|cores| cores.parse().ok()).unwrap_or(1).max(1);
    match (Crew::start(cores), handover.option("lab")) {
        (Ok(mut crew), Some("urpc")) if cores > 1 => urpc(&mut crew),
        (Ok(mut crew), Some("locks")) => locks(&mut crew),
        (Ok(_), other) => say!("labs: there is no lab {other:?} for {cores} cores"),
        (Err(error), _) => say!("labs: the virtual CPUs do not start: {error:?}"),
    }
    say!("labs: done");
    Kernel::new(platform, mesh, Pace::Poll).run(&mut Ordinary)
}

/// What one message takes of many that wait for each other, and of many that do not.
fn urpc(crew: &mut Crew) {
    let [there, back, stream] = [const { ChannelPage::new() }; 3].map(Box::new);
    timed(crew, "latency", ROUNDS, &|| messages::ask(&there, &back, ROUNDS), &|| {
        messages::answer(&there, &back, ROUNDS)
    });
    timed(crew, "stream", STREAM, &|| messages::send(&stream, STREAM), &|| {
        messages::receive(&stream, STREAM)
    });
}

/// Tells the ticks of the first one's part.
fn timed(
    crew: &mut Crew,
    name: &str,
    count: u64,
    first: &(dyn Fn() -> Option<()> + Sync),
    other: &(dyn Fn() -> Option<()> + Sync),
) {
    let (ready, ticks, broken) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    crew.together(2, &|core| {
        meet(&ready, 2);
        let begun = cpu::tsc();
        let done = if core == 0 { first() } else { other() };
        if core == 0 {
            ticks.store(cpu::tsc().wrapping_sub(begun), Ordering::Relaxed);
        }
        broken.fetch_or(done.is_none(), Ordering::Relaxed);
    });
    if broken.into_inner() {
        return say!("labs: a channel broke between two virtual CPUs");
    }
    say!("labs: {name} {count} {}", ticks.into_inner());
}

/// How often each core has each lock.
fn locks(crew: &mut Crew) {
    for (name, make) in ALL {
        for cores in 1..=crew.size() {
            let (lock, guarded) = (make(cores), Padded(AtomicU64::new(0)));
            let ready = AtomicUsize::new(0);
            let counts: Vec<Padded<AtomicU64>> = (0..cores).map(|_| Padded::default()).collect();
            crew.together(cores, &|core| {
                meet(&ready, cores);
                let (begun, mut count) = (cpu::tsc(), 0);
                while cpu::tsc().wrapping_sub(begun) < SPAN_TICKS {
                    let token = lock.acquire(core);
                    guarded.0.store(guarded.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    lock.release(core, token);
                    count += 1;
                }
                counts[core].0.store(count, Ordering::Relaxed);
            });
            let text: String =
                counts.iter().map(|count| format!(" {}", count.0.load(Ordering::Relaxed))).collect();
            say!("labs: {name} {SPAN_TICKS}{text}");
        }
    }
}

/// Waits until all have come here.
fn meet(ready: &AtomicUsize, cores: usize) {
    ready.fetch_add(1, Ordering::AcqRel);
    while ready.load(Ordering::Acquire) < cores {
        pause();
    }
}
