//! The sending end.

use core::fmt;

use super::{Channel, Cursor, Message, ReceiverLine, SLOTS};
use crate::PeerBroken;
use crate::sync::{Ordering, fence};

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Every line holds a message that the receiver has not acknowledged; try again later.
    Full,
    /// The receiver acknowledged what was never sent, or took an acknowledgement back. This lasts.
    PeerBroken,
}

impl fmt::Display for SendError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => out.write_str("the channel is full"),
            Self::PeerBroken => PeerBroken.fmt(out),
        }
    }
}

impl core::error::Error for SendError {}

impl From<PeerBroken> for SendError {
    fn from(_: PeerBroken) -> Self {
        Self::PeerBroken
    }
}

/// The end that writes messages. There must be one per channel, and it starts with a fresh page.
#[derive(Debug)]
pub struct Sender<'a, const LINES: usize = SLOTS> {
    cursor: Cursor<'a>,
    receiver: &'a ReceiverLine,
    /// The number of the next message.
    next: u64,
    /// The last number that may be sent without another look at the acknowledgement.
    limit: u64,
    broken: bool,
}

impl<'a, const LINES: usize> Sender<'a, LINES> {
    /// How often a sender looks for an acknowledgement that it does not need yet. It is on its way while the next
    /// messages are written, where a sender that waits until the channel is full waits for it idle.
    const LOOK: u64 = (LINES as u64 / 4).next_power_of_two();

    /// The sending end of a fresh channel.
    pub fn new(channel: &'a Channel<LINES>) -> Self {
        Self {
            cursor: Cursor::new(&channel.lines),
            receiver: &channel.receiver,
            next: 1,
            limit: LINES as u64,
            broken: false,
        }
    }

    /// The sending end of a channel over which so many messages were sent already, by whoever had this end before. Writes
    /// nothing. An acknowledgement that does not go with it breaks the peer.
    pub fn resume(channel: &'a Channel<LINES>, sent: u64) -> Self {
        let mut end = Self::new(channel);
        for _ in 0..sent % LINES as u64 {
            end.cursor.advance();
        }
        end.next = sent.wrapping_add(1);
        // Of the messages sent the last lap at the most is not acknowledged.
        end.limit = sent.max(LINES as u64);
        end.broken = end.look().is_err();
        end
    }

    /// How many messages were sent.
    pub fn sent(&self) -> u64 {
        self.next.wrapping_sub(1)
    }

    /// Whether the peer has broken the rules.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes one message, and the receiver may see it at once. Notifies nobody: see [`Sender::peer_sleeps`].
    #[inline]
    pub fn try_send(&mut self, message: &Message) -> Result<(), SendError> {
        if self.next > self.limit {
            self.look()?;
            if self.next > self.limit {
                return Err(SendError::Full);
            }
        }
        let line = self.cursor.line;
        for (word, value) in line.payload.iter().zip(message) {
            word.store(*value, Ordering::Relaxed);
        }
        // Release: whoever sees the number sees the words it stands for.
        line.sequence.store(self.next, Ordering::Release);
        self.cursor.advance();
        self.next = self.next.wrapping_add(1);
        if self.next.is_multiple_of(Self::LOOK) {
            // This message is out; a lie seen here is for the next call to answer.
            _ = self.look();
        }
        Ok(())
    }

    /// How many messages can be sent now. Looks at the receiver's line; a broken peer leaves none.
    pub fn free(&mut self) -> usize {
        match self.look() {
            // At most LINES, as `look` has checked.
            Ok(()) => self.limit.wrapping_add(1).wrapping_sub(self.next) as usize,
            Err(PeerBroken) => 0,
        }
    }

    /// The notify rule, to be called once after a batch: true means that the receiver needs an event to see it.
    #[inline]
    pub fn peer_sleeps(&mut self) -> bool {
        // The messages go out before the look at the word; the receiver raises the word before it looks for
        // messages. Whoever comes second sees the first.
        fence(Ordering::SeqCst);
        self.receiver.sleeping.load(Ordering::Relaxed) != 0
    }

    /// Takes over the receiver's acknowledgement, if it can be true: not before the last one, not ahead of what
    /// was sent.
    fn look(&mut self) -> Result<(), PeerBroken> {
        if self.broken {
            return Err(PeerBroken);
        }
        // Acquire: the receiver has read a line before we write it again.
        let acknowledged = self.receiver.acknowledged.load(Ordering::Acquire);
        let before = self.limit.wrapping_sub(LINES as u64);
        if acknowledged < before || acknowledged >= self.next {
            self.broken = true;
            self.limit = 0;
            return Err(PeerBroken);
        }
        self.limit = acknowledged.wrapping_add(LINES as u64);
        Ok(())
    }
}
