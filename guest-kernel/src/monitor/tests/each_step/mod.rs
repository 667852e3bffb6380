//! Each protocol, and after each of its steps the death of each core, in several orders of events.
//!
//! In the end those that live are the members, and have the same replica. What they asked for is done and has its effect in
//! all of these, or is refused for a good reason and has it in none; what the dead asked for has it in all or in none. The
//! dead one's names are gone and channels to it closed, pages are at home; calls are answered once and in order. Then the
//! dead one comes back in a new life, and all have the same again.

mod effects;
mod programs;

use std::vec::Vec;

use super::channels::SERVICE;
use super::*;
use crate::agreement::{CoreId, CoreSet, Topology};
use crate::monitor::channels::ChannelId;
use crate::monitor::patience::LOOKS;
use crate::programs::random::Random;
use crate::replica::capabilities::{CapOp, Kind};
use crate::replica::names::NameOp;
use crate::replica::tests::{RAM, ram, register, retype};
use crate::replica::{Op, System};

const CORES: CoreId = 4;
const CLIENT: CoreId = 1;
const SERVER: CoreId = 2;
const ECHO: &str = "service/echo";
/// Orders of events in which each protocol is gone through.
const SEEDS: u64 = 20;

/// A cluster, and the programs on its cores.
#[derive(Clone)]
struct Scene {
    cluster: Cluster,
    /// Who asked for what, with which ticket.
    asked: Vec<(CoreId, u64, Op)>,
    near: Option<ChannelId>,
    made: u64,
    answered: u64,
    /// How often the monitors have looked, and after how many looks a sleeper may wake up.
    looks: u64,
    wakes: u64,
}

/// What goes on.
struct Protocol {
    name: &'static str,
    begin: fn(&mut Scene),
    /// What its programs do before each step.
    program: fn(&mut Scene),
    /// What they do when nothing more happens by itself; whether that was anything.
    idle: fn(&mut Scene) -> bool,
    /// What holds then, besides what always does.
    end: fn(&mut Scene),
}

const fn ask(name: &'static str, begin: fn(&mut Scene)) -> Protocol {
    Protocol { name, begin, program: |_| {}, idle: |_| false, end: |_| {} }
}

const PROTOCOLS: [Protocol; 20] = [
    ask("one phase", |scene| scene.ask(1, Op::Cap(CapOp::Unmap { cap: ram(3) }))),
    ask("two phases", |scene| scene.ask(1, register("one", 1, 1))),
    Protocol {
        end: Scene::check_one_won,
        ..ask("a conflict", |scene| {
            [1, 3].into_iter().for_each(|core| scene.ask(core, register("one", core, 1)));
        })
    },
    ask("unregister", |scene| {
        scene.ask(SERVER, Op::Name(NameOp::Unregister { name: ECHO.into(), core: SERVER }));
    }),
    ask("retype", |scene| scene.ask(0, retype(0, RAM, 6, Kind::Frame, 0x5000, 0x1000))),
    ask("copy", |scene| scene.ask(1, Op::Cap(CapOp::Copy { root: RAM, cap: ram(5), by: 1, to: 2 }))),
    ask("delete", |scene| scene.ask(1, Op::Cap(CapOp::Delete { root: RAM, cap: ram(3), by: 1 }))),
    ask("revoke", |scene| scene.ask(0, Op::Cap(CapOp::Revoke { root: RAM, cap: ram(4), by: 0 }))),
    ask("a death", |scene| scene.cluster.crash(3)),
    ask("the steward's death", |scene| scene.cluster.crash(0)),
    ask("a newcomer", |scene| {
        scene.cluster.crash(3);
        scene.cluster.settle();
        scene.cluster.start(3, false);
        scene.ask(1, register("one", 1, 1));
    }),
    ask("a new life at once", |scene| {
        scene.cluster.crash(3);
        scene.cluster.start(3, false);
    }),
    Protocol {
        end: Scene::check_it_left,
        ..ask("a leave", |scene| {
            scene.cluster.core(3).monitor.want_in(false);
            scene.cluster.flush(3);
        })
    },
    Protocol { program: Scene::calls, ..ask("calls", Scene::open) },
    Protocol { program: Scene::pages, ..ask("pages", Scene::open) },
    Protocol { program: Scene::hand_over, ..ask("a handover", |scene| scene.ask(1, register("one", 1, 1))) },
    Protocol {
        program: Scene::wake,
        idle: Scene::look,
        end: |scene| scene.check_left_out(3),
        ..ask("silence", |scene| scene.fall_asleep(3))
    },
    Protocol {
        program: Scene::wake,
        idle: Scene::look,
        end: |scene| scene.check_left_out(0),
        ..ask("the steward's silence", |scene| scene.fall_asleep(0))
    },
    ask("an accusation", |scene| scene.babble(3)),
    ask("an accusation of the steward", |scene| scene.babble(0)),
];

impl Scene {
    /// All are members; core 2 has a service. There are a frame that all have mapped, memory of cores 0 and 3, and a frame
    /// of it that 0 and 1 have.
    fn new(topology: Topology) -> Self {
        let cluster = Cluster::of_members(CORES, 1, topology);
        let mut scene =
            Self { cluster, asked: Vec::new(), near: None, made: 0, answered: 0, looks: 0, wakes: 0 };
        scene.cluster.core(SERVER).monitor.offer(SERVICE, true);
        let copy = |cap, to| Op::Cap(CapOp::Copy { root: RAM, cap, by: 0, to });
        let own = [
            retype(0, RAM, 3, Kind::Frame, 0x1000, 0x1000),
            retype(0, RAM, 4, Kind::Ram, 0x2000, 0x2000),
            retype(0, ram(4), 5, Kind::Frame, 0x2000, 0x1000),
        ];
        let shared = [(3, 1), (3, 2), (3, 3), (4, 3), (5, 1)].map(|(cap, to)| copy(ram(cap), to));
        scene.ask(SERVER, register(ECHO, SERVER, SERVICE));
        for op in own.into_iter().chain(shared) {
            scene.ask(0, op);
            scene.cluster.settle();
        }
        for (core, ticket, _) in core::mem::take(&mut scene.asked) {
            assert_eq!(scene.cluster.outcome(core, ticket), Some(Ok(())));
        }
        assert!((0..CORES).all(|core| scene.cluster.core(core).monitor.system_mut().caps.map(ram(3))));
        scene
    }

    fn ask(&mut self, core: CoreId, op: Op) {
        let ticket = self.cluster.request(core, op.clone());
        self.asked.push((core, ticket, op));
    }

    /// It asks for something in one phase, and in two, and then neither does nor notices anything for a while.
    fn fall_asleep(&mut self, core: CoreId) {
        self.ask(core, Op::Cap(CapOp::Unmap { cap: ram(3) }));
        self.ask(core, Op::Cap(CapOp::Copy { root: RAM, cap: ram(4), by: core, to: 2 }));
        self.ask(1, register("one", 1, 1));
        self.cluster.asleep.insert(core);
        self.wakes = u64::from(LOOKS) + 1 + self.cluster.random.below(4);
    }

    /// It says what makes no sense, to everybody.
    fn babble(&mut self, core: CoreId) {
        self.ask(1, register("one", 1, 1));
        self.cluster.hostile.insert(core);
        for to in CoreSet::first(CORES).without(CoreSet::one(core)).iter() {
            self.cluster.forge(core, to, [abi::mesh::kind::MONITOR | 4 << 32, u64::MAX, 0, 0, 0, 0, 0]);
        }
    }

    fn lives(&self, core: CoreId) -> bool {
        self.cluster.live().contains(core)
    }

    fn honest(&self) -> CoreSet {
        self.cluster.live().without(self.cluster.hostile.iter().copied().collect())
    }

    fn system(&self, core: CoreId) -> &System {
        self.cluster.cores[usize::from(core)].as_ref().unwrap().monitor.system()
    }

    /// The next step; false if there is none.
    fn step(&mut self, protocol: &Protocol) -> bool {
        loop {
            (protocol.program)(self);
            if self.cluster.happen() {
                return true;
            }
            if !(protocol.idle)(self) {
                return false;
            }
        }
    }

    fn go_on(&mut self, protocol: &Protocol) {
        while self.step(protocol) {}
        (protocol.end)(self);
        let honest = self.honest();
        self.cluster.check_end(honest).unwrap();
        assert_eq!(self.cluster.members(), honest);
        self.check_effects();
        self.check_programs();
    }

    /// Whoever is dead or broke the rules comes in anew.
    fn come_back(&mut self) {
        let all = CoreSet::first(CORES);
        for core in all.without(self.honest()).iter() {
            if self.lives(core) {
                self.cluster.crash(core);
            }
            self.cluster.start(core, false);
        }
        self.cluster.settle();
        assert_eq!(self.cluster.members(), all);
        self.cluster.check_end(all).unwrap();
    }

    fn check_one_won(&mut self) {
        let asked = self.asked.clone();
        if asked.iter().all(|&(core, ..)| self.lives(core)) {
            let won =
                asked.iter().filter(|&&(core, ticket, _)| self.cluster.outcome(core, ticket) == Some(Ok(())));
            assert_eq!(won.count(), 1);
        }
    }

    /// Core 3 is no member; then it comes back.
    fn check_it_left(&mut self) {
        if self.lives(3) {
            assert_eq!(self.cluster.members(), self.cluster.live().without(CoreSet::one(3)));
            assert_eq!(self.cluster.core(3).monitor.epoch(), None);
            self.cluster.core(3).monitor.want_in(true);
            self.cluster.flush(3);
            self.cluster.settle();
        }
    }

    /// Where nobody died, that core was left out.
    fn check_left_out(&mut self, core: CoreId) {
        if self.cluster.live() == CoreSet::first(CORES) {
            assert_eq!(self.expelled(), CoreSet::one(core));
        }
    }
}

fn every_death(topology: Topology) {
    let members = Scene::new(topology);
    for protocol in &PROTOCOLS {
        for seed in 1..=SEEDS {
            let mut scene = members.clone();
            scene.cluster.random = Random::new(seed);
            (protocol.begin)(&mut scene);
            for step in 0.. {
                // Another one, or none, with each seed: in all of them each dies after each step, in several orders.
                let living = scene.honest();
                let death = step + seed as usize;
                if death.is_multiple_of(3)
                    && let Some(victim) = living.iter().nth(death / 3 % living.len() as usize)
                {
                    let mut scene = scene.clone();
                    let run = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
                        scene.cluster.crash(victim);
                        scene.go_on(protocol);
                        if death.is_multiple_of(4) {
                            scene.come_back();
                        }
                    }));
                    let name = protocol.name;
                    assert!(run.is_ok(), "{name}: core {victim} dies after step {step} of seed {seed}");
                }
                if !scene.step(protocol) {
                    assert!(step >= 6, "{}: {step} steps", protocol.name);
                    break;
                }
                scene.cluster.check().unwrap();
            }
            scene.go_on(protocol);
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
