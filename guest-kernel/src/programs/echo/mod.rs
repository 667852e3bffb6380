//! A device of the smallest kind, between two guests: sectors of 32 bytes, written and read back over Xen's ring.
//!
//! It is here to show what a block device needs, end to end: [`front`] and [`back`] are drivers of
//! [`xenbus`](crate::xenbus), the ring is [`io_rings::ring`], and what they need of the world below is [`Ground`]:
//! pages to share and events. Requests that were under way when the back end went away are sent again to the next one,
//! and what was acknowledged is there.

pub mod back;
pub mod front;

#[cfg(test)]
mod tests;

use abi::xen::DomId;
use abi::xen::event_channel::Port;
use io_rings::ring::{Protocol, Ring, Slots64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of a sector.
pub const SECTOR: usize = 32;

/// What is to be done.
pub mod operation {
    /// The sector's bytes come back.
    pub const READ: u32 = 0;
    /// The sector becomes these bytes.
    pub const WRITE: u32 = 1;
}

/// How it went.
pub mod status {
    /// Done.
    pub const OKAY: u32 = 0;
    /// There is no such sector.
    pub const NO_SECTOR: u32 = 1;
    /// There is no such operation.
    pub const NO_OPERATION: u32 = 2;
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Request {
    /// Comes back in the response.
    pub id: u64,
    /// Which sector.
    pub sector: u64,
    /// An [`operation`].
    pub operation: u32,
    /// Zero.
    pub padding: u32,
    /// What to write.
    pub data: [u8; SECTOR],
}

/// A response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// A [`status`].
    pub status: u32,
    /// Zero.
    pub padding: u32,
    /// What was read.
    pub data: [u8; SECTOR],
}

/// The ring's shape: 32 slots of 64 bytes.
#[derive(Debug)]
pub struct Echo;

impl Protocol for Echo {
    type Request = Request;
    type Response = Response;
    type Slots = Slots64<8, 32>;
}

/// A page with nothing but the ring.
#[derive(Debug, Default)]
#[repr(C, align(4096))]
pub struct EchoPage(pub Ring<Echo>);

/// What an end needs of the world below.
pub trait Ground {
    /// Shares a page with `domain`: what it is known by there, and the page.
    fn share(&mut self, domain: DomId) -> Option<(u32, &'static EchoPage)>;
    /// Takes a page back that was shared.
    fn unshare(&mut self, reference: u32);
    /// Maps a page that `domain` shares.
    fn map(&mut self, domain: DomId, reference: u32) -> Option<&'static EchoPage>;
    /// Gives it back.
    fn unmap(&mut self, domain: DomId, reference: u32);
    /// A port that `domain` may bind to.
    fn listen(&mut self, domain: DomId) -> Option<Port>;
    /// A port that is joined to that one of `domain`.
    fn bind(&mut self, domain: DomId, port: Port) -> Option<Port>;
    /// Gives a port back.
    fn close(&mut self, port: Port);
    /// Sends an event.
    fn notify(&mut self, port: Port);
}
