//! A channel between two tasks, on one core or on two.
//!
//! Within a core it is a [`PipeEnd`]; between cores it is one of the channels that monitors set up
//! ([`crate::monitor::channels`]). What goes over it are [`Words`] that have room in a line, and [`Page`]s,
//! which change hands. A server works on what it has taken at its client's cost, which for a client on another core is that
//! core's account.

use alloc::rc::Rc;
use core::cell::Cell;
use core::future::poll_fn;
use core::task::{Context, Poll};

use io_rings::PeerBroken;
use io_rings::session::{Failed, Put, Take, Words};

use super::desk::Desk;
use super::ledger::Account;
use super::pages::Page;
use super::pipe::PipeEnd;
use super::{Signal, talk::Wait};
use crate::agreement::CoreId;
use crate::monitor::Monitor;
use crate::monitor::channels::{ChannelId, Line, NotNow, Unread};

/// How far a channel to another core is, as the desk tells its wire.
#[derive(Debug, Default)]
pub(super) struct Far {
    pub(super) opened: Cell<bool>,
    pub(super) closed: Cell<bool>,
    pub(super) moved: Signal,
}

/// What goes over a wire.
pub enum Parcel {
    /// Words, in a line.
    Line(Line),
    /// A page, which changes hands.
    Page(Page),
}

/// One end. To let it fall closes it.
pub struct Wire {
    desk: Rc<Desk>,
    kind: Kind,
}

enum Kind {
    Near(PipeEnd<Parcel, Parcel>),
    Far { number: ChannelId, peer: CoreId, far: Rc<Far>, serves: bool },
}

impl Wire {
    pub(super) fn near(desk: Rc<Desk>, end: PipeEnd<Parcel, Parcel>) -> Self {
        Self { desk, kind: Kind::Near(end) }
    }

    pub(super) fn far(desk: Rc<Desk>, number: ChannelId, peer: CoreId, far: Rc<Far>, serves: bool) -> Self {
        Self { desk, kind: Kind::Far { number, peer, far, serves } }
    }

    /// Waits until the other side has said whether it wants this channel.
    pub async fn opened(&self) -> bool {
        let Kind::Far { far, .. } = &self.kind else { return true };
        poll_fn(|context| {
            if far.opened.get() || far.closed.get() {
                return Poll::Ready(!far.closed.get());
            }
            far.moved.wait(context);
            Poll::Pending
        })
        .await
    }

    /// The core at the other end.
    pub fn peer(&self) -> CoreId {
        match self.kind {
            Kind::Near(_) => self.desk.look(Monitor::core),
            Kind::Far { peer, .. } => peer,
        }
    }

    /// A page that the other side can reach, if one is free.
    pub fn free_page(&self) -> Option<Page> {
        self.desk.free_page(self.peer())
    }

    /// The same, as soon as one is.
    pub async fn page(&self) -> Result<Page, PeerBroken> {
        self.desk.page(self.peer()).await
    }

    /// The monitor's number of it, where the other end is on another core.
    pub fn number(&self) -> Option<ChannelId> {
        match self.kind {
            Kind::Near(_) => None,
            Kind::Far { number, .. } => Some(number),
        }
    }
}

impl Put<Parcel> for Wire {
    fn put(&mut self, parcel: Parcel) -> Result<(), Failed<Parcel>> {
        let (number, peer, serves) = match &mut self.kind {
            Kind::Near(end) => return end.put(parcel),
            Kind::Far { number, peer, serves, .. } => (*number, *peer, *serves),
        };
        let desk = &self.desk;
        let sent = match parcel {
            Parcel::Line(line) => desk
                .monitor(|monitor| monitor.send(number, &line))
                .map_err(|not_now| (not_now, Parcel::Line(line))),
            Parcel::Page(page) => page
                .within_reach_of(peer)
                .and_then(|page| {
                    page.hand_over(|held, note| desk.monitor(|monitor| monitor.send_page(number, held, note)))
                })
                .map_err(|(not_now, page)| (not_now, Parcel::Page(page))),
        };
        match sent {
            Ok(()) => {
                desk.ledger().sent();
                if serves {
                    desk.ledger().serve_self();
                }
                Ok(())
            }
            Err((NotNow::Full, parcel)) => Err(Failed::NotYet(parcel)),
            Err((NotNow::Closed, _)) => Err(Failed::PeerBroken),
        }
    }
}

impl Take<Parcel> for Wire {
    fn take(&mut self) -> Result<Option<Parcel>, PeerBroken> {
        match &mut self.kind {
            Kind::Near(end) => end.take(),
            Kind::Far { number, peer, far, serves } => {
                let desk = &self.desk;
                let Some(unread) = desk.monitor(|monitor| monitor.receive(*number)) else {
                    return if far.closed.get() { Err(PeerBroken) } else { Ok(None) };
                };
                desk.ledger().received();
                if *serves {
                    desk.ledger().serve(Account::core(*peer));
                }
                Ok(Some(match unread {
                    Unread::Line(line) => Parcel::Line(line),
                    Unread::Page(held, note) => Parcel::Page(Page::new(desk.clone(), held, note)),
                }))
            }
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
        self.put(Parcel::Line(line)).map_err(|failed| match failed {
            Failed::NotYet(_) => from_line(line).map_or(Failed::PeerBroken, Failed::NotYet),
            Failed::PeerBroken => Failed::PeerBroken,
        })
    }
}

impl<T: Words> Take<T> for Wire {
    /// A page where words are due breaks the rules.
    fn take(&mut self) -> Result<Option<T>, PeerBroken> {
        match self.take()? {
            Some(Parcel::Line(line)) => from_line(line).map(Some).ok_or(PeerBroken),
            Some(Parcel::Page(_)) => Err(PeerBroken),
            None => Ok(None),
        }
    }
}

fn from_line<T: Words>([a, b, c, d, e, f]: Line) -> Option<T> {
    T::from_words(&[a, b, c, d, e, f, 0])
}

impl Put<Page> for Wire {
    fn put(&mut self, page: Page) -> Result<(), Failed<Page>> {
        self.put(Parcel::Page(page)).map_err(|failed| match failed {
            Failed::NotYet(Parcel::Page(page)) => Failed::NotYet(page),
            Failed::NotYet(Parcel::Line(_)) | Failed::PeerBroken => Failed::PeerBroken,
        })
    }
}

impl Take<Page> for Wire {
    /// Words where a page is due break the rules.
    fn take(&mut self) -> Result<Option<Page>, PeerBroken> {
        match self.take()? {
            Some(Parcel::Page(page)) => Ok(Some(page)),
            Some(Parcel::Line(_)) => Err(PeerBroken),
            None => Ok(None),
        }
    }
}

impl Wait for Wire {
    fn wait(&self, context: &Context<'_>) {
        match &self.kind {
            Kind::Near(end) => end.wait(context),
            Kind::Far { far, .. } => far.moved.wait(context),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Kind::Far { number, .. } = self.kind {
            self.desk.forget(number);
        }
    }
}
