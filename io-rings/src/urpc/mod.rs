//! URPC: one direction of a conversation between two cores, in one page, a message per cache line.
//!
//! ```text
//! line 0        the receiver's own: acknowledged count, sleeping word        (written by the receiver)
//! line 1..=63   seven words of payload, then the sequence word, written last (written by the sender)
//! ```
//!
//! Nothing else is shared: no lock, no head and tail that both sides touch. Message *n*, counted from 1, lies in
//! line `1 + (n - 1) % 63` and carries *n* as its sequence word. The receiver knows which number it awaits and
//! looks for it in that line alone, so a message costs one cache line that moves once. The sender may run a whole
//! ring ahead of the last acknowledgement, which the receiver writes once a quarter ring: the way back costs a
//! sixteenth of a line per message. Both look ahead of their need, the sender for the acknowledgement, the receiver
//! for lines to come, which it prefetches, so that lines are on their way while others are used.
//! Numbers have 64 bits and do not wrap within the life of any machine.
//!
//! **The notify rule.** A receiver that wants to sleep calls [`Receiver::sleep`]: it raises the sleeping word,
//! fences, and looks once more. A sender that has sent a batch calls [`Sender::peer_sleeps`]: it fences and looks
//! at the word. Each side writes first and reads second with a full fence between, so at least one of them sees
//! the other, and no wake-up is lost. A peer that polls never raises the word and costs the sender no event.
//!
//! The idea is Bershad's user-level RPC in the shape that Barrelfish gave it.

mod receiver;
mod sender;

pub use receiver::Receiver;
pub use sender::{SendError, Sender};

pub use crate::PeerBroken;
use crate::sync::{AtomicU64, Ordering, array_of, const_unless_loom};

/// What a message carries: a cache line less its sequence word.
pub type Message = [u64; 7];

/// The message lines of a page: all but the receiver's own.
pub const SLOTS: usize = 63;

/// One message and, last, its number.
#[derive(Debug)]
#[repr(C, align(64))]
struct Line {
    payload: [AtomicU64; 7],
    sequence: AtomicU64,
}

impl Line {
    const_unless_loom! {
        fn new() -> Self {
            Self { payload: array_of![AtomicU64::new(0); 7], sequence: AtomicU64::new(0) }
        }
    }
}

/// What the receiver tells the sender.
#[derive(Debug)]
#[repr(C, align(64))]
struct ReceiverLine {
    /// The number of the last message whose line the sender may use again.
    acknowledged: AtomicU64,
    /// Not zero: an event is needed to make the receiver look.
    sleeping: AtomicU64,
    reserved: [AtomicU64; 6],
}

/// One direction of a channel: the page that sender and receiver share. All zero is a fresh channel.
///
/// The number of message lines is a parameter only so that a model can explore a ring of two; between domains it
/// is always [`ChannelPage`].
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Channel<const LINES: usize> {
    receiver: ReceiverLine,
    lines: [Line; LINES],
}

/// The page as two domains share it.
pub type ChannelPage = Channel<SLOTS>;

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Line>() == 64 && align_of::<Line>() == 64, "a message is one cache line");
    assert!(core::mem::offset_of!(Line, sequence) == 56, "the sequence word is the last of its line");
    assert!(core::mem::offset_of!(ChannelPage, lines) == 64, "the receiver's own line comes first");
    assert!(size_of::<ChannelPage>() == 4096 && align_of::<ChannelPage>() == 4096, "a direction is one page");
};

impl<const LINES: usize> Channel<LINES> {
    const_unless_loom! {
        /// A fresh channel, all words zero.
        pub fn new() -> Self {
            Self {
                receiver: ReceiverLine {
                    acknowledged: AtomicU64::new(0),
                    sleeping: AtomicU64::new(0),
                    reserved: array_of![AtomicU64::new(0); 6],
                },
                lines: array_of![Line::new(); LINES],
            }
        }
    }

    /// Makes the channel fresh again. Both ends must be gone, and new ones made only after this returned.
    pub fn reset(&self) {
        for word in self.words() {
            word.store(0, Ordering::Release);
        }
    }

    /// All words in the page's order.
    pub(crate) fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        let receiver = [&self.receiver.acknowledged, &self.receiver.sleeping];
        let lines = self.lines.iter().flat_map(|line| line.payload.iter().chain([&line.sequence]));
        receiver.into_iter().chain(&self.receiver.reserved).chain(lines)
    }
}

impl<const LINES: usize> Default for Channel<LINES> {
    fn default() -> Self {
        Self::new()
    }
}

/// The line an end stands at, and the way round: a reference and not an index, so there is no bound to check.
#[derive(Debug)]
struct Cursor<'a> {
    line: &'a Line,
    ahead: core::slice::Iter<'a, Line>,
    all: &'a [Line],
}

impl<'a> Cursor<'a> {
    fn new<const LINES: usize>(all: &'a [Line; LINES]) -> Self {
        const { assert!(LINES > 0, "a channel has at least one line") };
        Self { line: &all[0], ahead: all[1..].iter(), all }
    }

    #[inline]
    fn advance(&mut self) {
        if self.ahead.as_slice().is_empty() {
            self.ahead = self.all.iter();
        }
        if let Some(line) = self.ahead.next() {
            self.line = line;
        }
    }
}
