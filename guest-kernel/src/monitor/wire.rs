//! What monitors say to each other, and how it becomes cache lines and back.
//!
//! Most of it fits a line. What does not goes over several, in order, each of which says how many bytes are left. A peer
//! whose lines do not add up to something that could have been said has broken the rules, and is not heard any more.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use abi::mesh::kind;
use io_rings::urpc::Message;
use serde::{Deserialize, Serialize};

use crate::agreement::{self, CoreId};
use crate::replica::{Op, State};

/// The longest that is said at once: a replica for a core that comes new is the longest there is.
pub const LONGEST: usize = 1 << 20;
/// Bytes of a line, less the word that says what it is.
const LINE_BYTES: usize = 48;

/// One life of a core: another number whenever its place is taken anew.
pub type Life = u32;

/// What one monitor says to another.
#[expect(missing_docs, reason = "each variant's line names its fields")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Say {
    /// The first words on a channel, and again when they change: which life this is, whether it wants to be a member, and
    /// if it is one, with which epoch it came in.
    Hello { life: Life, wants_in: bool, since: Option<u64> },
    /// To members: that life of that core is known here, so it may be taken in.
    Met { core: CoreId, life: Life },
    /// To members: that core broke the rules.
    Accuse { core: CoreId },
    /// What is agreed on.
    Agree(agreement::Message<Op, State>),
    /// A channel is wanted to that service; the sender calls it by this number, and is answered by it.
    Open { service: u64, number: u32 },
    /// It is open, and here it is called so.
    Opened { number: u32, theirs: u32 },
    /// So many more lines may be sent.
    Room { number: u32, lines: u32 },
    /// It is not open, or not any more.
    Close { number: u32 },
    /// This page is its reader's again.
    Returned { page: u8 },
    /// Are you there?
    Ping,
    /// Yes.
    Alive,
    /// To members of that epoch: that core does not answer, or does after all.
    Silent { core: CoreId, epoch: u64, silent: bool },
    /// That life of yours is not heard any more, or an epoch has begun without it, even. Where another epoch is given than
    /// the one you came in with, it is not you who is meant.
    LeftOut { life: Life, begun: bool, since: Option<u64> },
    /// From here on, what is said is said to that life.
    To { life: Life },
}

/// It could not have been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Appends the lines that say it; how many they are.
pub fn cut(say: &Say, lines: &mut VecDeque<Message>) -> usize {
    let mut short = [0; LINE_BYTES];
    if let Ok(bytes) = postcard::to_slice(say, &mut short) {
        lines.push_back(line(bytes, bytes.len()));
        return 1;
    }
    // Serialization into memory of what has no unknown lengths does not fail.
    let bytes = postcard::to_allocvec(say).unwrap_or_default();
    let parts = bytes.chunks(LINE_BYTES);
    let before = lines.len();
    lines.extend(parts.zip((0..).step_by(LINE_BYTES)).map(|(part, done)| line(part, bytes.len() - done)));
    lines.len() - before
}

fn line(part: &[u8], left: usize) -> Message {
    let mut line = [0; 7];
    line[0] = kind::MONITOR | (left as u64) << 32;
    for (word, bytes) in line[1..].iter_mut().zip(part.chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(whole);
    }
    line
}

/// The kind of a line whose first word has something else in its high half.
pub fn kind_of(line: &Message) -> u64 {
    line[0] & u64::from(u32::MAX)
}

/// Puts one peer's lines together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembler {
    bytes: Vec<u8>,
    /// How many are still to come, once the first line was there.
    left: usize,
}

impl Assembler {
    /// Whether this can be the beginning of something.
    pub fn is_sound(&self) -> bool {
        self.bytes.len() <= LONGEST
            && self.left <= LONGEST - self.bytes.len()
            && (self.left == 0) == self.bytes.is_empty()
    }

    /// Takes a line; what was said, with its last one.
    pub fn take(&mut self, line: &Message) -> Result<Option<Say>, Malformed> {
        let left = (line[0] >> 32) as usize;
        let expected = if self.bytes.is_empty() { 1..=LONGEST } else { self.left..=self.left };
        if !expected.contains(&left) {
            return Err(Malformed);
        }
        let mut part = [0; LINE_BYTES];
        for (bytes, word) in part.chunks_mut(8).zip(&line[1..]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let part = &part[..left.min(LINE_BYTES)];
        self.left = left - part.len();
        if self.bytes.is_empty() && self.left == 0 {
            return parse(part).map(Some);
        }
        self.bytes.extend_from_slice(part);
        if self.left > 0 {
            return Ok(None);
        }
        parse(&core::mem::take(&mut self.bytes)).map(Some)
    }
}

fn parse(bytes: &[u8]) -> Result<Say, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((say, [])) => Ok(say),
        _ => Err(Malformed),
    }
}
