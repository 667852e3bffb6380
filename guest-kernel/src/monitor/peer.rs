//! What one monitor keeps of another.

use alloc::collections::VecDeque;

use io_rings::urpc::Message;
use serde::{Deserialize, Serialize};

use super::patience::LOOKS;
use super::wire::{Assembler, Life, Say, cut};
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
    /// Which life it is, once it has said so.
    pub life: Option<Life>,
    /// The epoch with which it came in, if it says that it is a member.
    pub since: Option<u64>,
    /// It has been told that it is not heard any more, and that an epoch has begun without it.
    pub shunned: (bool, bool),
    /// What it says is to a former life of this core.
    deaf: bool,
    /// It said something since the last look, and how many looks ago it did while it owed an answer.
    spoke: bool,
    quiet: u8,
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
        self.waiting.len() <= 2 * QUEUE && self.heard.is_sound() && self.quiet <= LOOKS
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
        self.up && !self.silenced && !self.deaf
    }

    /// What this core has told it, another life of this core has.
    pub fn forget_words(&mut self) {
        (self.deaf, self.shunned, self.quiet) = (self.up, (false, false), 0);
    }

    /// A look: for how many it has said nothing although it owes something.
    pub fn look(&mut self, owes: bool) -> u8 {
        let spoke = core::mem::take(&mut self.spoke);
        self.quiet = if owes && !spoke { (self.quiet + 1).min(LOOKS) } else { 0 };
        self.quiet
    }

    /// Takes a line; what was said to this core's life, `own`, once it is whole. None that makes no sense. Of one that is not
    /// heard, two words count: that it has a new life, and that from now on it speaks to this core's.
    pub fn hear(&mut self, line: &Message, own: Life) -> Result<Option<Say>, super::wire::Malformed> {
        if !self.up || self.silenced {
            return Ok(None);
        }
        self.spoke = true;
        let said = self.heard.take(line);
        match &said {
            Ok(Some(Say::To { life })) => self.deaf &= *life != own,
            Ok(Some(Say::Hello { life, .. })) if self.life != Some(*life) => return said,
            _ => {}
        }
        if self.is_heard() || said.is_err() { said } else { Ok(None) }
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
