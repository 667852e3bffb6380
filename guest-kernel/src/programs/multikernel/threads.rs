//! Members on threads of the host, which race for real.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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
        let mut program = Multikernel::new(monitor, kernel.platform.clock()).unwrap();
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
