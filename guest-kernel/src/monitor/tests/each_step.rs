//! Each protocol, and after each of its steps the death of each core.
//!
//! In the end those that live are the members, and have the same replica; what they asked for is done or refused; the dead
//! one's names are gone and channels to it closed, pages are at home; calls are answered once and in order. Then the dead
//! one comes back in a new life, and all have the same again.

use std::vec::Vec;

use super::channels::SERVICE;
use super::*;
use crate::agreement::{CoreId, CoreSet, Topology};
use crate::monitor::News;
use crate::monitor::channels::{ChannelId, Unread};
use crate::monitor::pages::Held;
use crate::replica::Op;
use crate::replica::capabilities::{CapOp, Kind};
use crate::replica::names::{NameOp, Place};
use crate::replica::tests::{RAM, ram, register, retype};

const CORES: CoreId = 4;
const CLIENT: CoreId = 1;
const SERVER: CoreId = 2;
const ECHO: &str = "service/echo";
/// Calls of a client, and how many of them are in flight.
const CALLS: u64 = 6;
const DEPTH: u64 = 3;

/// A cluster, and the programs on its cores.
#[derive(Clone)]
struct Scene {
    cluster: Cluster,
    /// Who asked for what.
    asked: Vec<(CoreId, u64)>,
    near: Option<ChannelId>,
    made: u64,
    answered: u64,
}

/// What goes on, and what its programs do after each step.
struct Protocol {
    name: &'static str,
    begin: fn(&mut Scene),
    program: fn(&mut Scene),
}

const fn ask(name: &'static str, begin: fn(&mut Scene)) -> Protocol {
    Protocol { name, begin, program: |_| {} }
}

const PROTOCOLS: [Protocol; 16] = [
    ask("one phase", |scene| scene.ask(1, Op::Cap(CapOp::Unmap { cap: RAM }))),
    ask("two phases", |scene| scene.ask(1, register("one", 1, 1))),
    ask("a conflict", |scene| [1, 3].into_iter().for_each(|core| scene.ask(core, register("one", core, 1)))),
    ask("unregister", |scene| {
        scene.ask(SERVER, Op::Name(NameOp::Unregister { name: ECHO.into(), core: SERVER }));
    }),
    ask("retype", |scene| scene.ask(0, retype(0, RAM, 4, Kind::Frame, 0x3000, 0x1000))),
    ask("copy", |scene| scene.ask(1, Op::Cap(CapOp::Copy { root: RAM, cap: ram(3), by: 1, to: 2 }))),
    ask("delete", |scene| scene.ask(1, Op::Cap(CapOp::Delete { root: RAM, cap: ram(3), by: 1 }))),
    ask("revoke", |scene| scene.ask(0, Op::Cap(CapOp::Revoke { root: RAM, cap: ram(3), by: 0 }))),
    ask("a death", |scene| scene.cluster.crash(3)),
    ask("the steward's death", |scene| scene.cluster.crash(0)),
    ask("a newcomer", |scene| {
        scene.cluster.crash(3);
        scene.cluster.settle();
        scene.cluster.start(3, false);
    }),
    ask("a new life at once", |scene| {
        scene.cluster.crash(3);
        scene.cluster.start(3, false);
    }),
    ask("a leave", |scene| {
        scene.cluster.core(3).monitor.want_in(false);
        scene.cluster.flush(3);
    }),
    Protocol { name: "calls", begin: Scene::open, program: Scene::calls },
    Protocol { name: "pages", begin: Scene::open, program: Scene::pages },
    Protocol {
        name: "a handover",
        begin: |scene| scene.ask(1, register("one", 1, 1)),
        program: Scene::hand_over,
    },
];

impl Scene {
    /// All are members; core 2 has a service, and core 1 some memory.
    fn new(topology: Topology) -> Self {
        let cluster = Cluster::of_members(CORES, 1, topology);
        let mut scene = Self { cluster, asked: Vec::new(), near: None, made: 0, answered: 0 };
        scene.cluster.core(SERVER).monitor.offer(SERVICE, true);
        scene.ask(SERVER, register(ECHO, SERVER, SERVICE));
        scene.ask(0, retype(0, RAM, 3, Kind::Frame, 0x1000, 0x1000));
        scene.cluster.settle();
        scene.ask(0, Op::Cap(CapOp::Copy { root: RAM, cap: ram(3), by: 0, to: 1 }));
        scene.cluster.settle();
        for (core, ticket) in core::mem::take(&mut scene.asked) {
            assert_eq!(scene.cluster.outcome(core, ticket), Some(Ok(())));
        }
        scene
    }

    fn ask(&mut self, core: CoreId, op: Op) {
        let ticket = self.cluster.request(core, op);
        self.asked.push((core, ticket));
    }

    fn lives(&self, core: CoreId) -> bool {
        self.cluster.live().contains(core)
    }

    fn open(&mut self) {
        self.near = self.cluster.core(CLIENT).monitor.open(ECHO);
        assert!(self.near.is_some());
        self.cluster.flush(CLIENT);
    }

    /// The server's end.
    fn far(&mut self) -> Option<ChannelId> {
        self.cluster.core(SERVER).news.iter().find_map(|news| match *news {
            News::Accepted(SERVICE, number, CLIENT) => Some(number),
            _ => None,
        })
    }

    fn calls(&mut self) {
        if let Some(near) = self.near.filter(|_| self.lives(CLIENT)) {
            let monitor = &mut self.cluster.core(CLIENT).monitor;
            while let Some(unread) = monitor.receive(near) {
                assert_eq!(unread, Unread::Line([3 * self.answered; 6]));
                self.answered += 1;
            }
            let wanted = CALLS.min(self.answered + DEPTH);
            while self.made < wanted && monitor.send(near, &[self.made; 6]).is_ok() {
                self.made += 1;
            }
            self.cluster.flush(CLIENT);
        }
        if self.lives(SERVER)
            && let Some(far) = self.far()
        {
            let monitor = &mut self.cluster.core(SERVER).monitor;
            while let Some(Unread::Line(line)) = monitor.receive(far) {
                let _ = monitor.send(far, &line.map(|word| 3 * word));
            }
            self.cluster.flush(SERVER);
        }
    }

    /// The same with a page each; the server sends it back, or in every other call lets it fall and sends one of its own.
    fn pages(&mut self) {
        if let Some(near) = self.near.filter(|_| self.lives(CLIENT)) {
            let monitor = &mut self.cluster.core(CLIENT).monitor;
            while let Some(unread) = monitor.receive(near) {
                let Unread::Page(page, note) = unread else { panic!("a line: {unread:?}") };
                assert_eq!(note, [self.answered; 5]);
                monitor.give_back(page);
                self.answered += 1;
            }
            let wanted = CALLS.min(self.answered + DEPTH);
            while self.made < wanted
                && let Some(page) = monitor.take_page(SERVER)
            {
                if monitor.send_page(near, page, &[self.made; 5]).is_err() {
                    monitor.give_back(page);
                    break;
                }
                self.made += 1;
            }
            self.cluster.flush(CLIENT);
        }
        if self.lives(SERVER)
            && let Some(far) = self.far()
        {
            let monitor = &mut self.cluster.core(SERVER).monitor;
            while let Some(Unread::Page(page, note)) = monitor.receive(far) {
                let own = if note[0] % 2 == 1 { monitor.take_page(CLIENT) } else { None };
                let answer = match own {
                    Some(own) => {
                        monitor.give_back(page);
                        own
                    }
                    None => page,
                };
                if monitor.send_page(far, answer, &note).is_err() {
                    monitor.give_back(answer);
                }
            }
            self.cluster.flush(SERVER);
        }
    }

    /// Another kernel goes on where core 1's stood.
    fn hand_over(&mut self) {
        if self.lives(1) {
            let monitor = &mut self.cluster.core(1).monitor;
            let written = postcard::to_allocvec(&*monitor).unwrap();
            *monitor = postcard::from_bytes(&written).unwrap();
            self.cluster.flush(1);
        }
    }

    /// Goes through the protocol; `victim` dies after so many steps. How many there were.
    fn run(&mut self, protocol: &Protocol, death: Option<(usize, CoreId)>) -> usize {
        let mut steps = 0;
        (protocol.begin)(self);
        loop {
            if let Some((step, victim)) = death
                && step == steps
                && self.lives(victim)
            {
                self.cluster.crash(victim);
            }
            (protocol.program)(self);
            if !self.cluster.happen() {
                return steps;
            }
            steps += 1;
            self.cluster.check().unwrap();
        }
    }

    /// What holds when all has come to its end.
    fn check_end(&mut self) {
        if self.lives(3) {
            // It may have left.
            self.cluster.core(3).monitor.want_in(true);
            self.cluster.flush(3);
            self.cluster.settle();
        }
        let live = self.cluster.live();
        self.cluster.check_end(live).unwrap();
        assert_eq!(self.cluster.members(), live);
        for (core, ticket) in self.asked.clone() {
            assert!(
                !live.contains(core) || self.cluster.outcome(core, ticket).is_some(),
                "core {core} waits"
            );
        }
        for core in live.iter() {
            let names: Vec<Place> =
                self.cluster.core(core).monitor.system().names.iter().map(|(_, place)| place).collect();
            assert!(names.iter().all(|place| live.contains(place.core)), "core {core}: {names:?}");
        }
        if let Some(near) = self.near.filter(|_| self.lives(CLIENT)) {
            if self.lives(SERVER) {
                assert_eq!((self.made, self.answered), (CALLS, CALLS));
            } else {
                assert!(self.cluster.core(CLIENT).news.contains(&News::Closed(near)));
            }
        }
        for (core, peer) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            if self.lives(core) {
                let monitor = &mut self.cluster.core(core).monitor;
                let home: Vec<Held> = core::iter::from_fn(|| monitor.take_page(peer)).collect();
                assert_eq!(home.len(), abi::mesh::PAGES / 2, "pages of core {core}");
                home.into_iter().for_each(|page| monitor.give_back(page));
            }
        }
    }
}

fn every_death(topology: Topology) {
    let scene = Scene::new(topology);
    for protocol in &PROTOCOLS {
        let mut undisturbed = scene.clone();
        let steps = undisturbed.run(protocol, None);
        undisturbed.check_end();
        assert!(steps >= 6, "{}: {steps} steps", protocol.name);
        for step in 0..=steps {
            for victim in 0..CORES {
                let mut scene = scene.clone();
                let run = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
                    scene.run(protocol, Some((step, victim)));
                    scene.check_end();
                    let dead = CoreSet::first(CORES).without(scene.cluster.live());
                    dead.iter().for_each(|core| scene.cluster.start(core, false));
                    scene.cluster.settle();
                    assert_eq!(scene.cluster.members(), CoreSet::first(CORES));
                    scene.cluster.check_end(CoreSet::first(CORES)).unwrap();
                }));
                assert!(run.is_ok(), "{}: core {victim} dies after step {step} of {steps}", protocol.name);
            }
        }
    }
}

#[test]
fn of_flat_machines() {
    every_death(Topology::flat());
}

#[test]
fn of_trees() {
    let set = |cores: [CoreId; 2]| cores.into_iter().collect();
    every_death(Topology::levels(std::vec![std::vec![set([0, 1]), set([2, 3])]]));
}
