//! Channels between programs on different cores, set up by their monitors.
//!
//! ```text
//! client's monitor                     server's monitor
//!   looks the name up
//!   ├──── Open: service, number 5 ─────▶ is it offered here?
//!   ◀──── Opened: 5 is called 9 here ──┤
//!   ├──── lines for 9 ─────────────────▶ at most a window of them
//!   ◀──── Room: 5 may send so many more┤ as they are read
//!   ├──── Close: 9 ────────────────────▶
//! ```
//!
//! All channels between two cores go over the one that their monitors have. So each has a window of its own: whoever does
//! not read what is sent to it stops that sender, and nobody else. A peer that sends more than it has room for, or opens
//! more channels than there may be, breaks the rules.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use abi::mesh::kind;
use io_rings::urpc::Message;
use serde::{Deserialize, Serialize};

use super::pages::{Held, Note};
use super::wire::{Say, kind_of};
use super::{Monitor, News};
use crate::agreement::{CoreId, CoreSet};

/// Lines that may be on the way, or unread, in one direction.
pub const WINDOW: u32 = 32;
/// Channels that one peer may have opened here.
const PER_PEER: usize = 64;

/// A channel, as this core calls it.
pub type ChannelId = u32;
/// What one line carries.
pub type Line = [u64; 6];

/// What has come over a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unread {
    /// A line.
    Line(Line),
    /// A page, which is in this core's hands now.
    Page(Held, Note),
}

/// Why a line was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// The other side has not read enough, or has not answered yet.
    Full,
    /// There is no such channel (any more).
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Channel {
    peer: CoreId,
    /// What the other side calls it; none before it has answered.
    theirs: Option<ChannelId>,
    unread: VecDeque<Unread>,
    /// Lines that may be sent.
    room: u32,
    /// Lines read that the other side has not been told of.
    read: u32,
    /// Something came that its program has not been told of: a line, or room.
    moved: bool,
}

impl Channel {
    fn new(peer: CoreId, theirs: Option<ChannelId>) -> Self {
        Self { peer, theirs, unread: VecDeque::new(), room: WINDOW, read: 0, moved: false }
    }

    fn pages(&self) -> impl Iterator<Item = &Held> {
        self.unread.iter().filter_map(|unread| match unread {
            Unread::Page(page, _) => Some(page),
            Unread::Line(_) => None,
        })
    }
}

/// The channels of one core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Channels {
    open: BTreeMap<ChannelId, Channel>,
    offered: BTreeSet<u64>,
    next: ChannelId,
    /// Those of which programs are to be told, each once.
    moved: VecDeque<ChannelId>,
}

impl Channels {
    fn add(&mut self, channel: Channel) -> ChannelId {
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.open.insert(number, channel);
        number
    }

    fn move_on(&mut self, number: ChannelId) {
        if let Some(channel) = self.open.get_mut(&number)
            && !core::mem::replace(&mut channel.moved, true)
        {
            self.moved.push_back(number);
        }
    }

    /// Whether these can be the channels of one of so many cores.
    pub(super) fn is_sound(&self, cores: usize) -> bool {
        let sound = |channel: &Channel| {
            usize::from(channel.peer) < cores
                && channel.pages().all(|page| page.peer == channel.peer)
                && channel.room <= WINDOW
                && channel.unread.len() as u64 + u64::from(channel.read) <= u64::from(WINDOW)
        };
        // Of each that has moved it is told once.
        let moved = |number: &ChannelId| self.open.get(number).is_none_or(|channel| channel.moved);
        self.open.values().all(sound)
            && self.moved.len() <= self.open.len() + PER_PEER
            && self.moved.iter().all(moved)
    }

    /// Pages that have come and are not read.
    pub(super) fn pages(&self) -> impl Iterator<Item = &Held> {
        self.open.values().flat_map(Channel::pages)
    }

    /// Who has not answered whether a channel is open.
    pub(super) fn unanswered(&self) -> CoreSet {
        self.open.values().filter(|channel| channel.theirs.is_none()).map(|channel| channel.peer).collect()
    }

    fn of(&mut self, peer: CoreId, number: ChannelId) -> Option<&mut Channel> {
        self.open.get_mut(&number).filter(|channel| channel.peer == peer)
    }
}

impl Monitor {
    /// From now on, or no longer, others may open channels to this service. Its name is registered like any other.
    pub fn offer(&mut self, service: u64, offered: bool) {
        if offered {
            self.channels.offered.insert(service);
        } else {
            self.channels.offered.remove(&service);
        }
    }

    /// Opens a channel to the service of this name on another core; [`News::Opened`] or [`News::Closed`] says how it went.
    /// None if nobody else has the name.
    pub fn open(&mut self, name: &str) -> Option<ChannelId> {
        let place = self.system().names.look_up(name).filter(|place| place.core != self.me)?;
        let number = self.channels.add(Channel::new(place.core, None));
        self.tell(CoreSet::one(place.core), &Say::Open { service: place.service, number });
        Some(number)
    }

    /// Sends a line.
    pub fn send(&mut self, number: ChannelId, line: &Line) -> Result<(), NotNow> {
        self.send_as(kind::CHANNEL, number, line)
    }

    pub(super) fn send_as(&mut self, kind: u64, number: ChannelId, line: &Line) -> Result<(), NotNow> {
        let channel = self.channels.open.get_mut(&number).ok_or(NotNow::Closed)?;
        let theirs = channel.theirs.filter(|_| channel.room > 0).ok_or(NotNow::Full)?;
        let peer = self.peers.get_mut(usize::from(channel.peer)).ok_or(NotNow::Closed)?;
        channel.room -= 1;
        let [a, b, c, d, e, f] = *line;
        peer.send(&[kind | u64::from(theirs) << 32, a, b, c, d, e, f]);
        self.counts.lines_out += 1;
        Ok(())
    }

    /// The next line or page, if one is there.
    pub fn receive(&mut self, number: ChannelId) -> Option<Unread> {
        let channel = self.channels.open.get_mut(&number)?;
        let unread = channel.unread.pop_front()?;
        channel.read += 1;
        if channel.read >= WINDOW / 2
            && let Some(theirs) = channel.theirs
        {
            let (peer, lines) = (channel.peer, core::mem::take(&mut channel.read));
            self.tell(CoreSet::one(peer), &Say::Room { number: theirs, lines });
        }
        Some(unread)
    }

    /// The next channel with a line to read or room for one that was not there before.
    pub fn take_moved(&mut self) -> Option<ChannelId> {
        loop {
            let number = self.channels.moved.pop_front()?;
            if let Some(channel) = self.channels.open.get_mut(&number) {
                channel.moved = false;
                return Some(number);
            }
        }
    }

    /// Where a channel leads, and whether the other side has answered that it is open.
    pub fn channel_peer(&self, number: ChannelId) -> Option<(CoreId, bool)> {
        self.channels.open.get(&number).map(|channel| (channel.peer, channel.theirs.is_some()))
    }

    /// Closes it. What was not read is gone.
    pub fn close(&mut self, number: ChannelId) {
        if let Some(Channel { peer, theirs: Some(theirs), .. }) = self.forget(number) {
            self.tell(CoreSet::one(peer), &Say::Close { number: theirs });
        }
    }

    /// Takes it off the list. The pages on it that were not read go back.
    fn forget(&mut self, number: ChannelId) -> Option<Channel> {
        let channel = self.channels.open.remove(&number)?;
        channel.pages().for_each(|page| self.give_back(*page));
        Some(channel)
    }

    /// A line for a channel came; false if it breaks the rules.
    pub(super) fn channel_line(&mut self, from: CoreId, line: &Message) -> bool {
        let [head, words @ ..] = *line;
        let number = (head >> 32) as ChannelId;
        let unread = match kind_of(line) {
            kind::PAGE => self.page_came(from, words),
            _ => Some(Unread::Line(words)),
        };
        let Some(unread) = unread else { return false };
        let Some(channel) = self.channels.of(from, number) else {
            // It was closed meanwhile.
            if let Unread::Page(page, _) = unread {
                self.give_back(page);
            }
            return true;
        };
        channel.unread.push_back(unread);
        let within = channel.unread.len() as u64 + u64::from(channel.read) <= u64::from(WINDOW);
        self.channels.move_on(number);
        within
    }

    /// The other side has a word about channels; false if it breaks the rules.
    pub(super) fn channel_word(&mut self, from: CoreId, say: Say) -> bool {
        match say {
            Say::Open { service, number } => {
                if self.channels.open.values().filter(|channel| channel.peer == from).count() >= PER_PEER {
                    return false;
                }
                if !self.channels.offered.contains(&service) {
                    self.tell(CoreSet::one(from), &Say::Close { number });
                    return true;
                }
                let own = self.channels.add(Channel::new(from, Some(number)));
                self.tell(CoreSet::one(from), &Say::Opened { number, theirs: own });
                self.news.push_back(News::Accepted(service, own, from));
            }
            Say::Opened { number, theirs } => match self.channels.of(from, number) {
                Some(channel) if channel.theirs.is_none() => {
                    channel.theirs = Some(theirs);
                    self.news.push_back(News::Opened(number));
                }
                Some(_) => return false,
                // It was closed before it was open.
                None => self.tell(CoreSet::one(from), &Say::Close { number: theirs }),
            },
            Say::Room { number, lines } => {
                let Some(channel) = self.channels.of(from, number) else { return true };
                let room = channel.room.checked_add(lines).filter(|&room| room <= WINDOW);
                let Some(room) = room else { return false };
                channel.room = room;
                self.channels.move_on(number);
            }
            Say::Close { number } if self.channels.of(from, number).is_some() => {
                self.forget(number);
                self.news.push_back(News::Closed(number));
            }
            _ => {}
        }
        true
    }

    /// A core is gone, or not heard any more, and its channels with it.
    pub(super) fn close_channels_of(&mut self, core: CoreId) {
        let gone: Vec<ChannelId> = self
            .channels
            .open
            .iter()
            .filter(|(_, channel)| channel.peer == core)
            .map(|(&number, _)| number)
            .collect();
        for number in gone {
            self.forget(number);
            self.news.push_back(News::Closed(number));
        }
    }
}
