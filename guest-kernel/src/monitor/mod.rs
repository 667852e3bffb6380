//! The monitor: one a core, which keeps this core's replica and speaks for it.
//!
//! It drives the state machines of [`crate::agreement`] over the channels of the mesh. Programs on its core ask it for
//! operations and hear the outcome later ([`News`]); what they look up they find here, without a message.
//!
//! How a core comes in is told in [`meeting`], what becomes of one that breaks the rules in [`accusation`], and of one that
//! does not answer in [`patience`].
//!
//! The monitor has no input or output of its own. A program hands it what comes over the mesh ([`Monitor::line`],
//! [`Monitor::peer`]) and lets it send at the end of each of its steps ([`Monitor::round`]).

mod accusation;
mod carry;
pub mod channels;
mod meeting;
pub mod pages;
mod patience;
mod peer;
pub mod wire;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use abi::mesh::kind;
use io_rings::urpc::Message;
use serde::{Deserialize, Serialize};

use crate::agreement::{Action, Agreement, Body, CoreId, CoreSet, Event, Refusal, Ticket, Topology};
use crate::kernel::{Kernel, Step};
use crate::mesh::{Mesh, NotSent};
use crate::platform::Platform;
use crate::replica::{Op, State, System};
use channels::{ChannelId, Channels};
use meeting::Stranger;
use pages::Shelves;
use patience::Patience;
use peer::Peer;
use wire::{Life, Say};

/// No epoch is as late as this; one that is told of has been made up.
const NO_EPOCH: u64 = 1 << 40;

/// What a monitor has to tell its core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum News {
    /// An operation was carried out on every member.
    Done(Ticket),
    /// It was not, on any.
    Refused(Ticket, Refusal),
    /// An epoch began with these members.
    Epoch(u64, CoreSet),
    /// This core broke the rules.
    Silenced(CoreId),
    /// This core does not answer, and is left out.
    LeftOut(CoreId),
    /// This core itself was left out, and comes in anew.
    Expelled,
    /// A channel that was asked for is open.
    Opened(ChannelId),
    /// A core has opened a channel to this service.
    Accepted(u64, ChannelId, CoreId),
    /// A channel was refused, or is closed by the other side.
    Closed(ChannelId),
}

/// What a monitor has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Things said to other monitors, each once per monitor.
    pub said: u64,
    /// The cache lines that took.
    pub lines_out: u64,
    /// Things heard.
    pub heard: u64,
    /// The cache lines that took.
    pub lines_in: u64,
}

/// One core's monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    me: CoreId,
    life: Life,
    wants_in: bool,
    /// Is a member.
    inside: bool,
    agreement: Agreement<System>,
    peers: Vec<Peer>,
    strangers: BTreeMap<CoreId, Stranger>,
    /// What others said of lives that have not come here yet.
    ahead: BTreeMap<(CoreId, Life), CoreSet>,
    /// For each accused, who accuses it.
    accused: BTreeMap<CoreId, CoreSet>,
    news: VecDeque<News>,
    next_ticket: Ticket,
    counts: Counts,
    channels: Channels,
    shelves: Shelves,
    patience: Patience,
    /// What is to be told to the state machine, one after the other.
    events: VecDeque<Event<Op, State>>,
    stepping: bool,
}

impl Monitor {
    /// The monitor of a guest in this mesh. Who comes first founds the first epoch.
    pub fn in_mesh(mesh: &Mesh, replica: impl FnOnce(CoreId) -> System, topology: Topology) -> Self {
        // There are fewer slots than that.
        let me = CoreId::try_from(mesh.own_slot()).unwrap_or(CoreId::MAX);
        let (life, cores) = (Life::from(mesh.own_domain()), mesh.slots());
        if mesh.is_lonely() {
            Self::founder(me, life, cores, replica(me), topology)
        } else {
            Self::outside(me, life, cores, replica(me), topology)
        }
    }

    /// The monitor of core `me` among `cores`, which waits outside to be taken in.
    pub fn outside(me: CoreId, life: Life, cores: usize, replica: System, topology: Topology) -> Self {
        Self::new(me, life, cores, Agreement::outside(me, replica, topology))
    }

    /// The monitor of the first member, which begins alone.
    pub fn founder(me: CoreId, life: Life, cores: usize, replica: System, topology: Topology) -> Self {
        let agreement = Agreement::founder(me, CoreSet::one(me), replica, topology);
        Self::new(me, life, cores, agreement)
    }

    fn new(me: CoreId, life: Life, cores: usize, agreement: Agreement<System>) -> Self {
        Self {
            me,
            life,
            wants_in: true,
            inside: agreement.epoch().is_some(),
            patience: Patience::since(agreement.epoch().map_or(0, |(epoch, _)| epoch)),
            agreement,
            peers: (0..cores.min(64)).map(|_| Peer::default()).collect(),
            strangers: BTreeMap::new(),
            ahead: BTreeMap::new(),
            accused: BTreeMap::new(),
            news: VecDeque::new(),
            next_ticket: 0,
            counts: Counts::default(),
            channels: Channels::default(),
            shelves: Shelves::new(me, cores.min(64)),
            events: VecDeque::new(),
            stepping: false,
        }
    }

    /// The core's number.
    pub fn core(&self) -> CoreId {
        self.me
    }

    /// The epoch and its members; none while this core is not one of them.
    pub fn epoch(&self) -> Option<(u64, CoreSet)> {
        self.agreement.epoch()
    }

    /// This core's replica.
    pub fn system(&self) -> &System {
        &self.agreement.replica
    }

    /// The part of it that is this core's own: mappings, watches.
    pub fn system_mut(&mut self) -> &mut System {
        &mut self.agreement.replica
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Nothing is under way here.
    pub fn is_quiet(&self) -> bool {
        self.agreement.is_quiet()
    }

    /// Asks for an operation; the ticket comes back with its outcome.
    pub fn request(&mut self, op: Op) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.step(Event::Request(ticket, op));
        ticket
    }

    /// Leaves the members, or comes back among them.
    pub fn want_in(&mut self, wants_in: bool) {
        self.wants_in = wants_in;
        match self.epoch() {
            Some(_) if !wants_in => self.step(Event::Leave(self.me)),
            Some(_) => {}
            None => self.greet(self.up()),
        }
    }

    /// The next news.
    pub fn take_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// A core's place in the mesh was taken, or is empty.
    pub fn peer(&mut self, core: usize, up: bool) {
        let Some(peer) = self.peers.get_mut(core) else { return };
        peer.reborn(up);
        let core = core as CoreId;
        self.part_with(core);
        if up {
            self.step(Event::Reborn(core));
            self.greet(CoreSet::one(core));
        } else {
            self.forget_words_of(core);
            self.step(Event::Died(core));
            self.judge();
        }
    }

    /// A core's life is over, or another begins: what was known of it.
    fn part_with(&mut self, core: CoreId) {
        self.shelves.reborn(core);
        self.close_channels_of(core);
        self.accused.remove(&core);
        self.strangers.remove(&core);
        self.patience.denounced.remove(&core);
    }

    /// What a core said of others does not count any more.
    fn forget_words_of(&mut self, core: CoreId) {
        self.strangers.values_mut().for_each(|stranger| _ = stranger.met.remove(core));
        self.ahead.values_mut().for_each(|by| _ = by.remove(core));
        self.accused.values_mut().for_each(|by| _ = by.remove(core));
        self.patience.denounced.values_mut().for_each(|by| _ = by.remove(core));
    }

    /// A line came; false if it is not a monitor's, nor a channel's.
    pub fn line(&mut self, from: usize, line: &Message) -> bool {
        let kind = wire::kind_of(line);
        if !matches!(kind, kind::MONITOR | kind::CHANNEL | kind::PAGE) {
            return false;
        }
        let Some(peer) = self.peers.get_mut(from) else { return true };
        self.counts.lines_in += 1;
        if kind != kind::MONITOR {
            if peer.is_heard() && !self.channel_line(from as CoreId, line) {
                self.accuse(from as CoreId);
            }
            return true;
        }
        match peer.hear(line, self.life) {
            Ok(None) => {}
            Ok(Some(say)) => self.hear(from as CoreId, say),
            Err(wire::Malformed) => self.accuse(from as CoreId),
        }
        true
    }

    /// Sends what waits; whether something waits still.
    pub fn flush(&mut self, mut send: impl FnMut(usize, &Message) -> Result<(), NotSent>) -> bool {
        let mut waits = false;
        for (slot, peer) in self.peers.iter_mut().enumerate() {
            waits |= peer.flush(|line| send(slot, line));
        }
        waits
    }

    /// Whether there is something to send.
    pub fn has_words(&self) -> bool {
        self.peers.iter().any(Peer::has_words)
    }

    /// Ends a program's step: sends what waits, and says when to come back if not all found room.
    pub fn round<P: Platform>(&mut self, kernel: &mut Kernel<P>) -> Step {
        match self.flush(|slot, line| kernel.send(slot, line)) {
            true => Step::IdleUntil(kernel.after(1)),
            false => Step::Idle,
        }
    }

    fn up(&self) -> CoreSet {
        (0..).zip(&self.peers).filter(|(_, peer)| peer.up).map(|(core, _)| core).collect()
    }

    fn tell(&mut self, to: CoreSet, say: &Say) {
        for core in to.without(CoreSet::one(self.me)).iter() {
            let Some(peer) = self.peers.get_mut(usize::from(core)) else { continue };
            match peer.say(say) {
                Some(lines) => {
                    self.counts.said += 1;
                    self.counts.lines_out += lines as u64;
                }
                None => self.accuse(core),
            }
        }
    }

    fn tell_members(&mut self, say: &Say) {
        if let Some((_, members)) = self.epoch() {
            self.tell(members, say);
        }
    }

    fn hear(&mut self, from: CoreId, say: Say) {
        self.counts.heard += 1;
        match say {
            Say::Hello { life, wants_in, since } => self.hello(from, life, wants_in, since),
            Say::Met { core, life } => self.met(from, core, life),
            Say::Accuse { core } => self.told_accused(from, core),
            Say::Agree(mut message) => {
                let in_own_name = match &mut message.body {
                    Body::Apply { txn, op, .. } | Body::Prepare { txn, op, .. } => {
                        op.actor().is_none_or(|actor| actor == txn.initiator)
                    }
                    // Who comes in is told by `Met`, and who goes out says so itself, and again if its steward changes.
                    Body::Wish { joins, leaves, .. } => {
                        *joins = CoreSet::EMPTY;
                        *leaves = leaves.and(CoreSet::one(from));
                        true
                    }
                    _ => true,
                };
                if in_own_name && message.epoch < NO_EPOCH {
                    self.step(Event::Message(from, message));
                } else {
                    self.accuse(from);
                }
            }
            Say::Ping => self.tell(CoreSet::one(from), &Say::Alive),
            Say::Silent { core, epoch, silent } => self.silent(from, core, epoch, silent),
            Say::LeftOut { life, begun, since } => self.told_left_out(from, life, begun, since),
            // It lives, and has been heard to.
            Say::Alive | Say::To { .. } => {}
            Say::Open { .. } | Say::Opened { .. } | Say::Room { .. } | Say::Close { .. } => {
                if !self.channel_word(from, say) {
                    self.accuse(from);
                }
            }
            Say::Returned { page } => {
                if !self.page_returned(from, page) {
                    self.accuse(from);
                }
            }
        }
    }

    /// Tells the state machine, and does what it says; what follows from that is told it after.
    fn step(&mut self, event: Event<Op, State>) {
        self.events.push_back(event);
        if core::mem::replace(&mut self.stepping, true) {
            return;
        }
        while let Some(event) = self.events.pop_front() {
            for action in self.agreement.step(event) {
                match action {
                    Action::Send(to, message) => self.tell(CoreSet::one(to), &Say::Agree(message)),
                    Action::Done(ticket) => self.news.push_back(News::Done(ticket)),
                    Action::Refused(ticket, refusal) => self.news.push_back(News::Refused(ticket, refusal)),
                    Action::Epoch(epoch, members) => self.epoch_began(epoch, members),
                    Action::Suspect(core) => self.accuse(core),
                }
            }
        }
        self.stepping = false;
        self.shun_silent();
        self.end_if_left_out();
    }

    fn epoch_began(&mut self, epoch: u64, members: CoreSet) {
        self.news.push_back(News::Epoch(epoch, members));
        let inside = members.contains(self.me);
        if core::mem::replace(&mut self.inside, inside) != inside {
            if inside {
                self.came_in(epoch);
            }
            // It may have changed its mind meanwhile.
            self.greet(self.up());
            if inside && !self.wants_in {
                self.step(Event::Leave(self.me));
            }
        }
        self.accused.retain(|core, _| members.contains(*core));
        self.patience.denounced.clear();
        let silent = self.agreement.silent();
        (0..).zip(&mut self.peers).for_each(|(core, peer)| {
            if !silent.contains(core) {
                peer.shunned = (false, false);
            }
        });
        self.tell_of_strangers();
        self.tell_of_accused();
        self.take_in_ripe();
        self.judge();
    }
}

#[cfg(test)]
mod tests;
