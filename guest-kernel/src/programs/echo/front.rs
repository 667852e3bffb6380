//! The end that reads and writes.

use alloc::collections::BTreeMap;
use alloc::string::ToString;

use abi::xen::event_channel::Port;
use io_rings::PeerBroken;
use io_rings::ring::Front as RingFront;

use super::{Echo, Ground, Request, Response, SECTOR, operation};
use crate::xenbus::{Driver, Keys, Peer};

/// What it has while there is a back end, or while it offers itself to one.
#[derive(Debug)]
struct Connection {
    ring: RingFront<'static, Echo>,
    reference: u32,
    port: Port,
    /// The back end serves it.
    served: bool,
}

/// The front end.
#[derive(Debug)]
pub struct Front<G> {
    /// The world below.
    pub ground: G,
    connection: Option<Connection>,
    /// Requests without an answer, by their ids; those from `unsent` on are not in the ring.
    under_way: BTreeMap<u64, Request>,
    unsent: u64,
    next: u64,
    sectors: u64,
}

impl<G: Ground> Front<G> {
    /// A front end that knows no back end.
    pub fn new(ground: G) -> Self {
        Self { ground, connection: None, under_way: BTreeMap::new(), unsent: 0, next: 0, sectors: 0 }
    }

    /// Sectors that the back end has, once it is connected.
    pub fn sectors(&self) -> u64 {
        self.sectors
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
        self.under_way.len()
    }

    /// Has a sector read: the request's id.
    pub fn read(&mut self, sector: u64) -> u64 {
        self.queue(sector, operation::READ, [0; SECTOR])
    }

    /// Has a sector written: the request's id.
    pub fn write(&mut self, sector: u64, data: [u8; SECTOR]) -> u64 {
        self.queue(sector, operation::WRITE, data)
    }

    fn queue(&mut self, sector: u64, operation: u32, data: [u8; SECTOR]) -> u64 {
        let id = self.next;
        self.next += 1;
        self.under_way.insert(id, Request { id, sector, operation, padding: 0, data });
        id
    }

    /// Puts requests into the ring as far as there is room, all at once, with one event at most.
    pub fn send(&mut self) {
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.served) else {
            return;
        };
        let waiting = self.under_way.range(self.unsent..).map(|(_, request)| request);
        let count = connection.ring.push_requests(waiting);
        let last = self.under_way.range(self.unsent..).nth(count);
        self.unsent = last.map_or(self.next, |(id, _)| *id);
        if connection.ring.push_and_check_notify() {
            self.ground.notify(connection.port);
        }
    }

    /// The next answer. One to a request that was not made is none.
    pub fn take(&mut self) -> Result<Option<(Request, Response)>, PeerBroken> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        while let Some(response) = connection.ring.take_response()? {
            if response.id < self.unsent
                && let Some(request) = self.under_way.remove(&response.id)
            {
                return Ok(Some((request, response)));
            }
        }
        Ok(None)
    }

    /// Before sleeping: asks for an event with the next answer. True: one is there already.
    pub fn final_check(&mut self) -> Result<bool, PeerBroken> {
        self.connection.as_mut().map_or(Ok(false), |connection| connection.ring.final_check())
    }
}

impl<G: Ground> Driver for Front<G> {
    fn offer(&mut self, peer: &Peer<'_>) -> Option<Keys> {
        let (reference, page) = self.ground.share(peer.domain)?;
        let Some(port) = self.ground.listen(peer.domain) else {
            self.ground.unshare(reference);
            return None;
        };
        let ring = RingFront::new(&page.0);
        self.connection = Some(Connection { ring, reference, port, served: false });
        Some(Keys::from([
            ("ring-ref".into(), reference.to_string()),
            ("event-channel".into(), port.to_string()),
        ]))
    }

    fn connect(&mut self, peer: &Peer<'_>) -> Option<Keys> {
        self.sectors = peer.number("sectors")?.into();
        self.connection.as_mut()?.served = true;
        // What the last back end has not answered.
        self.unsent = 0;
        self.send();
        Some(Keys::new())
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.ground.close(connection.port);
            self.ground.unshare(connection.reference);
        }
    }
}
