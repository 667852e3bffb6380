//! Typed conversations of tasks: a step that cannot be taken yet is waited for.
//!
//! ```
//! use guest_kernel::tasks::{pages::Page, talk};
//! use io_rings::session::{End, Put, Recv, Send, Session, Take};
//!
//! type Mill = Send<Page, Recv<Page, End>>;
//!
//! async fn ask<W: Put<Page> + Take<Page> + talk::Wait>(session: Session<Mill, W>, page: Page) -> Option<Page> {
//!     let session = talk::send(session, page).await.ok()?;
//!     let (page, _) = talk::receive(session).await.ok()?;
//!     Some(page)
//! }
//! ```
//!
//! What was sent cannot be named any more:
//!
//! ```compile_fail,E0382
//! # use guest_kernel::tasks::{pages::Page, talk};
//! # use io_rings::session::{End, Put, Recv, Send, Session, Take};
//! # type Mill = Send<Page, Recv<Page, End>>;
//! async fn ask<W: Put<Page> + Take<Page> + talk::Wait>(session: Session<Mill, W>, page: Page) -> Option<Page> {
//!     let session = talk::send(session, page).await.ok()?;
//!     Some(page)
//! }
//! ```
//!
//! Nor can be received where the protocol says to send:
//!
//! ```compile_fail,E0308
//! # use guest_kernel::tasks::{pages::Page, talk};
//! # use io_rings::session::{End, Put, Recv, Send, Session, Take};
//! # type Mill = Send<Page, Recv<Page, End>>;
//! async fn ask<W: Put<Page> + Take<Page> + talk::Wait>(session: Session<Mill, W>) -> Option<Page> {
//!     let (page, _) = talk::receive(session).await.ok()?;
//!     Some(page)
//! }
//! ```

use core::future::poll_fn;
use core::task::{Context, Poll};

use io_rings::PeerBroken;
use io_rings::session::{Failed, Protocol, Put, Recv, Send, Session, Take};

/// A wire that can be waited at.
pub trait Wait {
    /// The task of this context is woken when something came over the wire, or there is room, or the other side is gone.
    fn wait(&self, context: &Context<'_>);
}

/// Says a value, as soon as there is room.
pub async fn send<T, Next, W>(
    session: Session<Send<T, Next>, W>,
    value: T,
) -> Result<Session<Next, W>, PeerBroken>
where
    Next: Protocol,
    W: Put<T> + Wait,
{
    let mut waiting = Some((value, session));
    poll_fn(|context| {
        let Some((value, session)) = waiting.take() else { return Poll::Pending };
        match session.send(value) {
            Ok(next) => Poll::Ready(Ok(next)),
            Err(Failed::PeerBroken) => Poll::Ready(Err(PeerBroken)),
            Err(Failed::NotYet((value, session))) => {
                session.wire().wait(context);
                waiting = Some((value, session));
                Poll::Pending
            }
        }
    })
    .await
}

/// Hears the next value.
pub async fn receive<T, Next, W>(
    session: Session<Recv<T, Next>, W>,
) -> Result<(T, Session<Next, W>), PeerBroken>
where
    Next: Protocol,
    W: Take<T> + Wait,
{
    let mut waiting = Some(session);
    poll_fn(|context| {
        let Some(session) = waiting.take() else { return Poll::Pending };
        match session.receive() {
            Ok(heard) => Poll::Ready(Ok(heard)),
            Err(Failed::PeerBroken) => Poll::Ready(Err(PeerBroken)),
            Err(Failed::NotYet(session)) => {
                session.wire().wait(context);
                waiting = Some(session);
                Poll::Pending
            }
        }
    })
    .await
}

/// Puts a value on a wire, as soon as there is room.
pub async fn put<T, W: Put<T> + Wait>(wire: &mut W, value: T) -> Result<(), PeerBroken> {
    let mut waiting = Some(value);
    poll_fn(|context| {
        let Some(value) = waiting.take() else { return Poll::Pending };
        match wire.put(value) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Failed::PeerBroken) => Poll::Ready(Err(PeerBroken)),
            Err(Failed::NotYet(value)) => {
                wire.wait(context);
                waiting = Some(value);
                Poll::Pending
            }
        }
    })
    .await
}

/// Takes the next value from a wire.
pub async fn take<T, W: Take<T> + Wait>(wire: &mut W) -> Result<T, PeerBroken> {
    poll_fn(|context| match wire.take() {
        Ok(Some(value)) => Poll::Ready(Ok(value)),
        Err(PeerBroken) => Poll::Ready(Err(PeerBroken)),
        Ok(None) => {
            wire.wait(context);
            Poll::Pending
        }
    })
    .await
}
