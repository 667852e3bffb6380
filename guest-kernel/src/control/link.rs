//! Domain 0's channel with one guest: the mesh's slot 0, and the way membership is told.
//!
//! Messages are taken only while answers have room, so a guest that asks and does not listen waits for itself. A
//! guest that breaks the rules of the ring loses this channel and nothing else.

use alloc::collections::VecDeque;

use abi::mesh::kind;
use abi::xen::DomId;
use abi::xen::event_channel::Port;
use io_rings::PeerBroken;
use io_rings::urpc::{Message, Receiver, SendError, Sender};

use super::hypervisor::Hypervisor;
use super::pages::Slot;
use crate::mesh::Window;

/// Answers that may wait before no more questions are taken. Notices of membership come on top: two a slot.
const MAX_ANSWERS: usize = 16;

/// A guest's own figures, as it reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Mesh messages it received.
    pub received: u64,
    /// Mesh messages it sent.
    pub sent: u64,
    /// Lost or out of order.
    pub lost: u64,
    /// Peers it dropped because they broke the rules of the ring.
    pub liars: u64,
}

impl Report {
    /// The figures in a message, if it is a report.
    pub fn read(message: &Message) -> Option<Self> {
        match *message {
            [kind::REPORT, received, sent, lost, liars, ..] => Some(Self { received, sent, lost, liars }),
            _ => None,
        }
    }
}

/// Our end of the channel with one guest.
pub struct Link {
    sender: Sender<'static>,
    receiver: Receiver<'static>,
    port: Port,
    outgoing: VecDeque<Message>,
    /// Messages taken in.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
}

impl Link {
    /// Our end of pages that were fresh when the guest started.
    pub fn new(window: &'static Window, port: Port) -> Self {
        let (sender, receiver) = (Sender::new(&window.upwards), Receiver::new(&window.downwards));
        let mut link = Self { sender, receiver, port, outgoing: VecDeque::new(), received: 0, sent: 0 };
        link.queue([kind::GREET, 0, 0, 0, 0, 0, 0]);
        link
    }

    /// Our port.
    pub fn port(&self) -> Port {
        self.port
    }

    /// Sends a message, in its turn.
    pub fn queue(&mut self, message: Message) {
        self.outgoing.push_back(message);
    }

    /// Tells of a newcomer.
    pub fn peer_up(&mut self, slot: Slot, domain: DomId, port: Port) {
        self.queue([kind::PEER_UP, slot as u64, domain.into(), port.into(), 0, 0, 0]);
    }

    /// Tells of an older peer that will bind to `port`, the guest's own, and greet.
    pub fn peer_await(&mut self, slot: Slot, domain: DomId, port: Port) {
        self.queue([kind::PEER_AWAIT, slot as u64, domain.into(), port.into(), 0, 0, 0]);
    }

    /// Tells of a peer that is gone.
    pub fn peer_down(&mut self, slot: Slot) {
        self.queue([kind::PEER_DOWN, slot as u64, 0, 0, 0, 0, 0]);
    }

    /// The next message, if there is one and an answer to it would have room.
    pub fn receive(&mut self) -> Result<Option<Message>, PeerBroken> {
        if self.congested() {
            return Ok(None);
        }
        self.receive_last()
    }

    /// The next message, if there is one; for a guest that will read no answer.
    pub fn receive_last(&mut self) -> Result<Option<Message>, PeerBroken> {
        self.receiver.awake();
        let message = self.receiver.try_receive()?;
        self.received += u64::from(message.is_some());
        Ok(message)
    }

    /// Sends what can be sent, and names each message that went out.
    pub fn flush<H: Hypervisor>(
        &mut self,
        hypervisor: &mut H,
        mut each: impl FnMut(&Message),
    ) -> Result<(), PeerBroken> {
        let before = self.sent;
        while let Some(message) = self.outgoing.front() {
            match self.sender.try_send(message) {
                Ok(()) => {
                    each(message);
                    self.outgoing.pop_front();
                    self.sent += 1;
                }
                Err(SendError::Full) => break,
                Err(SendError::PeerBroken) => return Err(PeerBroken),
            }
        }
        if self.sent != before && self.sender.peer_sleeps() {
            hypervisor.send(self.port);
        }
        Ok(())
    }

    /// How many messages came.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether messages wait that the guest has left no room for.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether so many wait that no questions are taken.
    pub fn congested(&self) -> bool {
        self.outgoing.len() >= MAX_ANSWERS
    }

    /// Asks for an event with the next message. False: there is one already.
    pub fn sleep(&mut self) -> bool {
        self.receiver.sleep()
    }
}
