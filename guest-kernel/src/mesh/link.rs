//! The two ends this guest holds of one pair's channels.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use abi::mesh::PAGES;
use io_rings::PeerBroken;
use io_rings::urpc::{ChannelPage, Message, Receiver, SendError, Sender};
use serde::{Deserialize, Serialize};

use super::page::SharedPage;

/// The most messages that wait for room in the channel. An honest peer's answers never need as many.
const BACKLOG: usize = 256;

/// The pages a pair of slots shares, as [`abi::mesh::window`] lays them out.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Window {
    /// From the lower slot to the higher.
    pub upwards: ChannelPage,
    /// From the higher slot to the lower.
    pub downwards: ChannelPage,
    /// Those that change hands.
    pub pages: [SharedPage; PAGES],
}

impl Window {
    /// Makes all of it fresh, when nobody has an end of the channels any more. What one life wrote is not for the next.
    pub fn reset(&self) {
        self.upwards.reset();
        self.downwards.reset();
        for page in &self.pages {
            page.fill(&[]);
        }
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// No live peer in that slot.
    NoPeer,
    /// Too many messages wait already.
    Full,
    /// The peer lied; poll the mesh to learn of it.
    Liar,
}

/// More messages than any link ever carries.
const MOST: u64 = 1 << 60;

/// How far a link is, as it goes over to another kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CarriedLink {
    sent: u64,
    received: u64,
    backlog: Vec<Message>,
}

/// Both directions of a pair's conversation, seen from one side.
pub(super) struct Link<'a> {
    sender: Sender<'a>,
    receiver: Receiver<'a>,
    backlog: VecDeque<Message>,
    /// Something was pushed since the peer was last looked at.
    unannounced: bool,
    /// The peer broke the rules of the ring.
    broken: bool,
}

impl<'a> Link<'a> {
    /// Fresh ends on fresh pages.
    pub(super) fn new(window: &'a Window, own_slot: usize, peer_slot: usize) -> Self {
        let (out, back) = if own_slot < peer_slot {
            (&window.upwards, &window.downwards)
        } else {
            (&window.downwards, &window.upwards)
        };
        Self {
            sender: Sender::new(out),
            receiver: Receiver::new(back),
            backlog: VecDeque::new(),
            unannounced: false,
            broken: false,
        }
    }

    /// How far it is; none where the peer broke the rules, for such a link ends with the kernel that knew it.
    pub(super) fn carry(&self) -> Option<CarriedLink> {
        let whole = !(self.broken || self.sender.is_broken() || self.receiver.is_broken());
        let backlog = self.backlog.iter().copied().collect();
        whole.then(|| CarriedLink { sent: self.sender.sent(), received: self.receiver.received(), backlog })
    }

    /// Ends that go on where others stood. Nothing is written before something is sent or received.
    pub(super) fn resume(
        window: &'a Window,
        own_slot: usize,
        peer_slot: usize,
        carried: &CarriedLink,
    ) -> Option<Self> {
        let (out, back) = if own_slot < peer_slot {
            (&window.upwards, &window.downwards)
        } else {
            (&window.downwards, &window.upwards)
        };
        let CarriedLink { sent, received, backlog } = carried;
        if *sent > MOST || *received > MOST || backlog.len() > BACKLOG {
            return None;
        }
        Some(Self {
            sender: Sender::resume(out, *sent),
            receiver: Receiver::resume(back, *received),
            backlog: backlog.iter().copied().collect(),
            // The one before may have been about to tell.
            unannounced: true,
            broken: false,
        })
    }

    /// Pushes a message, or keeps it for later where the channel is full.
    #[inline]
    pub(super) fn send(&mut self, message: &Message) -> Result<(), NotSent> {
        if self.backlog.is_empty() {
            match self.sender.try_send(message) {
                Ok(()) => {
                    self.unannounced = true;
                    return Ok(());
                }
                Err(SendError::Full) => {}
                Err(SendError::PeerBroken) => return self.broke(),
            }
        }
        if self.backlog.len() >= BACKLOG {
            return Err(NotSent::Full);
        }
        self.backlog.push_back(*message);
        Ok(())
    }

    fn broke(&mut self) -> Result<(), NotSent> {
        self.broken = true;
        Err(NotSent::Liar)
    }

    /// Pushes what waited; true if the peer sleeps and has something to read, so an event is due.
    #[inline]
    pub(super) fn flush(&mut self) -> bool {
        while let Some(message) = self.backlog.front() {
            match self.sender.try_send(message) {
                Ok(()) => self.unannounced = true,
                Err(SendError::Full) => break,
                Err(SendError::PeerBroken) => {
                    self.broken = true;
                    return false;
                }
            }
            self.backlog.pop_front();
        }
        core::mem::take(&mut self.unannounced) && self.sender.peer_sleeps()
    }

    pub(super) fn peer_sleeps(&mut self) -> bool {
        self.sender.peer_sleeps()
    }

    /// Whether messages wait for room, of which no event will tell.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    #[inline]
    pub(super) fn receive(&mut self) -> Result<Option<Message>, PeerBroken> {
        if self.broken {
            return Err(PeerBroken);
        }
        self.receiver.try_receive()
    }

    pub(super) fn sleep(&mut self) -> bool {
        self.receiver.sleep()
    }

    pub(super) fn awake(&mut self) {
        self.receiver.awake();
    }
}
