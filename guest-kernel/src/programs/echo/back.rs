//! The end that keeps the blocks.

use abi::xen::DomId;
use abi::xen::event_channel::Port;
use abi::xen::grant_table::status as grant_status;
use alloc::string::ToString;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use io_rings::PeerBroken;
use io_rings::ring::Back as RingBack;

use super::{BLOCK_BYTES, Block, DEPTH, Echo, Figures, Ground, Move, Request, Response, operation, status};
use crate::xenbus::{Driver, Keys, Peer};

#[derive(Debug)]
struct Connection {
    ring: RingBack<'static, Echo>,
    domain: DomId,
    reference: u32,
    port: Port,
}

/// The back end of one device. The blocks are not its own: several devices may have the same.
#[derive(Debug)]
pub struct Back<G> {
    /// The world below.
    pub ground: G,
    blocks: u64,
    connection: Option<Connection>,
}

impl<G: Ground> Back<G> {
    /// A back end that will tell of so many blocks.
    pub fn new(ground: G, blocks: u64) -> Self {
        Self { ground, blocks, connection: None }
    }

    /// Its port, while it has one.
    pub fn port(&self) -> Option<Port> {
        self.connection.as_ref().map(|connection| connection.port)
    }

    /// Answers what there is, a batch of it: how many that were. A batch costs one copy at most, and one event at most.
    /// Figures that are asked for are written to `scratch` on their way.
    pub fn serve(
        &mut self,
        blocks: &[Block],
        scratch: &Block,
        figures: impl Fn() -> Figures,
    ) -> Result<usize, PeerBroken> {
        let Self { ground, connection: Some(connection), .. } = self else { return Ok(0) };
        let mut answers = ArrayVec::<Response, DEPTH>::new();
        let mut moves = ArrayVec::<Move<'_>, DEPTH>::new();
        // What each move is the answer to.
        let mut places = ArrayVec::<usize, DEPTH>::new();
        while !answers.is_full()
            && let Some(request) = connection.ring.take_request()?
        {
            let status = match plan(blocks, scratch, &figures, &request) {
                Ok(planned) => {
                    places.push(answers.len());
                    moves.push(planned);
                    status::OKAY
                }
                Err(status) => status,
            };
            answers.push(Response { id: request.id, status, padding: 0 });
        }
        if answers.is_empty() {
            return Ok(0);
        }
        if !moves.is_empty() {
            ground.copy(connection.domain, &mut moves);
        }
        for (place, _) in places.iter().zip(&moves).filter(|(_, done)| !done.is_done()) {
            if let Some(answer) = answers.get_mut(*place) {
                answer.status = status::NO_PAGE;
            }
        }
        for answer in &answers {
            // There is a slot: it is the request's.
            let _ = connection.ring.push_response(answer);
        }
        if connection.ring.push_and_check_notify() {
            ground.notify(connection.port);
        }
        Ok(answers.len())
    }

    /// Before sleeping: asks for an event with the next request. True: one is there already.
    pub fn final_check(&mut self) -> Result<bool, PeerBroken> {
        self.connection.as_mut().map_or(Ok(false), |connection| connection.ring.final_check())
    }
}

/// What is to be copied for a request, or why it cannot be.
fn plan<'a>(
    blocks: &'a [Block],
    scratch: &'a Block,
    figures: &impl Fn() -> Figures,
    request: &Request,
) -> Result<Move<'a>, u32> {
    let (block, out) = match request.operation {
        operation::READ | operation::WRITE => {
            let place = usize::try_from(request.block).ok().and_then(|block| blocks.get(block));
            (place.ok_or(status::NO_BLOCK)?, request.operation == operation::READ)
        }
        operation::FIGURES => {
            for (word, value) in scratch.0.iter().zip(figures().words()) {
                word.store(value, Ordering::Relaxed);
            }
            (scratch, true)
        }
        _ => return Err(status::NO_OPERATION),
    };
    let end = request.offset.checked_add(request.bytes).ok_or(status::NO_BYTES)?;
    if end > BLOCK_BYTES || request.bytes == 0 {
        return Err(status::NO_BYTES);
    }
    // Both are no more than a block has.
    let (offset, bytes) = (request.offset as u16, request.bytes as u16);
    Ok(Move { reference: request.reference, block, out, offset, bytes, result: grant_status::GENERAL_ERROR })
}

impl<G: Ground> Driver for Back<G> {
    fn offer(&mut self, _: &Peer<'_>) -> Option<Keys> {
        Some(Keys::from([("blocks".into(), self.blocks.to_string())]))
    }

    fn connect(&mut self, peer: &Peer<'_>) -> Option<Keys> {
        self.disconnect();
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
