//! A guest of two virtual CPUs: starts its second one both ways, talks with it both ways, takes it down and up again.
//!
//! It says `siblings: WHAT` for each thing that went right, `siblings: WRONG: WHAT` for the others, and in the end
//! `siblings: N right, M wrong`. `end=` chooses what it does then: `crash` lets the second virtual CPU raise a triple fault,
//! `spin` keeps both busy; without it the first goes on as any guest does.
#![no_std]
#![no_main]

extern crate alloc;

mod calls;
mod frames;
mod second;

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use abi::xen::errno::Errno;
use guest_kernel::kernel::{Kernel, Pace};
use guest_kernel::platform::atoll::{Started, cpu, hypercall, second as siblings};
use guest_kernel::programs::answer::Ordinary;
use guest_kernel::say;
use second::{Order, SECOND};

guest_kernel::main!(run);

/// The APIC id of virtual CPU 1.
const SECOND_APIC_ID: u64 = 2;
/// Vectors that nobody else uses.
const TO_SECOND: u8 = 0x71;
const TO_FIRST: u8 = 0x72;
/// What is waited for comes within a second, or never.
const PATIENCE_MILLISECONDS: u64 = 1_000;

#[derive(Default)]
struct Tally {
    right: u32,
    wrong: u32,
}

impl Tally {
    fn note(&mut self, what: &str, is_right: bool) {
        if is_right {
            self.right += 1;
            say!("siblings: {what}");
        } else {
            self.wrong += 1;
            say!("siblings: WRONG: {what}");
        }
    }

    fn same<T: PartialEq + core::fmt::Debug>(&mut self, what: &str, is: T, should_be: T) {
        if is != should_be {
            say!("siblings: {what}: {is:x?}, not {should_be:x?}");
        }
        self.note(what, is == should_be);
    }
}

fn run(started: Started) -> ! {
    let Started { platform, handover, mesh, .. } = started;
    let ticks = guest_kernel::platform::Platform::ticks_per_millisecond(&platform);
    let within = |condition: &dyn Fn() -> bool| {
        let end = cpu::tsc() + ticks * PATIENCE_MILLISECONDS;
        while !condition() && cpu::tsc() < end {
            core::hint::spin_loop();
        }
        condition()
    };
    let mut tally = Tally::default();
    second::prepare();

    tally.same("it is not up yet", siblings::is_up(1), Ok(0));
    tally.same("there is no third", siblings::is_up(2), Err(Errno::ENOENT));
    tally.same("what has no state can not go up", siblings::up(1), Err(Errno::EINVAL));

    calls::interrupt(SECOND_APIC_ID, calls::INIT);
    calls::interrupt(SECOND_APIC_ID, calls::START_UP | second::TRAMPOLINE >> 12);
    tally.note("INIT and start-up begin in real mode", within(&|| SECOND.lives.load(SeqCst) == 1));
    tally.same("it is up", siblings::is_up(1), Ok(1));
    facts(&mut tally);
    events(&mut tally, &within);
    interrupts(&mut tally, &within);
    callbacks(&mut tally, &within);
    down_and_up(&mut tally, &within);
    come_and_go(&mut tally, &within);

    calls::interrupt(SECOND_APIC_ID, calls::INIT);
    tally.same("INIT takes it down", siblings::is_up(1), Ok(0));
    tally.same(
        "a segment of the wrong kind",
        siblings::initialise(1, &second::bad_context()),
        Err(Errno::EINVAL),
    );
    tally.same("a state to start with", siblings::initialise(1, &second::context()), Ok(0));
    tally.same("one is enough", siblings::initialise(1, &second::context()), Err(Errno::EEXIST));
    calls::interrupt(SECOND_APIC_ID, calls::START_UP | second::TRAMPOLINE >> 12);
    tally.same("a start-up that nobody waits for", siblings::is_up(1), Ok(0));
    tally.same("up", siblings::up(1), Ok(0));
    tally.note("it begins where it was told", within(&|| SECOND.lives.load(SeqCst) == 2));
    events(&mut tally, &within);

    say!("siblings: {} right, {} wrong", tally.right, tally.wrong);
    match handover.option("end") {
        Some("crash") => second::order(Order::Crash),
        Some("spin") => loop {
            core::hint::spin_loop();
        },
        _ => {}
    }
    Kernel::new(platform, mesh, Pace::from_option(handover.option("pace"))).run(&mut Ordinary)
}

/// What the second one finds of itself.
fn facts(tally: &mut Tally) {
    let seen = |word: &AtomicU64| word.load(SeqCst);
    tally.same("its number", seen(&SECOND.vcpu), 1);
    tally.same("its APIC id in CPUID leaf 1", seen(&SECOND.initial_id), SECOND_APIC_ID);
    tally.same("its APIC id in CPUID leaf 0xb", seen(&SECOND.extended_id), SECOND_APIC_ID);
    tally.same("its APIC id by its APIC", seen(&SECOND.apic_id), SECOND_APIC_ID);
    tally.same("its logical id", seen(&SECOND.logical_id), 1 << SECOND_APIC_ID);
    tally.same("it is no boot processor", seen(&SECOND.apic_base), 0xfee0_0c00);
}

/// Events there and back.
fn events(tally: &mut Tally, within: &dyn Fn(&dyn Fn() -> bool) -> bool) {
    tally.same("no port for a third", hypercall::bind_ipi(2), Err(Errno::ENOENT));
    let (Ok(there), Ok(back)) = (hypercall::bind_ipi(1), hypercall::bind_ipi(0)) else {
        return tally.note("two ports", false);
    };
    tally.same("an IPI's port stays where it is", calls::bind_vcpu(there, 0), Err(Errno::EINVAL));
    SECOND.port.store(there.into(), SeqCst);
    SECOND.reply_port.store(back.into(), SeqCst);
    let (before, shared) = (SECOND.events.load(SeqCst), calls::shared());
    tally.note("there was no event before", !shared.is_pending(back));
    tally.same("an event", hypercall::send(there), Ok(()));
    tally.note("it takes the event", within(&|| SECOND.events.load(SeqCst) > before));
    let answered = within(&|| shared.is_pending(back));
    tally.note("its answer is here", answered);
    shared.clear(back);
    tally.note("and is taken", !shared.is_pending(back));
    for port in [there, back] {
        hypercall::close(port).unwrap_or_else(|error| tally.same("close", Err(error), Ok(())));
    }
}

/// Interrupts there and back, by APIC id and by shorthand. They are looked for, not taken: this kernel keeps
/// interrupts off.
fn interrupts(tally: &mut Tally, within: &dyn Fn(&dyn Fn() -> bool) -> bool) {
    const ALL_BUT_SELF: u64 = 3 << 18;
    SECOND.reply_vector.store(TO_FIRST.into(), SeqCst);
    calls::interrupt(SECOND_APIC_ID, TO_SECOND.into());
    tally.note("it takes an interrupt", within(&|| SECOND.interrupts.load(SeqCst) == 1));
    tally.note("its answer is here", within(&|| calls::requested(TO_FIRST)));
    calls::interrupt(0, ALL_BUT_SELF | u64::from(TO_SECOND));
    tally.note("it takes another", within(&|| SECOND.interrupts.load(SeqCst) == 2));
    tally.note("which is not for its sender", !calls::requested(TO_SECOND));
    calls::interrupt(4, u64::from(TO_SECOND));
    calls::interrupt(SECOND_APIC_ID, 5);
    tally.same("what is for nobody goes nowhere", SECOND.interrupts.load(SeqCst), 2);
}

/// The second is called by the domain's callback vector, while it computes and while it halts, again and again without
/// an EOI, and hears of what came while its interrupts were off. The first has an upcall vector of its own.
fn callbacks(tally: &mut Tally, within: &dyn Fn(&dyn Fn() -> bool) -> bool) {
    let Ok(port) = hypercall::bind_ipi(1) else { return tally.note("a port", false) };
    let called = second::called;
    for order in [Order::Listen, Order::Doze, Order::Oversleep] {
        second::order(order);
        tally.note("it waits for events", within(&|| SECOND.listens.load(SeqCst) == 1));
        tally.same("a callback vector", calls::set_callback(second::CALLBACK), Ok(0));
        let mut is_called = true;
        for _ in 0..20 {
            let before = called();
            let sent = hypercall::send(port);
            is_called &= sent == Ok(()) && within(&|| called() > before);
            calls::shared().clear(port);
        }
        tally.note("it is called by each event", is_called);
        second::order(Order::Answer);
        // It looks at its orders when it is called.
        tally.same("an event", hypercall::send(port), Ok(()));
        tally.note("it goes back to work", within(&|| SECOND.listens.load(SeqCst) == 0));
        calls::shared().clear(port);
        tally.same("no callback any more", calls::set_callback(0), Ok(0));
    }
    hypercall::close(port).unwrap_or_else(|error| tally.same("close", Err(error), Ok(())));
}

/// The second gives a page away and gets another for it; the first must not go on with the old one.
fn come_and_go(tally: &mut Tally, within: &dyn Fn(&dyn Fn() -> bool) -> bool) {
    frames::set_word(0x1111);
    tally.same("a page", frames::word(), 0x1111);
    second::order(Order::Frames);
    tally.note("its calls about frames end", within(&|| SECOND.steps.load(SeqCst) != 0));
    tally.same("all were done", SECOND.steps.load(SeqCst) & !(1 << 63), frames::ALL_STEPS);
    tally.same("both see the new page", frames::word(), second::WRITTEN);
}

fn down_and_up(tally: &mut Tally, within: &dyn Fn(&dyn Fn() -> bool) -> bool) {
    let beats = || SECOND.beats.load(SeqCst);
    let seen = beats();
    tally.note("it beats", within(&|| beats() > seen));
    tally.same("down", siblings::down(1), Ok(0));
    tally.same("it is down", siblings::is_up(1), Ok(0));
    let seen = beats();
    for _ in 0..100_000 {
        core::hint::spin_loop();
    }
    tally.same("it beats no more", beats(), seen);
    tally.same("up again", siblings::up(1), Ok(0));
    tally.note("it goes on where it was", within(&|| beats() > seen));
    tally.same("it was not started again", SECOND.lives.load(SeqCst), 1);
}
