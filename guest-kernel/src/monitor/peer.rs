//! What one monitor keeps of another.

use alloc::collections::VecDeque;

use io_rings::urpc::Message;
use serde::{Deserialize, Serialize};

use super::wire::{Assembler, Say, cut};
use crate::mesh::NotSent;

/// Lines that may wait for one peer. Whoever reads so little that more would wait breaks the rules.
const QUEUE: usize = 4 * super::wire::LONGEST / 48;

/// A peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// It can be talked to.
    pub up: bool,
    /// It broke the rules, and neither hears nor is heard any more in this life.
    pub silenced: bool,
    heard: Assembler,
    waiting: VecDeque<Message>,
}

impl Peer {
    /// A new life, or the end of one.
    pub fn reborn(&mut self, up: bool) {
        *self = Self { up, ..Self::default() };
    }

    /// Not another word, from this side or from that.
    pub fn silence(&mut self) {
        *self = Self { up: self.up, silenced: true, ..Self::default() };
    }

    /// Queues what is to be said; how many lines it takes, or none if too much waits already.
    pub fn say(&mut self, say: &Say) -> Option<usize> {
        if self.silenced || !self.up {
            return Some(0);
        }
        let lines = cut(say, &mut self.waiting);
        (self.waiting.len() <= QUEUE).then_some(lines)
    }

    /// Whether a peer can be so.
    pub fn is_sound(&self) -> bool {
        self.waiting.len() <= 2 * QUEUE && self.heard.is_sound()
    }

    /// Whether something waits to be sent.
    pub fn has_words(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Queues a line that is no monitor's. Its channel's window bounds how many there are.
    pub fn send(&mut self, line: &Message) {
        if !self.silenced && self.up {
            self.waiting.push_back(*line);
        }
    }

    /// Whether its lines count.
    pub fn is_heard(&self) -> bool {
        self.up && !self.silenced
    }

    /// Takes a line; what was said, once it is whole. None that makes no sense.
    pub fn hear(&mut self, line: &Message) -> Result<Option<Say>, super::wire::Malformed> {
        if !self.is_heard() { Ok(None) } else { self.heard.take(line) }
    }

    /// Sends what waits, as far as there is room; whether something waits still.
    pub fn flush(&mut self, mut send: impl FnMut(&Message) -> Result<(), NotSent>) -> bool {
        while let Some(line) = self.waiting.front() {
            match send(line) {
                Ok(()) => self.waiting.pop_front(),
                Err(NotSent::Full) => return true,
                // The mesh says soon that it is gone.
                Err(NotSent::NoPeer | NotSent::Liar) => {
                    self.waiting.clear();
                    return false;
                }
            };
        }
        false
    }
}
