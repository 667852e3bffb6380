//! A front end that breaks every rule there is, one after the other. Each breach has its due: an answer that says what is
//! wrong with the request, or the end of the connection, after which the next one begins.

use abi::xen::DomId;
use abi::xen::event_channel::Port;
use alloc::boxed::Box;
use alloc::string::ToString;
use arrayvec::ArrayVec;
use io_rings::hostile::{Liar, SharedPage};
use io_rings::ring::Front as RingFront;

use super::{BLOCK_BYTES, Block, DEPTH, Echo, EchoPage, Ground, Request, Shared, operation, status};
use crate::xenbus::{Driver, Keys, Peer};

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Names references that were never granted, or cannot be.
    References,
    /// Names a page that was granted and is not any more.
    Revoked,
    /// Has a page written that may only be read.
    ReadOnly,
    /// Asks for operations, blocks and bytes that are not there.
    Nonsense,
    /// Closes its event channel behind its requests.
    ClosedPort,
    /// Scribbles all over the ring while it is served, and in the end shows more requests than there are slots.
    Torn,
    /// Shows a request index a thousand ahead.
    FarAhead,
    /// Shows a request index one back.
    Backwards,
    /// Publishes a ring and an event channel that are none.
    Keys,
}

/// All of them, in order.
pub const ACTS: [Act; 9] = [
    Act::References,
    Act::Revoked,
    Act::ReadOnly,
    Act::Nonsense,
    Act::ClosedPort,
    Act::Torn,
    Act::FarAhead,
    Act::Backwards,
    Act::Keys,
];

/// Turns of [`Act::Torn`].
const SCRIBBLES: u32 = 2000;

/// What an act came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Every request has the answer it should have.
    Answered,
    /// The request of this number was answered with this status, and should not have been.
    Wrong(u64, u32),
    /// The back end ended the connection.
    Disconnected,
}

#[derive(Debug)]
struct Connection {
    ring: RingFront<'static, Echo>,
    reference: u32,
    port: Option<Port>,
    served: bool,
    peer: DomId,
}

/// The front end.
#[derive(Debug)]
pub struct Hostile<G> {
    /// The world below.
    pub ground: G,
    liar: Liar,
    page: &'static EchoPage,
    data: &'static Block,
    connection: Option<Connection>,
    /// The act that comes next or is under way.
    act: usize,
    began: bool,
    /// The status that each request of the act should be answered with, and how many were answered.
    expected: ArrayVec<u32, DEPTH>,
    answered: usize,
    granted: ArrayVec<u32, DEPTH>,
    scribbles: u32,
    ended: bool,
}

impl<G: Ground> Hostile<G> {
    /// A front end that has done nothing wrong yet.
    pub fn new(ground: G, seed: u64) -> Self {
        Self {
            ground,
            liar: Liar::new(seed),
            page: Box::leak(Box::default()),
            data: Box::leak(Box::default()),
            connection: None,
            act: 0,
            began: false,
            expected: ArrayVec::new(),
            answered: 0,
            granted: ArrayVec::new(),
            scribbles: 0,
            ended: false,
        }
    }

    /// Whether it has done all that it does.
    pub fn is_done(&self) -> bool {
        self.act >= ACTS.len()
    }

    /// A bounded piece of what it does. An act that is over: which, and its due. Behind [`Act::ClosedPort`] whoever has
    /// the device closes and opens it.
    pub fn turn(&mut self) -> Option<(Act, Due)> {
        let act = *ACTS.get(self.act)?;
        if core::mem::take(&mut self.ended) {
            return self.over(act, Due::Disconnected);
        }
        self.connection.as_ref().filter(|connection| connection.served)?;
        if !self.began {
            self.began = true;
            self.begin(act);
            return None;
        }
        if act == Act::Torn {
            self.scribble();
            return None;
        }
        let connection = self.connection.as_mut()?;
        // An answer from a ring that we broke ourselves is none.
        while let Ok(Some(response)) = connection.ring.take_response() {
            let wanted = self.expected.get(response.id as usize);
            if wanted != Some(&response.status) {
                return self.over(act, Due::Wrong(response.id, response.status));
            }
            self.answered += 1;
        }
        let all = !self.expected.is_empty() && self.answered == self.expected.len();
        if all { self.over(act, Due::Answered) } else { None }
    }

    fn over(&mut self, act: Act, due: Due) -> Option<(Act, Due)> {
        self.act += 1;
        (self.began, self.answered, self.scribbles) = (false, 0, 0);
        self.expected.clear();
        for reference in self.granted.drain(..) {
            self.ground.unshare(reference);
        }
        Some((act, due))
    }

    fn begin(&mut self, act: Act) {
        let Some(peer) = self.connection.as_ref().map(|connection| connection.peer) else { return };
        let read = Request { operation: operation::READ, bytes: BLOCK_BYTES, ..Request::default() };
        match act {
            Act::References => {
                for reference in [0, 1, 7, 400, 511, 512, 4096, u32::MAX] {
                    self.ask(Request { reference, ..read }, status::NO_PAGE);
                }
            }
            Act::Revoked => {
                let reference = self.ground.share_block(peer, self.data, Shared::Writable).unwrap_or(0);
                self.ground.unshare(reference);
                self.ask(Request { reference, ..read }, status::NO_PAGE);
            }
            Act::ReadOnly => {
                let reference = self.grant(peer, Shared::ReadOnly);
                self.ask(Request { reference, ..read }, status::NO_PAGE);
                self.ask(Request { reference, operation: operation::WRITE, ..read }, status::OKAY);
            }
            Act::Nonsense => {
                let reference = self.grant(peer, Shared::Writable);
                let read = Request { reference, ..read };
                self.ask(Request { operation: 77, ..read }, status::NO_OPERATION);
                self.ask(Request { block: u64::MAX, ..read }, status::NO_BLOCK);
                for (offset, bytes) in [(u32::MAX, 2), (0, 0), (0, 4097), (4096, 1), (1, 4096)] {
                    self.ask(Request { offset, bytes, ..read }, status::NO_BYTES);
                }
                self.ask(Request { offset: 4095, bytes: 1, ..read }, status::OKAY);
            }
            Act::ClosedPort => {
                let reference = self.grant(peer, Shared::Writable);
                for block in 0..8 {
                    self.ask(Request { reference, block, ..read }, status::OKAY);
                }
            }
            Act::FarAhead => self.show(1000),
            Act::Backwards => self.show(u32::MAX),
            // The one is done bit by bit, the other in place of an offer.
            Act::Torn | Act::Keys => {}
        }
        if !self.expected.is_empty()
            && let Some(connection) = &mut self.connection
        {
            connection.ring.push_and_check_notify();
        }
        self.wake();
        if act == Act::ClosedPort
            && let Some(port) = self.connection.as_mut().and_then(|connection| connection.port.take())
        {
            self.ground.close(port);
        }
    }

    fn grant(&mut self, peer: DomId, shared: Shared) -> u32 {
        let reference = self.ground.share_block(peer, self.data, shared).unwrap_or(0);
        self.granted.push(reference);
        reference
    }

    fn ask(&mut self, request: Request, expected: u32) {
        let id = self.expected.len() as u64;
        let Some(connection) = &mut self.connection else { return };
        if connection.ring.push_request(&Request { id, ..request }).is_ok() {
            self.expected.push(expected);
        }
    }

    /// Moves the request index that the other end sees: the page's first word.
    fn show(&mut self, ahead: u32) {
        if let Some(index) = self.page.0.words().next() {
            index.set(index.get().wrapping_add(ahead.into()));
        }
    }

    fn scribble(&mut self) {
        self.scribbles += 1;
        if self.scribbles < SCRIBBLES {
            for _ in 0..8 {
                self.liar.scribble(&self.page.0);
            }
        } else {
            self.show(1 << 20);
        }
        self.wake();
    }

    /// Sends an event, wanted or not.
    fn wake(&mut self) {
        if let Some(port) = self.connection.as_ref().and_then(|connection| connection.port) {
            self.ground.notify(port);
        }
    }
}

impl<G: Ground> Driver for Hostile<G> {
    fn offer(&mut self, peer: &Peer<'_>) -> Option<Keys> {
        let reference = self.ground.share_ring(peer.domain, self.page)?;
        let port = self.ground.listen(peer.domain)?;
        let ring = RingFront::new(&self.page.0);
        let connection = Connection { ring, reference, port: Some(port), served: false, peer: peer.domain };
        self.connection = Some(connection);
        let (reference, port) = match ACTS.get(self.act) {
            Some(Act::Keys) => ("400".into(), "4000".into()),
            _ => (reference.to_string(), port.to_string()),
        };
        Some(Keys::from([("ring-ref".into(), reference), ("event-channel".into(), port)]))
    }

    fn connect(&mut self, _: &Peer<'_>) -> Option<Keys> {
        self.connection.as_mut()?.served = true;
        Some(Keys::new())
    }

    fn disconnect(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if let Some(port) = connection.port {
            self.ground.close(port);
        }
        if !self.ground.unshare(connection.reference) {
            self.page = Box::leak(Box::default());
        }
        let refused = ACTS.get(self.act) == Some(&Act::Keys) && !connection.served;
        self.ended = self.began && connection.served || refused;
    }
}
