//! Kernels that are replaced while they work: by new ones that go on, and by new ones that fail.

use std::string::String;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::vec::Vec;

use proptest::prelude::*;

use super::carry::Fails;
use super::frames::ThinAir;
use super::*;
use crate::agreement::Replica;
use crate::kernel::{Pace, Round};
use crate::mesh::fixture::{Pages, gather_on};
use crate::platform::Handed;
use crate::platform::fake::Fake;
use crate::platform::threads::Thread;
use crate::programs::random::Random;

const MEMBERS: usize = 3;
const CALLS: u64 = 60;

/// A platform that another kernel on the same core can have as well, and what was printed on it.
trait Again: Handed {
    fn ticks(&self) -> impl Fn() -> u64 + 'static;
    fn take_printed(&self) -> Vec<u8>;
}

impl Again for Fake {
    fn ticks(&self) -> impl Fn() -> u64 + 'static {
        self.clock()
    }
    fn take_printed(&self) -> Vec<u8> {
        self.printed.take()
    }
}

impl Again for Thread {
    fn ticks(&self) -> impl Fn() -> u64 + 'static {
        self.clock()
    }
    fn take_printed(&self) -> Vec<u8> {
        core::mem::take(&mut self.printed.lock().unwrap())
    }
}

struct Core<P: Again> {
    kernel: Kernel<P>,
    program: Multikernel,
    printed: String,
}

impl<P: Again> Core<P> {
    fn new(platform: P, mesh: Mesh<'static>) -> Self {
        let slot = mesh.own_slot() as u8;
        let make = if slot == 1 { Monitor::founder } else { Monitor::outside };
        let (replica, life) = (Multikernel::replica(slot), u32::from(mesh.own_domain()));
        let monitor = make(slot, life, mesh.slots(), replica, Topology::flat());
        let mut program = Multikernel::new(monitor, platform.ticks(), Rc::<ThinAir>::default()).unwrap();
        program.app.desk.reach(&mesh);
        let mut kernel = Kernel::new(platform, Some(mesh), Pace::Poll);
        kernel.reporting = false;
        // The fixture has introduced them already.
        for peer in (1..=MEMBERS).filter(|&peer| peer != usize::from(slot)) {
            program.peer(&mut kernel, peer, true);
        }
        Self { kernel, program, printed: String::new() }
    }

    fn round(&mut self) -> bool {
        let busy = self.kernel.round(&mut self.program) == Round::Busy;
        self.printed += &String::from_utf8(self.kernel.platform.take_printed()).unwrap();
        busy
    }

    /// Another kernel takes over, if it is not to fail.
    fn replace(&mut self, fails: Fails) -> bool {
        self.program.app.successor.set(Some(fails));
        self.program.drain(true);
        for _ in 0..200 {
            if self.program.is_to_be_replaced() {
                break;
            }
            self.round();
        }
        assert!(self.program.is_to_be_replaced(), "it does not come to an end");
        let clock = self.kernel.platform.ticks();
        let result = Multikernel::replace(&mut self.kernel, &mut self.program, clock);
        assert_eq!(result.is_ok(), fails == Fails::Never, "{result:?}");
        result.is_ok()
    }

    fn tell(&mut self, line: &str) {
        self.program.line(&mut self.kernel, line);
    }

    fn served(&self) -> u64 {
        self.program.app.state.borrow().servers.iter().map(|server| server.served).sum()
    }

    fn is_in(&self, members: u32) -> bool {
        self.program.look(Monitor::epoch).is_some_and(|(_, all)| all.len() == members)
    }

    /// How often it has said this.
    fn said(&self, what: &str) -> usize {
        self.printed.lines().filter(|line| line.contains(what)).count()
    }
}

/// Everything that a core is to do, in an order of its own.
fn work(slot: usize, random: &mut Random) -> Vec<String> {
    let mut lines: Vec<String> = std::vec![
        std::format!("call service/a {CALLS} {}", 1 + random.below(16)),
        std::format!("call service/b {CALLS} {} pages", 1 + random.below(16)),
        "bench 2pc 6".into(),
        "bench 1pc 6".into(),
        std::format!("register service/of{slot}"),
        "register service/one".into(),
    ];
    for last in (1..lines.len()).rev() {
        lines.swap(last, random.below(last as u64 + 1) as usize);
    }
    lines
}

/// What holds at the end: nothing was lost, done twice, or changed its order.
fn check<P: Again>(cores: &[Core<P>], context: &str) {
    let state = cores[0].program.look(|monitor| monitor.system().state());
    for (core, slot) in cores.iter().zip(1..) {
        let context = std::format!("{context}, core {slot}:\n{}", core.printed);
        assert_eq!(core.program.look(|monitor| monitor.system().state()), state, "{context}");
        for name in ["a", "b"] {
            assert_eq!(
                core.said(&std::format!("call service/{name}: {CALLS} calls, 0 wrong")),
                1,
                "{context}"
            );
        }
        assert_eq!(core.said("6 operations, 3 members"), 2, "{context}");
        assert_eq!(core.said(&std::format!("register service/of{slot}: done")), 1, "{context}");
        assert_eq!(core.said("service/one is on core"), 1, "{context}");
        for other in 1..=MEMBERS {
            assert_eq!(core.said(&std::format!("service/of{other} is on core {other}")), 1, "{context}");
        }
        assert_eq!(core.said("broke the rules"), 0, "{context}");
    }
    let won: usize = cores.iter().map(|core| core.said("register service/one: done")).sum();
    assert_eq!(won, 1, "{context}");
    let served: Vec<u64> = cores.iter().map(Core::served).collect();
    assert_eq!(served, [0, 3 * CALLS, 3 * CALLS], "{context}: each call is answered once");
}

fn failure(random: &mut Random) -> Fails {
    match random.below(12) {
        0 => Fails::Damaged(random.below(1 << 20) as usize),
        at @ 1..5 => Fails::At(Stage::ALL[at as usize - 1]),
        _ => Fails::Never,
    }
}

/// Three cores that work for each other and are replaced between any two rounds; how often.
fn history(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let pages = Pages::new(MEMBERS + 1);
    let members = gather_on(&pages, MEMBERS).into_iter();
    let mut cores: Vec<_> = members.map(|(platform, mesh)| Core::new(platform, mesh)).collect();
    let mut replaced = 0;
    let mut todo: Vec<Vec<String>> = (1..=MEMBERS).map(|slot| work(slot, &mut random)).collect();
    let mut serving = 0;
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps < 200_000, "seed {seed}: it never ends");
        if serving == 0 && cores.iter().all(|core| core.is_in(MEMBERS as u32)) {
            cores[1].tell("serve service/a");
            cores[2].tell("serve service/b");
            serving = 1;
        }
        let at = random.below(MEMBERS as u64) as usize;
        match random.below(30) {
            0 => replaced += u64::from(cores[at].replace(failure(&mut random))),
            1 if serving == 1 => {
                let known = cores[at].program.look(|monitor| {
                    let names = &monitor.system().names;
                    names.look_up("service/a").is_some() && names.look_up("service/b").is_some()
                });
                if let Some(line) = known.then(|| todo[at].pop()).flatten() {
                    cores[at].tell(&line);
                }
            }
            _ => _ = cores[at].round(),
        }
        if serving == 1
            && todo.iter().all(Vec::is_empty)
            && cores.iter().all(|core| core.program.is_done() && core.program.look(Monitor::is_quiet))
        {
            break;
        }
    }
    // What is under way still is told.
    for _ in 0..50 {
        cores.iter_mut().for_each(|core| _ = core.round());
    }
    check(&cores, &std::format!("seed {seed}"));
    replaced
}

#[test]
fn histories_of_replaces_lose_nothing() {
    let replaced: u64 = (1..=60).map(history).sum();
    assert!(replaced > 600, "{replaced}");
}

#[test]
fn a_kernel_that_fails_leaves_the_old_one_as_it_was() {
    let pages = Pages::new(MEMBERS + 1);
    let mut cores: Vec<_> =
        gather_on(&pages, MEMBERS).into_iter().map(|(p, mesh)| Core::new(p, mesh)).collect();
    for _ in 0..100 {
        cores.iter_mut().for_each(|core| _ = core.round());
    }
    let before = cores[1].program.carry(&cores[1].kernel);
    let failures = Stage::ALL.map(Fails::At).into_iter().chain((0..400).map(|at| Fails::Damaged(7 * at)));
    for failure in failures {
        assert!(!cores[1].replace(failure), "{failure:?}");
        assert_eq!(cores[1].program.carry(&cores[1].kernel), before, "{failure:?}");
    }
    assert!(cores[1].replace(Fails::Never));
    assert_eq!(cores[1].program.carry(&cores[1].kernel), before, "what goes over is what was there");
}

#[test]
fn threads_are_replaced_under_way() {
    let pages = Pages::new(MEMBERS + 1);
    let done = AtomicUsize::new(0);
    let meshes: Vec<_> = gather_on(&pages, MEMBERS).into_iter().map(|(_, mesh)| mesh).collect();
    let ends: Vec<(String, u64, usize)> = thread::scope(|scope| {
        let done = &done;
        let run = |mesh: Mesh<'static>| {
            scope.spawn(move || {
                let slot = mesh.own_slot();
                let (mut core, mut random) = (Core::new(Thread::begin(), mesh), Random::new(slot as u64));
                let replaced = Cell::new(0);
                let turn = |core: &mut Core<Thread>, random: &mut Random| {
                    if random.below(50) == 0 && core.replace(failure(random)) {
                        replaced.set(replaced.get() + 1);
                    }
                    if !core.round() {
                        thread::yield_now();
                    }
                };
                while !core.is_in(MEMBERS as u32) {
                    turn(&mut core, &mut random);
                }
                match slot {
                    2 => core.tell("serve service/a"),
                    3 => core.tell("serve service/b"),
                    _ => {}
                }
                while ["a", "b"].iter().any(|name| core.said(&std::format!("service/{name} is on core")) == 0)
                {
                    turn(&mut core, &mut random);
                }
                for line in work(slot, &mut random) {
                    core.tell(&line);
                }
                while !core.program.is_done()
                    || core.said("6 operations") < 2
                    || core.said("register service/one") == 0
                {
                    turn(&mut core, &mut random);
                }
                while core.said("calls, 0 wrong") < 2 {
                    turn(&mut core, &mut random);
                }
                while replaced.get() < 5 {
                    turn(&mut core, &mut random);
                }
                done.fetch_add(1, Ordering::AcqRel);
                while done.load(Ordering::Acquire) < MEMBERS {
                    turn(&mut core, &mut random);
                }
                (core.printed.clone(), core.served(), replaced.get())
            })
        };
        let threads: Vec<_> = meshes.into_iter().map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let served: Vec<u64> = ends.iter().map(|end| end.1).collect();
    assert_eq!(served, [0, 3 * CALLS, 3 * CALLS], "each call is answered once");
    for (printed, _, replaced) in &ends {
        assert!(*replaced >= 5 && !printed.contains("broke the rules"), "{replaced} replaces: {printed}");
    }
}

#[test]
fn frames_go_over_with_what_is_in_them() {
    let pages = Pages::new(MEMBERS + 1);
    let mut cores: Vec<_> =
        gather_on(&pages, MEMBERS).into_iter().map(|(p, mesh)| Core::new(p, mesh)).collect();
    let run = |cores: &mut Vec<Core<Fake>>| {
        (0..60).for_each(|_| cores.iter_mut().for_each(|core| _ = core.round()))
    };
    for line in ["retype 4096 8192", "map 4096", "poke 4096 7", "poke 12280 8"] {
        run(&mut cores);
        cores[0].tell(line);
    }
    run(&mut cores);
    let carried = cores[0].program.carry(&cores[0].kernel).unwrap();
    let platform = cores[0].kernel.platform.same_core();
    let (clock, window) = (platform.ticks(), |peer| Some(pages.between(1, peer)));
    let core = carry::Core { platform, pace: Pace::Poll, pages: Rc::<ThinAir>::default() };
    let Ok((kernel, program)) = Multikernel::take_over(carried, core, clock, window, |_| Ok(())) else {
        panic!("it does not take over");
    };
    (cores[0].kernel, cores[0].program) = (kernel, program);
    ["peek 4096", "peek 12280", "unmap 4096"].into_iter().for_each(|line| cores[0].tell(line));
    run(&mut cores);
    let said = &cores[0].printed;
    assert!(
        said.ends_with("peek 4096: 7\nmultikernel: peek 12280: 8\nmultikernel: unmap 4096: done\n"),
        "{said}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A package that is whole, but says what no kernel was: it is refused, or the core goes on with whatever it was told.
    #[test]
    fn made_up_packages_harm_nobody_else(
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let pages = Pages::new(MEMBERS + 1);
        let mut cores: Vec<_> =
            gather_on(&pages, MEMBERS).into_iter().map(|(p, mesh)| Core::new(p, mesh)).collect();
        for _ in 0..60 {
            cores.iter_mut().for_each(|core| _ = core.round());
        }
        cores[1].tell("serve service/a");
        cores[0].tell("call service/a 1000 8");
        cores[0].tell("copy 2");
        for line in ["retype 4096 8192", "map 4096", "bench 2pc 1000"] {
            cores[1].tell(line);
        }
        for _ in 0..60 {
            cores.iter_mut().for_each(|core| _ = core.round());
        }
        let mut body = postcard::to_allocvec(&cores[1].program.carry(&cores[1].kernel).unwrap()).unwrap();
        for (at, byte) in lies {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(carried) = postcard::from_bytes::<Carried>(&body) {
            let platform = cores[1].kernel.platform.same_core();
            let (clock, window) = (platform.ticks(), |peer| Some(pages.between(2, peer)));
            let core = carry::Core { platform, pace: Pace::Poll, pages: Rc::<ThinAir>::default() };
            let taken = Multikernel::take_over(carried, core, clock, window, |_| Ok(()));
            if let Ok((kernel, program)) = taken {
                (cores[1].kernel, cores[1].program) = (kernel, program);
                for _ in 0..100 {
                    cores.iter_mut().for_each(|core| _ = core.round());
                }
            }
        }
    }
}
