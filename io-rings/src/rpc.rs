//! Calls over two channels, many of them in flight.
//!
//! A call is a message that carries a number in its first word; the answer carries the same. The number names a place in
//! the caller's window, so answers may come in any order, and one that nobody waits for is found out. The window is
//! narrower than a channel, so there is always room for the answers, and whoever serves never has to keep one.
//!
//! ```text
//! caller                       server
//!   ├── 0 ─▶
//!   ├── 1 ─▶ ──── one batch ──▶ take 0, answer; take 1, answer
//!   ├── 2 ─▶                    (one look whether the caller sleeps)
//!   ◀── 0, 1, 2 ── one batch ──┤
//! ```
//!
//! After a batch, not after each call, an end asks whether the other needs an event ([`Caller::peer_sleeps`],
//! [`Server::peer_sleeps`]).

use crate::PeerBroken;
use crate::urpc::{Message, Receiver, SLOTS, SendError, Sender};

/// What a call or an answer carries: a message less its number.
pub type Body = [u64; 6];

/// The most calls in flight: as many as an end can have read and not acknowledged fewer than a channel holds.
pub const WIDEST: usize = SLOTS - SLOTS.div_ceil(4);

/// Which call an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

impl CallId {
    /// As it goes over the wire.
    pub fn word(self) -> u64 {
        self.0
    }
}

/// The places of a window, and which calls are in flight: the rule of calls, whatever they go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// A bit for each place.
    places: u64,
    /// Those whose answer has not come.
    in_flight: u64,
}

impl Window {
    /// For at most `calls` in flight: from 1 to [`WIDEST`].
    pub fn new(calls: usize) -> Self {
        Self { places: u64::MAX >> (64 - calls.clamp(1, WIDEST)), in_flight: 0 }
    }

    /// The same, with these numbers in flight, a bit each: calls that were made before.
    pub fn resume(calls: usize, in_flight: u64) -> Self {
        let fresh = Self::new(calls);
        Self { in_flight: in_flight & fresh.places, ..fresh }
    }

    /// The call that may be made next; none while the window is full.
    #[inline]
    pub fn next(&self) -> Option<CallId> {
        let free = self.places & !self.in_flight;
        (free != 0).then(|| CallId(u64::from(free.trailing_zeros())))
    }

    /// It was made.
    #[inline]
    pub fn called(&mut self, CallId(place): CallId) {
        self.in_flight |= 1 << (place & 63);
    }

    /// The call that this number answers. One that was not made breaks the rules.
    #[inline]
    pub fn answered(&mut self, number: u64) -> Result<CallId, PeerBroken> {
        let bit = u32::try_from(number).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0);
        if self.in_flight & bit == 0 {
            return Err(PeerBroken);
        }
        self.in_flight &= !bit;
        Ok(CallId(number))
    }

    /// The numbers of the calls in flight, a bit each.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

/// The end that calls.
#[derive(Debug)]
pub struct Caller<'a> {
    calls: Sender<'a>,
    answers: Receiver<'a>,
    window: Window,
    broken: bool,
}

impl<'a> Caller<'a> {
    /// On fresh channels, with at most `window` calls in flight: from 1 to [`WIDEST`].
    pub fn new(calls: Sender<'a>, answers: Receiver<'a>, window: usize) -> Self {
        Self { calls, answers, window: Window::new(window), broken: false }
    }

    /// Calls; [`SendError::Full`] where the window is, until an answer is taken.
    #[inline]
    pub fn call(&mut self, body: &Body) -> Result<CallId, SendError> {
        let call = self.window.next().ok_or(SendError::Full)?;
        let [a, b, c, d, e, f] = *body;
        self.calls.try_send(&[call.word(), a, b, c, d, e, f])?;
        self.window.called(call);
        Ok(call)
    }

    /// The next answer, if one is there. One to a call that was not made breaks the rules, and nothing is heard after it.
    #[inline]
    pub fn answer(&mut self) -> Result<Option<(CallId, Body)>, PeerBroken> {
        if self.broken {
            return Err(PeerBroken);
        }
        let Some([number, body @ ..]): Option<Message> = self.answers.try_receive()? else { return Ok(None) };
        let answered = self.window.answered(number);
        self.broken = answered.is_err();
        answered.map(|call| Some((call, body)))
    }

    /// The notify rule, after a batch of calls.
    pub fn peer_sleeps(&mut self) -> bool {
        self.calls.peer_sleeps()
    }
}

/// The end that answers.
#[derive(Debug)]
pub struct Server<'a> {
    calls: Receiver<'a>,
    answers: Sender<'a>,
}

impl<'a> Server<'a> {
    /// On fresh channels.
    pub fn new(calls: Receiver<'a>, answers: Sender<'a>) -> Self {
        Self { calls, answers }
    }

    /// Answers the calls that are there, at most `batch` of them; how many that were. A caller that makes more calls than
    /// it takes answers breaks the rules.
    #[inline]
    pub fn serve(
        &mut self,
        batch: usize,
        mut answer: impl FnMut(&Body) -> Body,
    ) -> Result<usize, PeerBroken> {
        for served in 0..batch {
            let Some([number, body @ ..]): Option<Message> = self.calls.try_receive()? else {
                return Ok(served);
            };
            let [a, b, c, d, e, f] = answer(&body);
            self.answers.try_send(&[number, a, b, c, d, e, f]).map_err(|_| PeerBroken)?;
        }
        Ok(batch)
    }

    /// The notify rule, after a batch of answers.
    pub fn peer_sleeps(&mut self) -> bool {
        self.answers.peer_sleeps()
    }
}
