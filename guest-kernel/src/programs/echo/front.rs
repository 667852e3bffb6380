//! The end that reads and writes.

use abi::xen::event_channel::Port;
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use io_rings::PeerBroken;
use io_rings::ring::Front as RingFront;

use super::{BLOCK_BYTES, Block, DEPTH, Echo, EchoPage, Ground, Request, Response, Shared, operation};
use crate::xenbus::{Driver, Keys, Peer};

/// What it has while there is a back end, or while it offers itself to one.
#[derive(Debug)]
struct Connection {
    ring: RingFront<'static, Echo>,
    page: &'static EchoPage,
    reference: u32,
    port: Port,
    /// The back end serves it.
    served: bool,
}

/// Room for one request: its page, which the back end may use while there is a connection.
#[derive(Debug)]
struct Place {
    request: Option<Request>,
    page: &'static Block,
    reference: Option<u32>,
}

/// The front end.
#[derive(Debug)]
pub struct Front<G> {
    /// The world below.
    pub ground: G,
    connection: Option<Connection>,
    /// Pages for the ring; and those that the other end still had when they were last asked back, by their references.
    ring_pages: Vec<&'static EchoPage>,
    lingering: Vec<(u32, &'static EchoPage)>,
    /// The request of number n is in place n modulo [`DEPTH`].
    places: Vec<Place>,
    under_way: usize,
    /// The number of the first request that is not in the ring, and of the next one to be made.
    unsent: u64,
    next: u64,
    blocks: u64,
}

impl<G: Ground> Front<G> {
    /// A front end that knows no back end.
    pub fn new(ground: G) -> Self {
        let place = || Place { request: None, page: Box::leak(Box::default()), reference: None };
        Self {
            ground,
            connection: None,
            ring_pages: Vec::new(),
            lingering: Vec::new(),
            places: (0..DEPTH).map(|_| place()).collect(),
            under_way: 0,
            unsent: 0,
            next: 0,
            blocks: 0,
        }
    }

    /// Blocks that the back end has, once it is connected.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether a back end serves it.
    pub fn is_served(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.served)
    }

    /// Its port, while it has one.
    pub fn port(&self) -> Option<Port> {
        self.connection.as_ref().map(|connection| connection.port)
    }

    /// Requests without an answer.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// The page of the next request, to be filled; `None` while that is still under way.
    pub fn page(&self) -> Option<&'static Block> {
        let place = self.places.get(self.next as usize % DEPTH)?;
        place.request.is_none().then_some(place.page)
    }

    /// Makes a request about a whole block: its number. `None`: there is no room until an answer comes.
    pub fn ask(&mut self, operation: u32, block: u64) -> Option<u64> {
        let id = self.next;
        let place = self.places.get_mut(id as usize % DEPTH).filter(|place| place.request.is_none())?;
        place.request = Some(Request { id, block, operation, reference: 0, offset: 0, bytes: BLOCK_BYTES });
        self.next += 1;
        self.under_way += 1;
        Some(id)
    }

    /// Has a block read.
    pub fn read(&mut self, block: u64) -> Option<u64> {
        self.ask(operation::READ, block)
    }

    /// Has a block written, with what is in [`Self::page`].
    pub fn write(&mut self, block: u64) -> Option<u64> {
        self.ask(operation::WRITE, block)
    }

    /// Puts requests into the ring, all at once, with one event at most.
    pub fn send(&mut self) {
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.served) else {
            return;
        };
        while self.unsent < self.next {
            if let Some(place) = self.places.get(self.unsent as usize % DEPTH)
                && let Some(request) = place.request.filter(|request| request.id == self.unsent)
            {
                let request = Request { reference: place.reference.unwrap_or(0), ..request };
                if connection.ring.push_request(&request).is_err() {
                    break;
                }
            }
            self.unsent += 1;
        }
        if connection.ring.push_and_check_notify() {
            self.ground.notify(connection.port);
        }
    }

    /// The next answer, and the page of its request until the next one is made. One to a request that was not made is
    /// none.
    pub fn take(&mut self) -> Result<Option<(Request, Response, &'static Block)>, PeerBroken> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        while let Some(response) = connection.ring.take_response()? {
            let Some(place) = self.places.get_mut(response.id as usize % DEPTH) else { continue };
            let sent = |request: &mut Request| request.id == response.id && response.id < self.unsent;
            if let Some(request) = place.request.take_if(sent) {
                self.under_way -= 1;
                return Ok(Some((request, response, place.page)));
            }
        }
        Ok(None)
    }

    /// Before sleeping: asks for an event with the next answer. True: one is there already.
    pub fn final_check(&mut self) -> Result<bool, PeerBroken> {
        self.connection.as_mut().map_or(Ok(false), |connection| connection.ring.final_check())
    }
}

impl<G: Ground> Front<G> {
    fn let_go(&mut self, reference: u32, page: &'static EchoPage) {
        if self.ground.unshare(reference) {
            self.ring_pages.push(page);
        } else {
            self.lingering.push((reference, page));
        }
    }
}

impl<G: Ground> Driver for Front<G> {
    fn offer(&mut self, peer: &Peer<'_>) -> Option<Keys> {
        for place in &mut self.places {
            place.reference = Some(self.ground.share_block(peer.domain, place.page, Shared::Writable)?);
        }
        for (reference, page) in core::mem::take(&mut self.lingering) {
            self.let_go(reference, page);
        }
        let page = self.ring_pages.pop().unwrap_or_else(|| Box::leak(Box::default()));
        let ring = RingFront::new(&page.0);
        let reference = self.ground.share_ring(peer.domain, page)?;
        let Some(port) = self.ground.listen(peer.domain) else {
            self.let_go(reference, page);
            return None;
        };
        self.connection = Some(Connection { ring, page, reference, port, served: false });
        Some(Keys::from([
            ("ring-ref".into(), reference.to_string()),
            ("event-channel".into(), port.to_string()),
        ]))
    }

    fn connect(&mut self, peer: &Peer<'_>) -> Option<Keys> {
        self.blocks = peer.number("blocks")?.into();
        self.connection.as_mut()?.served = true;
        // What the last back end has not answered.
        self.unsent = self.next.saturating_sub(DEPTH as u64);
        self.send();
        Some(Keys::new())
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.ground.close(connection.port);
            self.let_go(connection.reference, connection.page);
        }
        for place in &mut self.places {
            let Some(reference) = place.reference.take() else { continue };
            if !self.ground.unshare(reference) {
                let page: &'static Block = Box::leak(Box::default());
                for (new, old) in page.0.iter().zip(&place.page.0) {
                    new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                place.page = page;
            }
        }
    }
}
