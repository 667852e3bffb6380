//! The mesh's own workload: everybody asks everybody, all the time, and counts what does not come back in order.

use alloc::vec;
use alloc::vec::Vec;

use abi::mesh::{MAX_SLOTS, kind};
use io_rings::urpc::Message;

use super::latency::Latency;
use super::token::Token;
use crate::kernel::{Kernel, Step};
use crate::platform::Platform;

/// Questions to one peer that may be without answer at a time: well below a channel's lines, so that two honest peers
/// never wait for room.
pub const WINDOW: u64 = 8;

/// How far the conversation with one peer is. A channel keeps order, so numbers come one by one.
#[derive(Clone, Copy, Default)]
struct Conversation {
    asked: u64,
    answered: u64,
    /// The number of the peer's next question.
    expected: u64,
    /// It asks questions of its own, and so takes part in the token's ring.
    talks: bool,
}

/// Answers of one peer whose time is taken.
struct Watched {
    slot: usize,
    /// When the questions without answer were asked; 0: before this began.
    asked_at: [u64; WINDOW as usize],
    latency: Latency,
}

/// The workload's state.
pub struct Exchange {
    conversations: Vec<Conversation>,
    token: Token,
    watched: Option<Watched>,
    /// The slot to begin with next, so that all get their turn.
    first: usize,
}

impl Exchange {
    /// Nobody has been asked anything.
    pub fn new() -> Self {
        Self {
            conversations: vec![Conversation::default(); MAX_SLOTS],
            token: Token::new(),
            watched: None,
            first: 0,
        }
    }

    /// Asks each peer that has room for a question.
    pub fn step<P: Platform>(&mut self, kernel: &mut Kernel<P>) -> Step {
        let Some(mesh) = &mut kernel.mesh else { return Step::Idle };
        let slots = mesh.slots();
        let mut asked = false;
        for offset in 0..slots {
            let slot = (self.first + offset) % slots;
            let Some(conversation) = self.conversations.get_mut(slot) else { continue };
            let waiting = conversation.asked - conversation.answered;
            if waiting >= WINDOW || slot == crate::mesh::CONTROL_SLOT || !mesh.is_live(slot) {
                continue;
            }
            if mesh.send(slot, &[kind::PING, conversation.asked, 0, 0, 0, 0, 0]).is_ok() {
                if let Some(watched) = self.watched.as_mut().filter(|watched| watched.slot == slot) {
                    watched.asked_at[(conversation.asked % WINDOW) as usize] = kernel.platform.now();
                }
                conversation.asked += 1;
                asked = true;
            }
        }
        self.first = (self.first + 1) % slots.max(1);
        let next_look = self.token.step(kernel, self.talkers());
        match (asked, next_look) {
            (true, _) => Step::Busy,
            (false, Some(tick)) => Step::IdleUntil(tick),
            (false, None) => Step::Idle,
        }
    }

    /// The slots of those who take part, a bit each.
    fn talkers(&self) -> u32 {
        let talking = self.conversations.iter().enumerate().filter(|(_, conversation)| conversation.talks);
        talking.fold(0, |set, (slot, _)| set | 1 << slot)
    }

    /// Answers a question, checks an answer's number, passes the token on.
    pub fn message<P: Platform>(&mut self, kernel: &mut Kernel<P>, slot: usize, message: &Message) {
        let talkers = self.talkers();
        let Some(conversation) = self.conversations.get_mut(slot) else { return };
        let in_order = match message[0] {
            kind::PING => {
                let in_order = message[1] == conversation.expected;
                conversation.expected = message[1].wrapping_add(1);
                if !core::mem::replace(&mut conversation.talks, true) {
                    self.token.membership_changed();
                }
                super::answer::pong(kernel, slot, message);
                in_order
            }
            kind::PONG => {
                let in_order =
                    message[1] == conversation.answered && conversation.answered < conversation.asked;
                if let Some(watched) =
                    self.watched.as_mut().filter(|watched| in_order && watched.slot == slot)
                {
                    let asked_at = watched.asked_at[(message[1] % WINDOW) as usize];
                    if asked_at != 0 {
                        watched.latency.add(kernel.platform.now().saturating_sub(asked_at));
                    }
                }
                // What came out of order opens no room for more: a peer that lies is asked no further.
                conversation.answered += u64::from(in_order);
                in_order
            }
            kind::TOKEN => {
                self.token.message(kernel, talkers, message);
                true
            }
            _ => {
                kernel.probed(slot, message);
                true
            }
        };
        if !in_order && let Some(mesh) = &mut kernel.mesh {
            mesh.note_lost(slot);
        }
    }

    /// A slot has a new life, or none.
    pub fn peer(&mut self, slot: usize) {
        if let Some(conversation) = self.conversations.get_mut(slot) {
            *conversation = Conversation::default();
        }
        self.token.membership_changed();
    }

    /// Takes the time of this slot's answers from now on. Those taken so far, if it was the same slot.
    pub fn watch(&mut self, slot: usize) -> Option<Latency> {
        let begun = Watched { slot, asked_at: [0; WINDOW as usize], latency: Latency::new() };
        let before = self.watched.replace(begun).filter(|watched| watched.slot == slot);
        before.map(|watched| watched.latency)
    }

    /// Each peer that takes part, and how many of its answers have come, since its life began.
    pub fn answered(&self) -> impl Iterator<Item = (usize, u64)> {
        let talking = self.conversations.iter().enumerate().filter(|(_, conversation)| conversation.talks);
        talking.map(|(slot, conversation)| (slot, conversation.answered))
    }

    /// Hops of the first lap since membership changed, once per change, when it is complete.
    pub fn take_lap(&mut self) -> Option<u64> {
        self.token.take_lap()
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
