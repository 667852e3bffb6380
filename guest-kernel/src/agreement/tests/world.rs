//! Cores, the channels between them, and all that may happen next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::format;
use std::hash::Hash;
use std::string::String;
use std::vec::Vec;

use crate::agreement::{
    Action, Agreement, CoreId, CoreSet, Event, Message, Refusal, Replica, Ticket, Topology,
};

/// A replica for tests: places of which each is won once, and counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slots {
    pub winners: BTreeMap<u64, Ticket>,
    pub counts: BTreeMap<Ticket, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum SlotOp {
    /// Take the place, if it is free.
    Win(u64, Ticket),
    /// Commutes.
    Count(Ticket),
}

impl Replica for Slots {
    type Op = SlotOp;
    type State = Self;

    fn resource(op: &SlotOp) -> Option<u64> {
        match op {
            SlotOp::Win(place, _) => Some(*place),
            SlotOp::Count(_) => None,
        }
    }

    fn vote(&self, op: &SlotOp) -> Result<(), Refusal> {
        match op {
            SlotOp::Win(place, _) if self.winners.contains_key(place) => Err(Refusal::State(1)),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, op: &SlotOp) {
        match *op {
            SlotOp::Win(place, ticket) => {
                self.winners.insert(place, ticket);
                *self.counts.entry(ticket).or_default() += 1;
            }
            SlotOp::Count(ticket) => *self.counts.entry(ticket).or_default() += 1,
        }
    }

    fn epoch(&mut self, _: CoreSet, _: CoreSet) {}

    fn state(&self) -> Self {
        self.clone()
    }

    fn restore(&mut self, state: &Self) {
        *self = state.clone();
    }
}

type Ev<R> = Event<<R as Replica>::Op, <R as Replica>::State>;
type Msg<R> = Message<<R as Replica>::Op, <R as Replica>::State>;

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The core's script goes on.
    Script(CoreId),
    /// The first message from one to the other arrives.
    Deliver(CoreId, CoreId),
    /// One is told of the other's death; what was on the way is lost.
    Notice(CoreId, CoreId),
    /// The core dies, and its messages may still arrive until its death is noticed.
    Crash(CoreId),
    /// One, which leads the rest then, leaves the other out as silent. That one may be awake all the time.
    LeaveOut(CoreId, CoreId),
    /// Nothing else is left to happen: a core that had been left out comes in anew.
    Rejoin(CoreId),
}

/// What goes over a channel.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Item<M> {
    Words(M),
    /// The receiver, in this life, is not heard any more; or an epoch has begun without it, even.
    LeftOut(u8, bool),
    /// The sender begins this life.
    Life(u8),
    /// From here on the sender speaks to this life.
    To(u8),
}

/// What a core knows of its own life.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Standing {
    life: u8,
    /// Who says that it does not hear it any more, and who of them that an epoch has begun without it.
    told: CoreSet,
    told_begun: CoreSet,
    /// Who does not speak to this life yet.
    deaf: CoreSet,
    /// It was left out, and is not a member again.
    anew: bool,
    /// Whom it has told so.
    tells: CoreSet,
    tells_begun: CoreSet,
    /// The lives of others that it has met; the first of each else.
    lives: BTreeMap<CoreId, u8>,
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct World<R: Replica> {
    pub nodes: Vec<Option<Agreement<R>>>,
    channels: BTreeMap<(CoreId, CoreId), VecDeque<Item<Msg<R>>>>,
    standings: Vec<Standing>,
    notices: BTreeSet<(CoreId, CoreId)>,
    scripts: Vec<VecDeque<Ev<R>>>,
    pub outcomes: BTreeMap<Ticket, Result<(), Refusal>>,
    witnesses: BTreeMap<Ticket, CoreSet>,
    pub crashes: u32,
    /// Times that a core may be left out though it lives.
    pub mistakes: u32,
    /// Who has left whom out so.
    mistaken: BTreeSet<(CoreId, CoreId)>,
    pub sent: u64,
    pub suspects: u32,
}

impl<R: Replica + Clone + core::fmt::Debug + Eq + Hash> World<R> {
    /// `founders` are in the first epoch, the rest up to `cores` are outside.
    pub fn of(founders: u8, cores: u8, topology: &Topology, replica: impl Fn(CoreId) -> R) -> Self {
        let node = |core| {
            let members = CoreSet::first(founders);
            if core < founders {
                Agreement::founder(core, members, replica(core), topology.clone())
            } else {
                Agreement::outside(core, replica(core), topology.clone())
            }
        };
        Self {
            nodes: (0..cores).map(|core| Some(node(core))).collect(),
            channels: BTreeMap::new(),
            standings: (0..cores).map(|_| Standing::default()).collect(),
            notices: BTreeSet::new(),
            scripts: (0..cores).map(|_| VecDeque::new()).collect(),
            outcomes: BTreeMap::new(),
            witnesses: BTreeMap::new(),
            crashes: 0,
            mistakes: 0,
            mistaken: BTreeSet::new(),
            sent: 0,
            suspects: 0,
        }
    }

    /// Adds to what happens on a core, in this order and at any time.
    pub fn script(mut self, core: CoreId, event: Ev<R>) -> Self {
        self.scripts[usize::from(core)].push_back(event);
        self
    }

    /// So many cores may die.
    pub fn with_crashes(mut self, crashes: u32) -> Self {
        self.crashes = crashes;
        self
    }

    /// So often a core may be left out as silent.
    pub fn with_mistakes(mut self, mistakes: u32) -> Self {
        self.mistakes = mistakes;
        self
    }

    pub fn live(&self) -> impl Iterator<Item = (CoreId, &Agreement<R>)> {
        (0..).zip(&self.nodes).filter_map(|(core, node)| Some((core, node.as_ref()?)))
    }

    pub fn each_live(&mut self, mut each: impl FnMut(&mut Agreement<R>)) {
        self.nodes.iter_mut().flatten().for_each(&mut each);
    }

    fn lives(&self, core: CoreId) -> bool {
        self.nodes[usize::from(core)].is_some()
    }

    /// All that may happen next; a crash is possible whenever anything else is.
    pub fn choices(&self) -> Vec<Choice> {
        let mut all = Vec::new();
        for (core, _) in self.live() {
            if !self.scripts[usize::from(core)].is_empty() {
                all.push(Choice::Script(core));
            }
        }
        let filled = self.channels.iter().filter(|((_, to), queue)| self.lives(*to) && !queue.is_empty());
        all.extend(filled.map(|(&(from, to), _)| Choice::Deliver(from, to)));
        all.extend(self.notices.iter().map(|&(at, dead)| Choice::Notice(at, dead)));
        if all.is_empty() {
            all.extend(
                self.live().filter(|&(core, _)| self.may_rejoin(core)).map(|(core, _)| Choice::Rejoin(core)),
            );
            return all;
        }
        if self.mistakes > 0 {
            for (at, node) in self.live() {
                let silent = node.fellows().without(node.silent()).iter().filter(|&core| self.lives(core));
                let silent = silent.filter(|&core| node.may_leave_out(CoreSet::one(core)));
                all.extend(silent.map(|core| Choice::LeaveOut(at, core)));
            }
        }
        if self.crashes > 0 && !all.is_empty() && self.live().count() > 1 {
            all.extend(self.live().map(|(core, _)| Choice::Crash(core)));
        }
        all
    }

    pub fn take(&mut self, choice: Choice) {
        match choice {
            Choice::Script(core) => {
                if let Some(event) = self.scripts[usize::from(core)].pop_front() {
                    self.step(core, event);
                }
            }
            Choice::Deliver(from, to) => {
                let queue = self.channels.entry((from, to)).or_default();
                let item = queue.pop_front().unwrap();
                if queue.is_empty() {
                    self.channels.remove(&(from, to));
                }
                self.arrive(from, to, item);
            }
            Choice::Notice(at, dead) => {
                self.standings[usize::from(at)].tells.remove(dead);
                self.standings[usize::from(at)].tells_begun.remove(dead);
                self.notices.remove(&(at, dead));
                self.channels.remove(&(dead, at));
                self.step(at, Event::Died(dead));
            }
            Choice::Crash(core) => self.crash(core),
            Choice::LeaveOut(at, core) => {
                self.mistakes -= 1;
                self.mistaken.insert((at, core));
                self.step(at, Event::Silent(core));
            }
            Choice::Rejoin(core) => {
                let members = self.newest().map_or(CoreSet::EMPTY, |(_, members)| members);
                if let Some(steward) = members.lowest() {
                    self.step(steward, Event::Join(core));
                }
            }
        }
    }

    /// What monitors do beside the agreement: they tell those who were left out, who then begin a new life.
    fn arrive(&mut self, from: CoreId, to: CoreId, item: Item<Msg<R>>) {
        let standing = &mut self.standings[usize::from(to)];
        match item {
            Item::Words(_) | Item::LeftOut(..) if standing.deaf.contains(from) => {}
            Item::Words(message) => self.step(to, Event::Message(from, message)),
            Item::LeftOut(life, begun) if life == standing.life => {
                standing.told.insert(from);
                if begun {
                    standing.told_begun.insert(from);
                }
                if !self.expel_if_told(to) {
                    // One of the two has to begin anew.
                    self.tell_left_out(to, CoreSet::one(from), false);
                }
            }
            Item::LeftOut(..) => {}
            Item::Life(life) => {
                standing.lives.insert(from, life);
                standing.tells.remove(from);
                standing.tells_begun.remove(from);
                self.put(to, from, Item::To(life));
                self.step(to, Event::Died(from));
                self.step(to, Event::Reborn(from));
            }
            Item::To(life) => {
                if life == standing.life {
                    standing.deaf.remove(from);
                }
            }
        }
    }

    /// Most of those who can tell have told it. One that is outside has nothing to lose by a wrong word.
    fn expel_if_told(&mut self, core: CoreId) -> bool {
        let Some(node) = &self.nodes[usize::from(core)] else { return false };
        let Standing { told, told_begun, .. } = self.standings[usize::from(core)];
        if told.is_empty() || (node.epoch().is_some() && !node.is_left_out_by(told, told_begun)) {
            return false;
        }
        let others: CoreSet = self.live().map(|(other, _)| other).filter(|&other| other != core).collect();
        let standing = &mut self.standings[usize::from(core)];
        let life = standing.life + 1;
        let lives = core::mem::take(&mut standing.lives);
        *standing = Standing { life, deaf: others, anew: true, lives, ..Standing::default() };
        others.iter().for_each(|other| self.put(core, other, Item::Life(life)));
        self.step(core, Event::Expelled);
        true
    }

    fn tell_left_out(&mut self, core: CoreId, others: CoreSet, begun: bool) {
        let Standing { tells, tells_begun, .. } = &mut self.standings[usize::from(core)];
        let told = if begun { tells_begun } else { tells };
        let new = others.without(*told);
        *told = told.with(new);
        for other in new.iter() {
            let life = self.standings[usize::from(core)].lives.get(&other).copied().unwrap_or_default();
            self.put(core, other, Item::LeftOut(life, begun));
        }
    }

    fn put(&mut self, from: CoreId, to: CoreId, item: Item<Msg<R>>) {
        if self.lives(to) {
            self.channels.entry((from, to)).or_default().push_back(item);
        }
    }

    /// Who claims to be a member of an epoch that is over for this core, which comes new.
    fn strays(&self, core: CoreId) -> CoreSet {
        let own = self.nodes[usize::from(core)].as_ref().and_then(Agreement::epoch);
        let is_stray = |epoch, members: CoreSet, of: &(CoreId, &Agreement<R>)| {
            !members.contains(of.0) && of.1.epoch().is_some_and(|(its, _)| its <= epoch)
        };
        let strays =
            self.live().filter(|of| own.is_some_and(|(epoch, members)| is_stray(epoch, members, of)));
        strays.map(|(core, _)| core).collect()
    }

    /// Whether somebody does not hear this core any more that lives, or it has not come in again since.
    fn is_out(&self, core: CoreId) -> bool {
        let silent = |(_, node): (CoreId, &Agreement<R>)| node.silent().contains(core);
        self.standings[usize::from(core)].anew || self.live().any(silent)
    }

    fn may_rejoin(&self, core: CoreId) -> bool {
        let in_some =
            self.newest().is_some_and(|(_, members)| members.iter().all(|member| self.lives(member)));
        self.standings[usize::from(core)].anew && in_some
    }

    pub fn crash(&mut self, core: CoreId) {
        self.crashes = self.crashes.saturating_sub(1);
        self.nodes[usize::from(core)] = None;
        self.channels.retain(|(_, to), _| *to != core);
        self.notices.retain(|(at, _)| *at != core);
        let noticed: Vec<_> = self.live().map(|(at, _)| (at, core)).collect();
        self.notices.extend(noticed);
    }

    pub fn step(&mut self, core: CoreId, event: Ev<R>) {
        let Some(node) = &mut self.nodes[usize::from(core)] else { return };
        let was_out = node.epoch().is_none();
        for action in node.step(event) {
            match action {
                Action::Send(to, message) => {
                    self.sent += 1;
                    self.put(core, to, Item::Words(message));
                }
                Action::Done(ticket) => self.answer(ticket, Ok(())),
                Action::Refused(ticket, refusal) => self.answer(ticket, Err(refusal)),
                Action::Epoch(_, members) => {
                    self.standings[usize::from(core)].anew &= !members.contains(core);
                }
                Action::Suspect(_) => self.suspects += 1,
            }
        }
        let Some(node) = &self.nodes[usize::from(core)] else { return };
        let (silent, members) = (node.silent(), node.epoch().map_or(CoreSet::EMPTY, |(_, members)| members));
        let strays = if was_out { self.strays(core) } else { CoreSet::EMPTY };
        self.tell_left_out(core, silent, false);
        if !members.is_empty() {
            self.tell_left_out(core, silent.without(members).with(strays), true);
        }
        self.expel_if_told(core);
    }

    /// The newest epoch that a living core is in which nobody has left out.
    fn newest(&self) -> Option<(u64, CoreSet)> {
        let heard = self.live().filter(|&(core, _)| !self.is_out(core));
        heard.filter_map(|(_, node)| node.epoch()).max()
    }

    fn answer(&mut self, ticket: Ticket, outcome: Result<(), Refusal>) {
        let before = self.outcomes.insert(ticket, outcome);
        assert_eq!(before, None, "ticket {ticket} is answered once");
        let members = self.newest().map_or(CoreSet::EMPTY, |(_, members)| members);
        self.witnesses.insert(ticket, members);
    }

    /// What holds in every state, whatever is replicated.
    pub fn check_epochs(&self) -> Result<(), String> {
        let heard = self.live().filter(|&(core, _)| !self.is_out(core));
        let epochs: BTreeMap<CoreId, (u64, CoreSet)> =
            heard.filter_map(|(core, node)| Some((core, node.epoch()?))).collect();
        for (a, (epoch_a, members_a)) in &epochs {
            for (b, (epoch_b, members_b)) in &epochs {
                if epoch_a == epoch_b && members_a != members_b {
                    return Err(format!(
                        "{a} and {b} are in epoch {epoch_a} with {members_a:?} and {members_b:?}"
                    ));
                }
            }
        }
        match self.suspects {
            0 => Ok(()),
            _ => Err("an honest core was suspected".into()),
        }
    }

    /// A core that waits lawfully for ever: of the epoch that began without it nobody is left. It was left out by one that has
    /// died since, and takes for its steward one that has left with that epoch, and has nothing to say to it any more.
    pub fn cut_off(&self) -> Option<CoreId> {
        let (core, node) = self.live().find(|(_, node)| !node.is_quiet())?;
        let is_left_out = self.mistaken.iter().any(|&(by, out)| out == core && !self.lives(by));
        let has_left = |other: &Agreement<R>| other.epoch().is_none() && other.is_quiet();
        let have_left = self.live().all(|(other, its)| other == core || has_left(its));
        let steward =
            node.steward().filter(|&steward| steward != core && node.awaits() == CoreSet::one(steward));
        (is_left_out && have_left && steward.is_some()).then_some(core)
    }

    /// What holds when nothing more can happen.
    pub fn check_end(&self) -> Result<(), String> {
        let mut members = self.live().filter(|(_, node)| node.epoch().is_some());
        let Some((first, one)) = members.next() else {
            let all_died = self.live().count() < self.nodes.len();
            return if all_died { Ok(()) } else { Err("nobody is in".into()) };
        };
        if self.cut_off().is_some() {
            return Ok(());
        }
        for (core, node) in self.live() {
            if !node.is_quiet() {
                return Err(format!("core {core} waits for ever: {node:?}"));
            }
        }
        for (core, node) in members {
            if node.epoch() != one.epoch() || node.replica.state() != one.replica.state() {
                return Err(format!("cores {first} and {core} end differently: {one:?}, {node:?}"));
            }
        }
        if let Some((core, _)) = self.live().find(|&(core, _)| self.is_out(core)) {
            return Err(format!("core {core} stays out"));
        }
        let dead = one.epoch().map_or(CoreSet::EMPTY, |(_, members)| members);
        match dead.iter().find(|&core| !self.lives(core)) {
            Some(core) => Err(format!("dead core {core} is a member")),
            None => Ok(()),
        }
    }
}

impl World<Slots> {
    pub fn new(founders: u8, cores: u8, topology: &Topology) -> Self {
        Self::of(founders, cores, topology, |_| Slots::default())
    }

    /// What holds in every state: one winner, nothing twice, nothing half, what was answered is true.
    pub fn check(&self) -> Result<(), String> {
        self.check_epochs()?;
        let mut winners = BTreeMap::new();
        for (core, node) in self.live().filter(|&(core, _)| !self.is_out(core)) {
            for (place, ticket) in &node.replica.winners {
                let first = *winners.entry(place).or_insert(ticket);
                if first != ticket {
                    return Err(format!("{first} and, at core {core}, {ticket} have won place {place}"));
                }
            }
            if let Some((ticket, times)) = node.replica.counts.iter().find(|(_, times)| **times != 1) {
                return Err(format!("core {core} did {ticket} {times} times"));
            }
        }
        // While somebody is in doubt, who the members are is not known here. It is at the end.
        let in_doubt = self.live().any(|(core, _)| self.is_out(core));
        for (ticket, outcome) in self.outcomes.iter().filter(|_| !in_doubt) {
            // Who is on its way out of an epoch that is over knows nothing of the next; and where all died who did a
            // deed, it is gone.
            let witnesses = self.witnesses[ticket];
            if *outcome == Err(Refusal::Unknown) {
                continue;
            }
            if !witnesses.iter().any(|core| self.lives(core)) {
                continue;
            }
            let newest = self.newest();
            let heard = self.live().filter(|&(core, _)| !self.is_out(core));
            for (core, node) in heard.filter(|(_, node)| newest.is_some() && node.epoch() == newest) {
                if node.replica.counts.contains_key(ticket) != outcome.is_ok() {
                    return Err(format!("{ticket} is answered {outcome:?}, not so on core {core}"));
                }
            }
        }
        Ok(())
    }
}
