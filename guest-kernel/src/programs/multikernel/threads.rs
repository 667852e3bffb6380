//! Members on threads of the host, which race for real.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::frames::ThinAir;
use super::*;
use crate::agreement::Replica;
use crate::kernel::{Pace, Round};
use crate::mesh::fixture::gather;
use crate::platform::threads::Thread;
use crate::replica::State;

const MEMBERS: usize = 4;
/// What each asks for, one after the other, all at the same time.
const LINES: [&str; 5] =
    ["register service/one", "retype 65536 8192", "bench 2pc 100", "bench 1pc 100", "register service/me"];

struct Member {
    kernel: Kernel<Thread>,
    program: Multikernel,
}

impl Member {
    fn new(mesh: Mesh<'static>) -> Self {
        let slot = mesh.own_slot() as u8;
        let make = if slot == 1 { Monitor::founder } else { Monitor::outside };
        let (replica, life) = (Multikernel::replica(slot), u32::from(slot));
        let monitor = make(slot, life, mesh.slots(), replica, Topology::flat());
        let mut kernel = Kernel::new(Thread::begin(), Some(mesh), Pace::Poll);
        kernel.reporting = false;
        let mut program =
            Multikernel::new(monitor, kernel.platform.clock(), Rc::<ThinAir>::default()).unwrap();
        // The fixture has introduced them already.
        for peer in (1..=MEMBERS).filter(|&peer| peer != usize::from(slot)) {
            program.peer(&mut kernel, peer, true);
        }
        Self { kernel, program }
    }

    fn turn(&mut self) {
        if self.kernel.round(&mut self.program) != Round::Busy {
            thread::yield_now();
        }
    }

    fn printed(&self) -> String {
        String::from_utf8(self.kernel.platform.printed.lock().unwrap().clone()).unwrap()
    }

    /// Does all that it is to do, and then what the others want, until they are ready, too.
    fn run(mut self, ready: &AtomicUsize) -> (State, usize) {
        let me = self.program.look(Monitor::core);
        while self.program.look(Monitor::epoch).is_none_or(|(_, members)| members.len() < MEMBERS as u32) {
            self.turn();
        }
        for line in LINES {
            self.program.line(&mut self.kernel, &line.replace("me", &me.to_string()));
            while !self.program.is_done() {
                self.turn();
            }
        }
        ready.fetch_add(1, Ordering::AcqRel);
        // All that anybody asked for was acknowledged by this core before it was answered.
        while ready.load(Ordering::Acquire) < MEMBERS {
            self.turn();
        }
        let text = self.printed();
        let benches = text.lines().filter(|line| line.contains("100 operations, 4 members")).count();
        assert_eq!(benches, 2, "{text}");
        (self.program.look(|monitor| monitor.system().state()), text.matches("service/one: done").count())
    }
}

#[test]
fn threads_agree() {
    let ready = AtomicUsize::new(0);
    let meshes = gather(MEMBERS).into_iter().map(|(_, mesh)| mesh);
    let ends: alloc::vec::Vec<(State, usize)> = thread::scope(|scope| {
        let ready = &ready;
        let threads: alloc::vec::Vec<_> =
            meshes.map(|mesh| scope.spawn(move || Member::new(mesh).run(ready))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ends.iter().map(|(_, won)| won).sum::<usize>(), 1, "one name, one owner");
    assert!(ends.iter().all(|(state, _)| *state == ends[0].0), "replicas differ");
    assert_eq!(ends[0].0.names.len(), MEMBERS + 1);
    assert_eq!(
        ends[0].0.caps.len(),
        2,
        "the root, and the founder's frame: the others hold nothing to retype"
    );
}

/// Cycles of each member that goes and comes.
const CYCLES: usize = 20;
/// How long nothing may move before all say where they stand. It decides nothing but how soon a deadlock is told of.
const STUCK: Duration = Duration::from_secs(60);

/// How far all are, for them and for the one that watches them.
#[derive(Default)]
struct Course {
    /// Cycles and operations, of all.
    moved: AtomicUsize,
    /// Members that have done all their cycles, and then all that are in again and have nothing under way.
    cycled: AtomicUsize,
    settled: AtomicUsize,
    stuck: AtomicBool,
}

impl Member {
    /// A turn; and where it stands, should nobody move any more.
    fn turn_on(&mut self, course: &Course) {
        assert!(
            !course.stuck.load(Ordering::Relaxed),
            "nobody moves: {:#?}\n{}",
            self.program.look(Monitor::clone),
            self.printed()
        );
        self.turn();
    }

    /// Suspends itself and comes back, as often as it is to; the first asks for operations all the time.
    fn cycle(mut self, course: &Course) -> (State, usize) {
        let others = MEMBERS - 1;
        let everybody = |member: &Self| {
            member.program.look(Monitor::epoch).is_some_and(|(_, members)| members.len() == MEMBERS as u32)
        };
        let mut asked = 0;
        if self.program.look(Monitor::core) == 1 {
            while course.cycled.load(Ordering::Acquire) < others {
                self.program.line(&mut self.kernel, ["bench 2pc 4", "bench 1pc 4"][asked % 2]);
                asked += 1;
                while !self.program.is_done() {
                    self.turn_on(course);
                }
                course.moved.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            for cycle in 1..=CYCLES {
                while self.program.look(Monitor::epoch).is_none() {
                    self.turn_on(course);
                }
                self.kernel.suspend_soon();
                while self.printed().matches("resumed").count() < cycle {
                    self.turn_on(course);
                }
                course.moved.fetch_add(1, Ordering::Relaxed);
            }
            course.cycled.fetch_add(1, Ordering::AcqRel);
        }
        while !(everybody(&self) && self.program.look(Monitor::is_quiet)) {
            self.turn_on(course);
        }
        course.settled.fetch_add(1, Ordering::AcqRel);
        while course.settled.load(Ordering::Acquire) < MEMBERS {
            self.turn_on(course);
        }
        let done = self.printed().matches(": 4 operations").count();
        assert_eq!(done, asked, "an operation was lost or refused: {}", self.printed());
        (self.program.look(|monitor| monitor.system().state()), asked)
    }
}

/// Until all are done, or nothing has moved for long.
fn watch(course: &Course) {
    let (mut last, mut since) = (0, Instant::now());
    while course.settled.load(Ordering::Acquire) < MEMBERS && since.elapsed() < STUCK {
        thread::park_timeout(Duration::from_millis(20));
        let moved = course.moved.load(Ordering::Relaxed) + course.settled.load(Ordering::Relaxed);
        if core::mem::replace(&mut last, moved) != moved {
            since = Instant::now();
        }
    }
    let stuck = course.settled.load(Ordering::Acquire) < MEMBERS;
    course.stuck.store(stuck, Ordering::Relaxed);
}

#[test]
fn threads_go_and_come_while_one_asks() {
    let course = Course::default();
    let meshes = gather(MEMBERS).into_iter().map(|(_, mesh)| mesh);
    let ends: alloc::vec::Vec<(State, usize)> = thread::scope(|scope| {
        let course = &course;
        let threads: alloc::vec::Vec<_> =
            meshes.map(|mesh| scope.spawn(move || Member::new(mesh).cycle(course))).collect();
        watch(course);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ends.iter().all(|(state, _)| *state == ends[0].0), "replicas differ");
    assert!(ends[0].1 > 1, "nobody asked for anything meanwhile");
}
