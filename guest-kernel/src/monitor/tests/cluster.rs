//! Monitors and the lines between them, in any order that a seed chooses; cores die and come back.
//!
//! The channels are as the mesh has them: who hears of a peer first greets it; what the dead sent may still arrive until
//! the notice of its death, and not after; a new life's channel is fresh.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::format;
use std::string::String;
use std::vec::Vec;

use io_rings::urpc::Message;

use crate::agreement::{CoreId, CoreSet, Refusal, Replica, Topology};
use crate::monitor::{Monitor, News};
use crate::programs::random::Random;
use crate::replica::capabilities::Kind;
use crate::replica::tests::{LINES, RAM, sound};
use crate::replica::{Op, System};

/// What goes over a channel.
#[derive(Clone, Debug)]
enum Item {
    Greeting,
    Line(Message),
}

/// What a core is told of another by domain 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    Up,
    Down,
}

#[derive(Clone)]
pub struct Core {
    pub monitor: Monitor,
    pub news: Vec<News>,
    /// Whom it has a channel with.
    live: CoreSet,
}

#[derive(Clone)]
pub struct Cluster {
    pub cores: Vec<Option<Core>>,
    channels: BTreeMap<(CoreId, CoreId), VecDeque<Item>>,
    notices: BTreeMap<(CoreId, CoreId), VecDeque<Notice>>,
    next_life: u32,
    pub random: Random,
    topology: Topology,
    pub lines: u64,
    /// Cores that do not do as they should; nothing is expected of them.
    pub hostile: BTreeSet<CoreId>,
    /// Cores that do nothing for a while, and know nothing of it.
    pub asleep: CoreSet,
    now: u64,
}

/// Ticks that a monitor waits for a word.
pub const PATIENCE: u64 = 80;

pub fn replica(me: CoreId) -> System {
    let mut system = System::new(me);
    system.caps.add_root(RAM, Kind::Ram, 0x1000, 0x8000, 0);
    system.caps.add_root(LINES, Kind::Irq, 0, 16, 0);
    system
}

impl Cluster {
    pub fn new(cores: u8, seed: u64, topology: Topology) -> Self {
        let mut cluster = Self {
            cores: (0..cores).map(|_| None).collect(),
            channels: BTreeMap::new(),
            notices: BTreeMap::new(),
            next_life: 0,
            random: Random::new(seed),
            topology,
            lines: 0,
            hostile: BTreeSet::new(),
            asleep: CoreSet::EMPTY,
            now: 0,
        };
        cluster.start(0, true);
        cluster
    }

    /// All cores are members.
    pub fn of_members(cores: u8, seed: u64, topology: Topology) -> Self {
        let mut cluster = Self::new(cores, seed, topology);
        (1..cores).for_each(|core| cluster.start(core, false));
        cluster.settle();
        let members = cluster.core(0).monitor.epoch().map(|(_, members)| members);
        assert_eq!(members, Some(CoreSet::first(cores)));
        cluster
    }

    pub fn core(&mut self, core: CoreId) -> &mut Core {
        self.cores[usize::from(core)].as_mut().unwrap()
    }

    pub fn live(&self) -> CoreSet {
        (0..).zip(&self.cores).filter(|(_, core)| core.is_some()).map(|(core, _)| core).collect()
    }

    pub fn members(&self) -> CoreSet {
        let epochs = self.cores.iter().flatten().filter_map(|core| core.monitor.epoch());
        epochs.max().map_or(CoreSet::EMPTY, |(_, members)| members)
    }

    /// A core begins a new life.
    pub fn start(&mut self, core: CoreId, founder: bool) {
        self.next_life += 1;
        let (life, count, topology) = (self.next_life, self.cores.len(), self.topology.clone());
        let make = if founder { Monitor::founder } else { Monitor::outside };
        let mut monitor = make(core, life, count, replica(core), topology);
        monitor.set_patience(PATIENCE);
        for other in self.live().iter() {
            self.notices.entry((other, core)).or_default().push_back(Notice::Up);
        }
        self.cores[usize::from(core)] = Some(Core { monitor, news: Vec::new(), live: CoreSet::EMPTY });
    }

    pub fn crash(&mut self, core: CoreId) {
        self.cores[usize::from(core)] = None;
        self.hostile.remove(&core);
        self.asleep.remove(core);
        self.channels.retain(|(_, to), _| *to != core);
        self.notices.retain(|(at, _), _| *at != core);
        for other in self.live().iter() {
            self.notices.entry((other, core)).or_default().push_back(Notice::Down);
        }
    }

    fn notice(&mut self, at: CoreId, of: CoreId) {
        let notice = self.notices.get_mut(&(at, of)).and_then(VecDeque::pop_front);
        let alive = self.live().contains(of);
        match notice {
            // Of a life that is over already: its end follows.
            Some(Notice::Up) if !alive || self.notices[&(at, of)].contains(&Notice::Down) => {}
            Some(Notice::Up) => {
                self.channels.insert((at, of), VecDeque::from([Item::Greeting]));
                self.core(at).live.insert(of);
                self.core(at).monitor.peer(usize::from(of), true);
            }
            Some(Notice::Down) => {
                self.channels.remove(&(of, at));
                self.channels.remove(&(at, of));
                if self.core(at).live.remove(of) {
                    self.core(at).monitor.peer(usize::from(of), false);
                }
            }
            None => {}
        }
        self.notices.retain(|_, notices| !notices.is_empty());
        self.flush(at);
    }

    fn deliver(&mut self, from: CoreId, to: CoreId) {
        let item = self.channels.get_mut(&(from, to)).and_then(VecDeque::pop_front);
        let core = self.core(to);
        match item {
            Some(Item::Greeting) => {
                core.live.insert(from);
                core.monitor.peer(usize::from(from), true);
            }
            Some(Item::Line(line)) => _ = core.monitor.line(usize::from(from), &line),
            None => {}
        }
        self.flush(to);
    }

    /// Sends what a monitor has to say.
    pub fn flush(&mut self, core: CoreId) {
        if self.hostile.contains(&core) {
            return;
        }
        let Some(Core { monitor, news, live }) = &mut self.cores[usize::from(core)] else { return };
        while let Some(one) = monitor.take_news() {
            news.push(one);
        }
        let (channels, cores) = (&mut self.channels, &mut self.lines);
        monitor.flush(|to, line| {
            assert!(live.contains(to as CoreId), "core {core} talks to {to}, whom it does not know");
            *cores += 1;
            channels.entry((core, to as CoreId)).or_default().push_back(Item::Line(*line));
            Ok(())
        });
    }

    /// A line that no monitor wrote.
    pub fn forge(&mut self, from: CoreId, to: CoreId, line: Message) {
        if self.core(from).live.contains(to) && self.core(to).live.contains(from) {
            self.channels.entry((from, to)).or_default().push_back(Item::Line(line));
        }
    }

    /// One of all things that may happen next does; false if there is none.
    pub fn happen(&mut self) -> bool {
        let live = self.live().without(self.asleep);
        let filled = self.channels.iter().filter(|((_, to), items)| live.contains(*to) && !items.is_empty());
        let filled: Vec<_> = filled.map(|(&ends, _)| ends).collect();
        let noticed: Vec<_> =
            self.notices.keys().copied().filter(|(at, _)| !self.asleep.contains(*at)).collect();
        let Some(which) = (self.random.draw() as usize).checked_rem(filled.len() + noticed.len()) else {
            return false;
        };
        match filled.get(which) {
            Some(&(from, to)) => self.deliver(from, to),
            None => {
                let (at, of) = noticed[which - filled.len()];
                self.notice(at, of);
            }
        }
        true
    }

    /// So much time passes, and whoever is awake looks whether it is time to look at the others.
    pub fn pass(&mut self, ticks: u64) {
        self.now += ticks;
        for core in self.live().without(self.asleep).iter() {
            let now = self.now;
            self.core(core).monitor.tick(now);
            self.flush(core);
        }
    }

    /// Time passes, and all that follows from it happens before more does, until nobody waits for anybody.
    pub fn settle_in_time(&mut self) {
        for _ in 0..200 {
            self.settle();
            self.pass(PATIENCE / 8);
        }
        self.settle();
    }

    pub fn settle(&mut self) {
        let mut steps = 0;
        while self.happen() {
            steps += 1;
            assert!(steps < 2_000_000, "it never ends");
        }
    }

    /// Asks a core for something; its ticket.
    pub fn request(&mut self, core: CoreId, op: Op) -> u64 {
        let ticket = self.core(core).monitor.request(op);
        self.flush(core);
        ticket
    }

    /// How it ended.
    pub fn outcome(&mut self, core: CoreId, ticket: u64) -> Option<Result<(), Refusal>> {
        self.core(core).news.iter().find_map(|news| match *news {
            News::Done(done) if done == ticket => Some(Ok(())),
            News::Refused(refused, why) if refused == ticket => Some(Err(why)),
            _ => None,
        })
    }

    /// Whom somebody does not hear any more that may live.
    fn in_doubt(&self) -> CoreSet {
        let doubts = self.cores.iter().flatten().map(|core| core.monitor.silent_members());
        doubts.fold(CoreSet::EMPTY, CoreSet::with)
    }

    /// What holds at any time.
    pub fn check(&self) -> Result<(), String> {
        let in_doubt = self.in_doubt();
        let honest = (0..)
            .zip(&self.cores)
            .filter(|(core, _)| !self.hostile.contains(core) && !in_doubt.contains(*core));
        let mut epochs = BTreeMap::new();
        for (core, state) in honest {
            let Some(Core { monitor, .. }) = state else { continue };
            let Some((epoch, members)) = monitor.epoch() else { continue };
            if *epochs.entry(epoch).or_insert(members) != members {
                return Err(format!("core {core} is in epoch {epoch} with other members"));
            }
            sound(monitor.system(), members).map_err(|why| format!("core {core}: {why}"))?;
        }
        Ok(())
    }

    /// What holds when nothing more can happen: of those in `of`, all that live are in, at the same.
    pub fn check_end(&self, of: CoreSet) -> Result<(), String> {
        let mut first = None;
        for core in of.iter() {
            let Some(Core { monitor, .. }) = &self.cores[usize::from(core)] else { continue };
            if monitor.epoch().is_none() || !monitor.is_quiet() {
                let all: Vec<_> = self.cores.iter().flatten().map(|core| &core.monitor).collect();
                return Err(format!("core {core} waits for ever: {all:#?}"));
            }
            let (epoch, state) = (monitor.epoch(), monitor.system().state());
            let (other, epoch_there, state_there) = first.get_or_insert((core, epoch, state.clone()));
            if epoch != *epoch_there || state != *state_there {
                return Err(format!("cores {core} and {other} end differently"));
            }
        }
        Ok(())
    }
}
