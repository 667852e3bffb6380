//! The end that keeps the sectors.

use alloc::string::ToString;
use alloc::vec::Vec;

use abi::xen::DomId;
use abi::xen::event_channel::Port;
use io_rings::PeerBroken;
use io_rings::ring::Back as RingBack;

use super::{Echo, Ground, Request, Response, SECTOR, operation, status};
use crate::xenbus::{Driver, Keys, Peer};

/// Requests answered in one turn, with one event at most.
const BATCH: usize = 32;

#[derive(Debug)]
struct Connection {
    ring: RingBack<'static, Echo>,
    domain: DomId,
    reference: u32,
    port: Port,
}

/// The back end. Its sectors outlive the connection.
#[derive(Debug)]
pub struct Back<G> {
    /// The world below.
    pub ground: G,
    /// What it keeps.
    pub sectors: Vec<[u8; SECTOR]>,
    connection: Option<Connection>,
}

impl<G: Ground> Back<G> {
    /// A back end with these sectors.
    pub fn new(ground: G, sectors: Vec<[u8; SECTOR]>) -> Self {
        Self { ground, sectors, connection: None }
    }

    /// Its port, while it has one.
    pub fn port(&self) -> Option<Port> {
        self.connection.as_ref().map(|connection| connection.port)
    }

    /// Answers what there is, a batch of it: how many that were.
    pub fn serve(&mut self) -> Result<usize, PeerBroken> {
        let Self { ground, sectors, connection: Some(connection) } = self else { return Ok(0) };
        let mut served = 0;
        while served < BATCH
            && let Some(request) = connection.ring.take_request()?
        {
            // There is a slot: it is the request's.
            let _ = connection.ring.push_response(&answer(sectors, &request));
            served += 1;
        }
        if served > 0 && connection.ring.push_and_check_notify() {
            ground.notify(connection.port);
        }
        Ok(served)
    }

    /// Before sleeping: asks for an event with the next request. True: one is there already.
    pub fn final_check(&mut self) -> Result<bool, PeerBroken> {
        self.connection.as_mut().map_or(Ok(false), |connection| connection.ring.final_check())
    }
}

fn answer(sectors: &mut [[u8; SECTOR]], request: &Request) -> Response {
    let place = usize::try_from(request.sector).ok().and_then(|sector| sectors.get_mut(sector));
    let (status, data) = match (request.operation, place) {
        (operation::READ, Some(sector)) => (status::OKAY, *sector),
        (operation::WRITE, Some(sector)) => {
            *sector = request.data;
            (status::OKAY, [0; SECTOR])
        }
        (operation::READ | operation::WRITE, None) => (status::NO_SECTOR, [0; SECTOR]),
        _ => (status::NO_OPERATION, [0; SECTOR]),
    };
    Response { id: request.id, status, padding: 0, data }
}

impl<G: Ground> Driver for Back<G> {
    fn offer(&mut self, _: &Peer<'_>) -> Option<Keys> {
        Some(Keys::from([("sectors".into(), self.sectors.len().to_string())]))
    }

    fn connect(&mut self, peer: &Peer<'_>) -> Option<Keys> {
        let (reference, port) = (peer.number("ring-ref")?, peer.number("event-channel")?);
        let page = self.ground.map(peer.domain, reference)?;
        let Some(port) = self.ground.bind(peer.domain, port) else {
            self.ground.unmap(peer.domain, reference);
            return None;
        };
        let ring = RingBack::new(&page.0);
        self.connection = Some(Connection { ring, domain: peer.domain, reference, port });
        Some(Keys::new())
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.ground.close(connection.port);
            self.ground.unmap(connection.domain, connection.reference);
        }
    }
}
