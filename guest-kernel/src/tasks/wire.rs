//! A channel between two tasks, on one core or on two.
//!
//! Within a core it is a [`PipeEnd`]; between cores it is one of the channels that monitors set up
//! ([`crate::monitor::channels`]). What goes over it are [`Words`] that have room in a line. A server works on what it has
//! taken at its client's cost, which for a client on another core is that core's account.

use alloc::rc::Rc;
use core::cell::Cell;
use core::future::poll_fn;
use core::task::{Context, Poll};

use io_rings::PeerBroken;
use io_rings::session::{Failed, Put, Take, Words};

use super::desk::Desk;
use super::ledger::Account;
use super::pipe::PipeEnd;
use super::{Signal, talk::Wait};
use crate::agreement::CoreId;
use crate::monitor::channels::{ChannelId, Line, NotNow};

/// How far a channel to another core is, as the desk tells its wire.
#[derive(Debug, Default)]
pub(super) struct Far {
    pub(super) opened: Cell<bool>,
    pub(super) closed: Cell<bool>,
    pub(super) moved: Signal,
}

/// One end. To let it fall closes it.
pub struct Wire(Kind);

enum Kind {
    Near(PipeEnd<Line, Line>),
    Far { desk: Rc<Desk>, number: ChannelId, peer: CoreId, far: Rc<Far>, serves: bool },
}

impl Wire {
    pub(super) fn near(end: PipeEnd<Line, Line>) -> Self {
        Self(Kind::Near(end))
    }

    pub(super) fn far(desk: Rc<Desk>, number: ChannelId, peer: CoreId, far: Rc<Far>, serves: bool) -> Self {
        Self(Kind::Far { desk, number, peer, far, serves })
    }

    /// Waits until the other side has said whether it wants this channel.
    pub async fn opened(&self) -> bool {
        let Kind::Far { far, .. } = &self.0 else { return true };
        poll_fn(|context| {
            if far.opened.get() || far.closed.get() {
                return Poll::Ready(!far.closed.get());
            }
            far.moved.wait(context);
            Poll::Pending
        })
        .await
    }

    /// The monitor's number of it, where the other end is on another core.
    pub fn number(&self) -> Option<ChannelId> {
        match self.0 {
            Kind::Near(_) => None,
            Kind::Far { number, .. } => Some(number),
        }
    }
}

impl<T: Words> Put<T> for Wire {
    fn put(&mut self, value: T) -> Result<(), Failed<T>> {
        let [line @ .., none] = value.into_words();
        if none != 0 {
            // Of seven words one has no room, ever.
            return Err(Failed::PeerBroken);
        }
        let [a, b, c, d, e, f] = line;
        let same = || T::from_words(&[a, b, c, d, e, f, 0]).map_or(Failed::PeerBroken, Failed::NotYet);
        match &mut self.0 {
            Kind::Near(end) => end.put(line).map_err(|failed| match failed {
                Failed::NotYet(_) => same(),
                Failed::PeerBroken => Failed::PeerBroken,
            }),
            Kind::Far { desk, number, serves, .. } => {
                match desk.monitor(|monitor| monitor.send(*number, &line)) {
                    Ok(()) => {
                        desk.ledger().sent();
                        if *serves {
                            desk.ledger().serve_self();
                        }
                        Ok(())
                    }
                    Err(NotNow::Full) => Err(same()),
                    Err(NotNow::Closed) => Err(Failed::PeerBroken),
                }
            }
        }
    }
}

impl<T: Words> Take<T> for Wire {
    fn take(&mut self) -> Result<Option<T>, PeerBroken> {
        let line = match &mut self.0 {
            Kind::Near(end) => end.take()?,
            Kind::Far { desk, number, peer, far, serves } => {
                let line = desk.monitor(|monitor| monitor.receive(*number));
                match line {
                    None if far.closed.get() => return Err(PeerBroken),
                    None => {}
                    Some(_) => {
                        desk.ledger().received();
                        if *serves {
                            desk.ledger().serve(Account::core(*peer));
                        }
                    }
                }
                line
            }
        };
        let Some([a, b, c, d, e, f]) = line else { return Ok(None) };
        T::from_words(&[a, b, c, d, e, f, 0]).map(Some).ok_or(PeerBroken)
    }
}

impl Wait for Wire {
    fn wait(&self, context: &Context<'_>) {
        match &self.0 {
            Kind::Near(end) => end.wait(context),
            Kind::Far { far, .. } => far.moved.wait(context),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Kind::Far { desk, number, .. } = &self.0 {
            desk.forget(*number);
        }
    }
}
