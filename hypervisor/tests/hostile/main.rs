//! Hostile guests against the hypervisor's own code, on the host.
//!
//! Every core is a thread, and what it executes is the hypervisor as it is ([`processor`] says how). Two hostile domains,
//! one of them on two cores, make any exit with any argument ([`guest`]), and calls that may well be good about a handful
//! of pages and ports ([`sound`]), the two cores against each other, while domain 0 creates, pauses and destroys
//! them and walks all page tables. In the one of one core, kernels follow one another or fail to ([`replace`], [`heir`]).
//! Between them lives a domain that does nothing: at the end its memory is what it was.
//! A panic anywhere, a frame too many or too few, a core that does not answer: each fails the test.

mod guest;
mod heir;
mod machine;
mod processor;
mod replace;
mod sound;
mod tally;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use abi::address::GuestPhys;
use abi::control::hypercall::{self as op, AuditReport, DomainInfo, DomainState};
use abi::xen::hypercall::ATOLL_CONTROL;
use guest::{Dice, Guest};
use heir::Waiting;
use hypervisor::core::Core;
use hypervisor::core::face::FACES;
use hypervisor::domain::{Domain, build};
use hypervisor::exits;
use hypervisor::memory::physical::{Identity, pointer};
use hypervisor::registry::Registry;
use machine::CORES;
use zerocopy::FromBytes;

/// Pages of a hostile domain, and of the innocent one.
const PAGES: u64 = 1536;
const MEMORY: u64 = PAGES * 4096;
/// So often at least a hostile domain is created.
const LIVES: u64 = 20;
/// Exits that the hostile have made.
static STEPS: AtomicU64 = AtomicU64::new(0);
/// Exits at whose end the guest had a page of another's.
static MAPPED: AtomicU64 = AtomicU64::new(0);
/// So many are to be made.
const MUCH: u64 = 20_000;
/// After so many each operation should have been tried.
const TOO_MUCH: u64 = 100 * MUCH;
/// Where domain 0 wants answers.
const ANSWER: u64 = 0x2000;
/// How long one round may take. Not a measure: with it a lock-up is a failure and no endless run.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn nothing_but_the_hostile_suffers() {
    // A core that panics answers nobody any more, and the others would wait for it.
    std::panic::set_hook(Box::new(|panic| processor::give_up(format_args!("{panic}"))));
    processor::start();
    let (parts, registry) = machine::build();
    let books = Books(Box::leak(Box::new(registry)));
    let (progress, rounds) = mpsc::channel();
    std::thread::scope(|scope| {
        let parts = &parts;
        for index in 1..CORES {
            scope.spawn(move || live(machine::core(parts, index)));
        }
        scope.spawn(move || {
            let core = machine::core(parts, 0);
            core.registry = Some(books.open());
            command(core, &progress);
            machine::OVER.store(true, Ordering::Relaxed);
        });
        loop {
            match rounds.recv_timeout(PATIENCE) {
                Ok(()) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    processor::give_up(format_args!("a core has not answered for {PATIENCE:?}"))
                }
            }
        }
    });
}

/// Core 0's books, on their way to its thread.
struct Books(&'static mut Registry);

// SAFETY: one thread has them, and what they point to is nobody else's.
unsafe impl Send for Books {}

impl Books {
    fn open(self) -> &'static mut Registry {
        self.0
    }
}

/// A core's life, with a guest on it that is hostile or, on core 1, does nothing.
fn live(core: &mut Core) {
    let mut guest = Guest::new(core.index as u64, MEMORY);
    let (mut waiting, mut kernel) = (None, None);
    while !machine::over() {
        core.serve();
        Waiting::look(&mut waiting, core);
        let now = core.domain().ok().map(|domain| (domain.id, core.vmcs_region));
        if core::mem::replace(&mut kernel, now) != now {
            guest.begin();
        }
        if core.running && core.index != 1 && !guest.waits(core) {
            guest.step(core);
            Waiting::look(&mut waiting, core);
            note_mappings(core);
            STEPS.fetch_add(1, Ordering::Relaxed);
        } else {
            std::thread::yield_now();
        }
    }
}

/// Counts mappings of others' pages: a run in which there are none tries too little.
fn note_mappings(core: &Core) {
    let maptrack = |domain: &'static Domain| &domain.place.grants.maptrack;
    let mapped = core.domain().is_ok_and(|domain| maptrack(domain).all().next().is_some());
    MAPPED.fetch_add(mapped.into(), Ordering::Relaxed);
}

/// Domain 0's: one control hypercall.
fn control(core: &mut Core, arguments: [u64; 5]) -> i64 {
    const EXIT_REASON: u32 = 0x4402;
    let registers = &mut core.frame.registers;
    registers.rax = ATOLL_CONTROL;
    [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8] = arguments;
    processor::set_field(EXIT_REASON, 18);
    exits::handle(core);
    let answer = core.frame.registers.rax as i64;
    core.serve();
    answer
}

/// What the last call has filled in.
fn answer<T: FromBytes>(core: &Core) -> T {
    let view = core.domain().expect("domain 0").view;
    let found =
        view.translate(&Identity, GuestPhys::new(ANSWER), ept::Access::Read).expect("domain 0's memory");
    // SAFETY: domain 0's own memory, which nobody else writes.
    unsafe { pointer::<T>(found.hpa).read_unaligned() }
}

fn audit(core: &mut Core) {
    assert_eq!(control(core, [op::AUDIT, ANSWER, 0, 0, 0]), 0);
    let report: AuditReport = answer(core);
    let faults = [report.leaked, report.hypervisor, report.free, report.miscounted];
    assert_eq!(faults, [0; 4], "{report:?}");
}

/// A domain on these cores that runs.
fn create(core: &mut Core, cores: u64) -> Option<u64> {
    let id = u64::try_from(control(core, [op::DOMAIN_CREATE, cores, PAGES, 0, 0])).ok()?;
    assert_eq!(control(core, [op::DOMAIN_ENTRY, id, 0x1000, 0x2000, 0]), 0);
    assert_eq!(control(core, [op::DOMAIN_UNPAUSE, id, 0, 0, 0]), 0);
    Some(id)
}

/// What a domain does, or what it has come to.
fn state(core: &mut Core, id: u64) -> DomainState {
    assert_eq!(control(core, [op::DOMAIN_INFO, id, ANSWER, 0, 0]), 0);
    let info: DomainInfo = answer(core);
    assert_eq!(u64::from(info.domain), id);
    DomainState::from_u32(info.state).expect("a state")
}

/// Whether it does not go on by itself, nor by being unpaused.
fn has_stopped(state: DomainState) -> bool {
    matches!(state, DomainState::Shutdown | DomainState::Crashed)
}

/// What the innocent's memory holds.
fn pattern(at: u64) -> u64 {
    at.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn innocent(core: &mut Core, id: u64, mut each: impl FnMut(*mut u64, u64)) {
    let registry = core.registry.as_deref_mut().expect("the books");
    let home = registry.core_of(id as u16).expect("the innocent is there");
    let view = registry.domain(home).expect("the innocent is there").view;
    for at in (0..MEMORY).step_by(512) {
        let found = view.translate(&Identity, GuestPhys::new(at), ept::Access::Write).expect("its memory");
        each(pointer(found.hpa), pattern(at));
    }
}

/// Whether a hostile domain does.
fn anyone_runs() -> bool {
    FACES[2..CORES].iter().any(|face| face.state() == DomainState::Running)
}

/// Domain 0: order and disorder, and the reckoning.
fn command(core: &mut Core, progress: &mpsc::Sender<()>) {
    let places = core.machine.places.clone();
    let books = core.registry.as_deref_mut().expect("the books");
    build::create(books, &places, 1, abi::address::PageCount::new(64), build::Kind::Control)
        .expect("domain 0");
    core.start_domain(0).expect("domain 0 starts");
    core.serve();
    let free = |core: &Core| core.registry.as_ref().map_or(0, |books| books.frames.free());
    let before = free(core);

    let quiet = create(core, 1 << 1).expect("the innocent");
    // SAFETY: the innocent's memory, and it does nothing.
    innocent(core, quiet, |place, value| unsafe { place.write(value) });

    // On cores 2 and 3, and on 4.
    const MASKS: [u64; 2] = [0b1100, 0b1_0000];
    const ALONE: usize = 1;
    let mut hostile = [None; 2];
    let mut dice = Dice::new(7);
    let mut lives = 0u64;
    while STEPS.load(Ordering::Relaxed) <= MUCH || lives < LIVES || is_something_missing() {
        let missing = || (tally::missing(), replace::missing(), replace::told());
        assert!(STEPS.load(Ordering::Relaxed) < TOO_MUCH, "never accepted or made: {:?}", missing());
        let which = dice.below(2) as usize;
        let mut much = 400;
        match hostile[which] {
            None => {
                hostile[which] = create(core, MASKS[which]);
                lives += u64::from(hostile[which].is_some());
                // Before it has put its memory to too much use.
                if let Some(id) = hostile[which].filter(|_| which == ALONE && dice.below(4) != 0) {
                    assert_eq!(control(core, [op::SUCCESSOR_CREATE, id, 0, 0, 0]), 0);
                    much = 10;
                }
            }
            Some(id) if which == ALONE && dice.below(8) != 0 => {
                much = 16;
                if (0..2).any(|_| replace::act(core, id, &mut dice)) {
                    hostile[which] = None;
                }
            }
            Some(id) => {
                if which != ALONE {
                    replace::refuse(core, id);
                }
                let ended = has_stopped(state(core, id)) && !replace::is_under_way(core, id);
                match dice.below(8) {
                    0 => assert_eq!(control(core, [op::DOMAIN_PAUSE, id, 0, 0, 0]), 0),
                    1 => audit(core),
                    2 if dice.below(4) == 0 => end(core, &mut hostile[which]),
                    _ if ended => end(core, &mut hostile[which]),
                    _ => assert_eq!(control(core, [op::DOMAIN_UNPAUSE, id, 0, 0, 0]), 0),
                }
            }
        }
        let enough = STEPS.load(Ordering::Relaxed) + dice.below(much);
        while STEPS.load(Ordering::Relaxed) < enough && anyone_runs() {
            core.serve();
            std::thread::yield_now();
        }
        let _ = progress.send(());
    }
    for domain in &mut hostile {
        end(core, domain);
    }
    audit(core);
    innocent(core, quiet, |place, value| {
        // SAFETY: as above.
        assert_eq!(unsafe { place.read() }, value, "the innocent's memory");
    });
    end(core, &mut Some(quiet));
    assert_eq!(free(core), before, "frames");
    assert!(
        FACES.iter().take(CORES).skip(1).all(|face| face.domain.load(Ordering::Relaxed) == op::NO_DOMAIN)
    );
    let steps = STEPS.load(Ordering::Relaxed);
    let mapped = MAPPED.load(Ordering::Relaxed);
    let left = tally::LEFT.load(Ordering::Relaxed);
    println!(
        "{lives} hostile lives, {steps} exits, {mapped} of them with pages of others' mapped, {left} made again"
    );
    println!("{}", replace::told());
    assert!(mapped > 0, "no grant was ever mapped");
    assert!(left > 0, "no call was ever left before its end");
    assert_eq!(tally::accepted_by_mistake(), []);
}

fn is_something_missing() -> bool {
    !tally::missing().is_empty() || !replace::missing().is_empty() || replace::is_missing()
}

fn end(core: &mut Core, domain: &mut Option<u64>) {
    if let Some(id) = domain.take() {
        assert_eq!(control(core, [op::DOMAIN_DESTROY, id, 0, 0, 0]), 0);
    }
}
