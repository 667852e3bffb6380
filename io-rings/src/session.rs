//! Typed sessions: who may say what when is in the type, so that a wrong order of messages is not compiled.
//!
//! A protocol is written once, from one side; the other side is its [`Protocol::Dual`]. An end is used up by each step and
//! gives back the end of the next, so nothing is said twice and nothing is left out:
//!
//! ```
//! use io_rings::session::{End, Recv, Send, Session};
//! # use io_rings::urpc::{ChannelPage, Receiver, Sender};
//! type Ask = Send<u64, Recv<[u64; 2], End>>;
//!
//! # let (there, back) = (ChannelPage::new(), ChannelPage::new());
//! let client = Session::<Ask, _>::new((Sender::new(&there), Receiver::new(&back)));
//! let server = client.dual((Sender::new(&back), Receiver::new(&there)));
//! let client = client.send(42).unwrap();
//! let (question, server) = server.receive().unwrap();
//! server.send([question, question * 2]).unwrap().close();
//! let (answer, client) = client.receive().unwrap();
//! assert_eq!(answer, [42, 84]);
//! client.close();
//! ```
//!
//! To receive first is not what `Ask` says, and is no program:
//!
//! ```compile_fail,E0599
//! use io_rings::session::{End, Recv, Send, Session};
//! # use io_rings::urpc::{ChannelPage, Receiver, Sender};
//! # let (there, back) = (ChannelPage::new(), ChannelPage::new());
//! let client = Session::<Send<u64, Recv<u64, End>>, _>::new((Sender::new(&there), Receiver::new(&back)));
//! client.receive();
//! ```
//!
//! Nor is to say a thing twice, for the end was used up by the first time:
//!
//! ```compile_fail,E0382
//! use io_rings::session::{End, Recv, Send, Session};
//! # use io_rings::urpc::{ChannelPage, Receiver, Sender};
//! # let (there, back) = (ChannelPage::new(), ChannelPage::new());
//! let client = Session::<Send<u64, Recv<u64, End>>, _>::new((Sender::new(&there), Receiver::new(&back)));
//! client.send(1).unwrap();
//! client.send(2).unwrap();
//! ```
//!
//! A protocol that goes round names itself with [`Again`]. Between two cores the wire is a pair of
//! channels, and what goes over it are [`Words`] of a cache line. Between two tasks of one core it is a pair of
//! [`Mailbox`]es, and what goes over it is any value: a buffer that was sent is its sender's no more, and nothing is copied.

use core::cell::RefCell;
use core::marker::PhantomData;

use crate::PeerBroken;
use crate::urpc::{Message, Receiver, SendError, Sender};

/// A side's view of a conversation.
pub trait Protocol {
    /// The other side's.
    type Dual: Protocol<Dual = Self>;
}

/// Says a `T`, then goes on as `Next`.
#[derive(Debug)]
pub struct Send<T, Next>(PhantomData<(T, Next)>);

/// Hears a `T`, then goes on as `Next`.
#[derive(Debug)]
pub struct Recv<T, Next>(PhantomData<(T, Next)>);

/// Nothing more is said.
#[derive(Debug)]
pub struct End;

/// Begins `Name`'s conversation once more.
#[derive(Debug)]
pub struct Again<Name>(PhantomData<Name>);

/// [`Again`], as the other side sees it.
#[derive(Debug)]
pub struct AgainDual<Name>(PhantomData<Name>);

/// A conversation with a name, so that it may contain itself.
pub trait Named {
    /// One round of it, from the side that it is written from.
    type Round: Protocol;
}

impl<T, Next: Protocol> Protocol for Send<T, Next> {
    type Dual = Recv<T, Next::Dual>;
}

impl<T, Next: Protocol> Protocol for Recv<T, Next> {
    type Dual = Send<T, Next::Dual>;
}

impl Protocol for End {
    type Dual = End;
}

impl<Name: Named> Protocol for Again<Name> {
    type Dual = AgainDual<Name>;
}

impl<Name: Named> Protocol for AgainDual<Name> {
    type Dual = Again<Name>;
}

/// What has room in a message. The other side's words are an allegation: not all of them need be one.
pub trait Words: Sized {
    /// As words.
    fn into_words(self) -> Message;
    /// From words, if they are one.
    fn from_words(words: &Message) -> Option<Self>;
}

impl Words for Message {
    fn into_words(self) -> Message {
        self
    }

    fn from_words(words: &Message) -> Option<Self> {
        Some(*words)
    }
}

impl Words for u64 {
    fn into_words(self) -> Message {
        [self].into_words()
    }

    fn from_words(words: &Message) -> Option<Self> {
        <[u64; 1]>::from_words(words).map(|[word]| word)
    }
}

macro_rules! words_of_arrays {
    ($($count:literal)*) => {$(
        impl Words for [u64; $count] {
            fn into_words(self) -> Message {
                let mut words = [0; 7];
                words[..$count].copy_from_slice(&self);
                words
            }

            fn from_words(words: &Message) -> Option<Self> {
                let (own, rest) = words.split_first_chunk()?;
                rest.iter().all(|&word| word == 0).then_some(*own)
            }
        }
    )*};
}

words_of_arrays!(0 1 2 3 4 5 6);

/// Why a step was not taken.
#[derive(Debug)]
pub enum Failed<Same> {
    /// No room, or nothing there yet: the same step again, later.
    NotYet(Same),
    /// The other side broke the rules of the ring, or said what is no such value.
    PeerBroken,
}

/// Moves a `T` to the other side.
pub trait Put<T> {
    /// Sends it; back it comes where there is no room.
    fn put(&mut self, value: T) -> Result<(), Failed<T>>;
}

/// Moves a `T` from the other side.
pub trait Take<T> {
    /// The next, if it is there.
    fn take(&mut self) -> Result<Option<T>, PeerBroken>;
}

impl<T: Words> Put<T> for (Sender<'_>, Receiver<'_>) {
    #[inline]
    fn put(&mut self, value: T) -> Result<(), Failed<T>> {
        let words = value.into_words();
        match self.0.try_send(&words) {
            Ok(()) => Ok(()),
            // What was made into words is made from them.
            Err(SendError::Full) => Err(T::from_words(&words).map_or(Failed::PeerBroken, Failed::NotYet)),
            Err(SendError::PeerBroken) => Err(Failed::PeerBroken),
        }
    }
}

impl<T: Words> Take<T> for (Sender<'_>, Receiver<'_>) {
    #[inline]
    fn take(&mut self) -> Result<Option<T>, PeerBroken> {
        match self.1.try_receive()? {
            None => Ok(None),
            Some(words) => T::from_words(&words).map(Some).ok_or(PeerBroken),
        }
    }
}

/// Room for one value between two tasks of a core.
#[derive(Debug)]
pub struct Mailbox<T>(RefCell<Option<T>>);

impl<T> Mailbox<T> {
    /// An empty one.
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, U> Put<T> for (&Mailbox<T>, &Mailbox<U>) {
    fn put(&mut self, value: T) -> Result<(), Failed<T>> {
        let mut room = self.0.0.borrow_mut();
        if room.is_some() {
            return Err(Failed::NotYet(value));
        }
        *room = Some(value);
        Ok(())
    }
}

impl<T, U> Take<U> for (&Mailbox<T>, &Mailbox<U>) {
    fn take(&mut self) -> Result<Option<U>, PeerBroken> {
        Ok(self.1.0.take())
    }
}

/// One end of a conversation that stands at `P`.
#[derive(Debug)]
#[must_use = "a conversation that is let fall leaves the other side waiting"]
pub struct Session<P, W> {
    wire: W,
    stands_at: PhantomData<P>,
}

impl<P: Protocol, W> Session<P, W> {
    /// This side, on a wire whose other end nobody else has begun to use.
    pub fn new(wire: W) -> Self {
        Self { wire, stands_at: PhantomData }
    }

    /// What it goes over, to wait for.
    pub fn wire(&self) -> &W {
        &self.wire
    }

    /// The other side of the same conversation, for tests and for tasks of one core.
    pub fn dual<V>(&self, wire: V) -> Session<P::Dual, V> {
        Session::new(wire)
    }

    fn step<Q: Protocol>(self) -> Session<Q, W> {
        Session::new(self.wire)
    }
}

impl<T, Next: Protocol, W: Put<T>> Session<Send<T, Next>, W> {
    /// Says it. Where there is no room, the value and this end come back.
    pub fn send(mut self, value: T) -> Result<Session<Next, W>, Failed<(T, Self)>> {
        match self.wire.put(value) {
            Ok(()) => Ok(self.step()),
            Err(Failed::NotYet(value)) => Err(Failed::NotYet((value, self))),
            Err(Failed::PeerBroken) => Err(Failed::PeerBroken),
        }
    }
}

impl<T, Next: Protocol, W: Take<T>> Session<Recv<T, Next>, W> {
    /// Hears it. Where nothing is there yet, this end comes back.
    pub fn receive(mut self) -> Result<(T, Session<Next, W>), Failed<Self>> {
        match self.wire.take() {
            Ok(Some(value)) => Ok((value, self.step())),
            Ok(None) => Err(Failed::NotYet(self)),
            Err(PeerBroken) => Err(Failed::PeerBroken),
        }
    }
}

impl<Name: Named, W> Session<Again<Name>, W> {
    /// Begins the next round.
    pub fn again(self) -> Session<Name::Round, W> {
        self.step()
    }
}

impl<Name: Named, W> Session<AgainDual<Name>, W> {
    /// Begins the next round.
    pub fn again(self) -> Session<<Name::Round as Protocol>::Dual, W> {
        self.step()
    }
}

impl<W> Session<End, W> {
    /// Gives the wire back, for the next conversation.
    pub fn close(self) -> W {
        self.wire
    }
}
