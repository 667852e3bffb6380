//! Calls between tasks, many of them in flight: [`io_rings::rpc`] over a [`Wire`].
//!
//! The number of a call is the first word of its line, and of its answer's.

use io_rings::PeerBroken;
use io_rings::rpc::{CallId, Window};

use super::talk;
use super::wire::Wire;
use crate::monitor::channels::{Line, WINDOW};

/// What a call or an answer carries.
pub type Body = [u64; 5];

/// The most calls in flight: half of what a channel's window holds, so that the answers have room whatever is on the way.
pub const WIDEST: usize = WINDOW as usize / 2;

/// The side that calls.
pub struct Client {
    wire: Wire,
    window: Window,
}

impl Client {
    /// Over this wire, at most `window` calls in flight: from 1 to [`WIDEST`].
    pub fn new(wire: Wire, window: usize) -> Self {
        Self { wire, window: Window::new(window.min(WIDEST)) }
    }

    /// Goes on with calls in flight that another has made over the same wire.
    pub fn resume(wire: Wire, window: Window) -> Self {
        Self { wire, window }
    }

    /// Waits until the other side has said whether it wants this client.
    pub async fn opened(&self) -> bool {
        self.wire.opened().await
    }

    /// Which calls are in flight.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The monitor's number of the wire, if it leads to another core.
    pub fn number(&self) -> Option<crate::monitor::channels::ChannelId> {
        self.wire.number()
    }

    /// Makes a call, if the window has a place: its number.
    pub async fn call(&mut self, [a, b, c, d, e]: Body) -> Result<Option<CallId>, PeerBroken> {
        let Some(call) = self.window.next() else { return Ok(None) };
        talk::put(&mut self.wire, [call.word(), a, b, c, d, e]).await?;
        self.window.called(call);
        Ok(Some(call))
    }

    /// The next answer, in whichever order they come. An answer that nobody waits for breaks the rules.
    pub async fn answer(&mut self) -> Result<(CallId, Body), PeerBroken> {
        let [number, body @ ..]: Line = talk::take(&mut self.wire).await?;
        Ok((self.window.answered(number)?, body))
    }

    /// Calls, and waits for the answer. To be used where no other call is in flight.
    pub async fn ask(&mut self, body: Body) -> Result<Body, PeerBroken> {
        if self.window.in_flight() != 0 {
            return Err(PeerBroken);
        }
        self.call(body).await?;
        Ok(self.answer().await?.1)
    }
}

/// Answers calls, at their caller's cost, until the other side is gone.
///
/// Between a call and its answer nothing is waited for but room, so a server's state is whole whenever it waits for calls.
pub async fn serve(wire: &mut Wire, mut answer: impl FnMut(&Body) -> Body) -> PeerBroken {
    loop {
        let [number, body @ ..]: Line = match talk::take(wire).await {
            Ok(line) => line,
            Err(broken) => return broken,
        };
        let [a, b, c, d, e] = answer(&body);
        if let Err(broken) = talk::put(wire, [number, a, b, c, d, e]).await {
            return broken;
        }
    }
}
