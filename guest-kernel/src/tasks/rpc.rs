//! Calls between tasks, many of them in flight: [`io_rings::rpc`] over a [`Wire`].
//!
//! The number of a call is the first word of its line, and of its answer's; of what goes along with a page, where one does.

use io_rings::PeerBroken;
use io_rings::rpc::{CallId, Window};

use super::pages::Page;
use super::talk;
use super::wire::{Parcel, Wire};
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

    /// A page that the other side can reach, if one is free.
    pub fn free_page(&self) -> Option<Page> {
        self.wire.free_page()
    }

    /// The same, as soon as one is. To be used where no call is in flight: an answer may have to be read before.
    pub async fn page(&self) -> Result<Page, PeerBroken> {
        self.wire.page().await
    }

    /// Makes a call with this page, and four words of its note; if the window has no place the page is free again.
    pub async fn call_with(&mut self, mut page: Page) -> Result<Option<CallId>, PeerBroken> {
        let Some(call) = self.window.next() else { return Ok(None) };
        page.note[0] = call.word();
        talk::put(&mut self.wire, page).await?;
        self.window.called(call);
        Ok(Some(call))
    }

    /// The next answer of those that were called with a page: it comes back.
    pub async fn answer_with(&mut self) -> Result<(CallId, Page), PeerBroken> {
        let page: Page = talk::take(&mut self.wire).await?;
        Ok((self.window.answered(page.note[0])?, page))
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
pub async fn serve(wire: &mut Wire, answer: impl FnMut(&Body) -> Body) -> PeerBroken {
    serve_all(wire, answer, |_| Err(PeerBroken)).await
}

/// The same, of calls that come with a page as well: `work` leaves its answer there.
pub async fn serve_all(
    wire: &mut Wire,
    mut answer: impl FnMut(&Body) -> Body,
    mut work: impl FnMut(&mut Page) -> Result<(), PeerBroken>,
) -> PeerBroken {
    loop {
        if let Err(broken) = answer_one(wire, &mut answer, &mut work).await {
            return broken;
        }
    }
}

async fn answer_one(
    wire: &mut Wire,
    answer: &mut impl FnMut(&Body) -> Body,
    work: &mut impl FnMut(&mut Page) -> Result<(), PeerBroken>,
) -> Result<(), PeerBroken> {
    let answered = match talk::take(wire).await? {
        Parcel::Line([number, body @ ..]) => {
            let [a, b, c, d, e] = answer(&body);
            Parcel::Line([number, a, b, c, d, e])
        }
        Parcel::Page(mut page) => {
            work(&mut page)?;
            Parcel::Page(page)
        }
    };
    talk::put(wire, answered).await
}
