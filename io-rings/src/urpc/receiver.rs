//! The receiving end.

use super::{Channel, Cursor, Message, ReceiverLine, SLOTS};
use crate::PeerBroken;
use crate::prefetch::prefetch;
use crate::sync::{Ordering, fence};

/// The end that reads messages. There must be one per channel, and it starts with a fresh page.
#[derive(Debug)]
pub struct Receiver<'a, const LINES: usize = SLOTS> {
    cursor: Cursor<'a>,
    own: &'a ReceiverLine,
    /// The number of the message awaited.
    next: u64,
    /// The last number acknowledged.
    acknowledged: u64,
    asleep: bool,
    broken: bool,
}

impl<'a, const LINES: usize> Receiver<'a, LINES> {
    /// Acknowledging more often moves the line to and fro for little; less often lets the sender run dry.
    const QUARTER: u64 = (LINES as u64).div_ceil(4);

    /// How many lines ahead to prefetch. One by one they come in no faster than the processor's window reaches, which is a
    /// few messages; measured, with so many on their way at once twice as many messages a second arrive. More are more than
    /// a core has buffers for.
    const AHEAD: usize = 8;

    /// The receiving end of a fresh channel.
    pub fn new(channel: &'a Channel<LINES>) -> Self {
        Self {
            cursor: Cursor::new(&channel.lines),
            own: &channel.receiver,
            next: 1,
            acknowledged: 0,
            asleep: false,
            broken: false,
        }
    }

    /// The receiving end of a channel from which so many messages were received already, by whoever had this end before,
    /// who may have been asleep. Writes nothing before it has something to say.
    pub fn resume(channel: &'a Channel<LINES>, received: u64) -> Self {
        let mut end = Self::new(channel);
        for _ in 0..received % LINES as u64 {
            end.cursor.advance();
        }
        end.next = received.wrapping_add(1);
        // What was acknowledged is at least so much, unless it was a lie; more is said with the next messages.
        end.acknowledged = received.saturating_sub(Self::QUARTER - 1);
        end.asleep = true;
        end
    }

    /// How many messages were received.
    pub fn received(&self) -> u64 {
        self.next.wrapping_sub(1)
    }

    /// Whether the peer has broken the rules.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The next message, copied out of the page, if it is there.
    ///
    /// Its words are whatever the sender wrote, and a sender that lies can change them up to the moment they are
    /// copied; the copy is the caller's own.
    #[inline]
    pub fn try_receive(&mut self) -> Result<Option<Message>, PeerBroken> {
        if self.broken {
            return Err(PeerBroken);
        }
        let line = self.cursor.line;
        // Acquire: the words are at least as new as the number.
        let sequence = line.sequence.load(Ordering::Acquire);
        if sequence != self.next {
            return self.nothing(sequence);
        }
        if let Some(ahead) = self.cursor.ahead.as_slice().get(Self::AHEAD) {
            prefetch(ahead);
        }
        let message = line.payload.each_ref().map(|word| word.load(Ordering::Relaxed));
        self.cursor.advance();
        let received = self.next;
        self.next = received.wrapping_add(1);
        if received.wrapping_sub(self.acknowledged) >= Self::QUARTER {
            self.acknowledge();
        }
        Ok(Some(message))
    }

    /// Says that an event is needed from now on. False, and awake again, if a message is there already: receive
    /// it first. True: nothing was there, and the sender's next batch will bring an event.
    pub fn sleep(&mut self) -> bool {
        if self.broken {
            return false;
        }
        // A sleeper owes nothing, so a sender that wants to drain the channel can see when it is drained.
        if self.acknowledged.wrapping_add(1) != self.next {
            self.acknowledge();
        }
        self.asleep = true;
        self.own.sleeping.store(1, Ordering::Relaxed);
        // The other half of the rule in `Sender::peer_sleeps`.
        fence(Ordering::SeqCst);
        if self.cursor.line.sequence.load(Ordering::Relaxed) == self.empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Says that no event is needed: this end looks by itself. To be called after an event, before receiving.
    #[inline]
    pub fn awake(&mut self) {
        if self.asleep {
            self.asleep = false;
            self.own.sleeping.store(0, Ordering::Relaxed);
        }
    }

    /// Gives the sender all lines read so far.
    fn acknowledge(&mut self) {
        self.acknowledged = self.next.wrapping_sub(1);
        // Release: the words were copied before the sender may write the line again.
        self.own.acknowledged.store(self.acknowledged, Ordering::Release);
    }

    /// The number in the awaited line while its message has not come: that of the lap before.
    #[inline]
    fn empty(&self) -> u64 {
        self.next.saturating_sub(LINES as u64)
    }

    /// The awaited number is not there: either the line is as the last lap left it, or the sender lies.
    #[inline]
    fn nothing(&mut self, sequence: u64) -> Result<Option<Message>, PeerBroken> {
        if sequence == self.empty() {
            return Ok(None);
        }
        self.broken = true;
        Err(PeerBroken)
    }
}
