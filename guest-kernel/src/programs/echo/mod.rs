//! A block device of the smallest kind, between two guests: blocks of a page, written and read back over Xen's ring.
//!
//! It is here to show what a block device needs, end to end: [`front`] and [`back`] are drivers of
//! [`xenbus`](crate::xenbus), the ring is [`io_rings::ring`], data lies in pages that the front end grants and the back
//! end copies from and to, and what both need of the world below is [`Ground`]. Requests that were under way when the
//! back end went away are sent again to the next one. [`hostile`] is a front end that breaks every rule there is.

pub mod back;
pub mod front;
pub mod hostile;
pub mod work;

#[cfg(test)]
pub(crate) mod tests;

use abi::xen::DomId;
use abi::xen::event_channel::Port;
use abi::xen::grant_table::status as grant_status;
use core::sync::atomic::{AtomicU64, Ordering};
use io_rings::ring::{Protocol, Ring, Slots64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of a block.
pub const BLOCK_BYTES: u32 = 4096;
/// The most requests under way.
pub const DEPTH: usize = 32;

/// What is to be done.
pub mod operation {
    /// Those of the block's bytes come back.
    pub const READ: u32 = 0;
    /// Those of the block's bytes become the page's.
    pub const WRITE: u32 = 1;
    /// The back end's own figures come back, in the words of [`Figures`](super::Figures) from the page's start on.
    pub const FIGURES: u32 = 2;
}

/// How it went.
pub mod status {
    /// Done.
    pub const OKAY: u32 = 0;
    /// There is no such block.
    pub const NO_BLOCK: u32 = 1;
    /// There is no such operation.
    pub const NO_OPERATION: u32 = 2;
    /// There are no such bytes in a block.
    pub const NO_BYTES: u32 = 3;
    /// The page is not granted, or not so.
    pub const NO_PAGE: u32 = 4;
}

/// A request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Request {
    /// Comes back in the response.
    pub id: u64,
    /// Which block.
    pub block: u64,
    /// An [`operation`].
    pub operation: u32,
    /// The page, as it is granted.
    pub reference: u32,
    /// The first byte, in the page and in the block.
    pub offset: u32,
    /// How many.
    pub bytes: u32,
}

/// A response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// A [`status`].
    pub status: u32,
    /// Zero.
    pub padding: u32,
}

/// The ring's shape: 64 slots of 32 bytes, which is what Xen's rule makes of a page.
#[derive(Debug)]
pub struct Echo;

impl Protocol for Echo {
    type Request = Request;
    type Response = Response;
    type Slots = Slots64<4, 64>;
}

/// A page with nothing but the ring.
#[derive(Debug, Default)]
#[repr(C, align(4096))]
pub struct EchoPage(pub Ring<Echo>);

/// A page of data, which the other side may read or write at any time.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Block(pub [AtomicU64; 512]);

impl Default for Block {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }
}

impl Block {
    /// Fills it with what belongs to this number.
    pub fn fill(&self, number: u64) {
        for (word, value) in self.0.iter().zip(pattern(number)) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Whether it holds what belongs to this number.
    pub fn is_filled(&self, number: u64) -> bool {
        self.0.iter().zip(pattern(number)).all(|(word, value)| word.load(Ordering::Relaxed) == value)
    }
}

fn pattern(number: u64) -> impl Iterator<Item = u64> {
    (0..).map(move |place: u64| (number << 32 | place).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// What an end has spent: on a core of its own, all in ticks of that core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Awake, outside of the hypervisor.
    pub awake: u64,
    /// In hypercalls.
    pub hypervisor: u64,
    /// Hypercalls, each of which is an exit.
    pub calls: u64,
}

impl Figures {
    /// In words, for a block.
    pub fn words(self) -> [u64; 3] {
        [self.awake, self.hypervisor, self.calls]
    }

    /// From such words.
    pub fn from_block(block: &Block) -> Self {
        let word = |place: usize| block.0.get(place).map_or(0, |word| word.load(Ordering::Relaxed));
        Self { awake: word(0), hypervisor: word(1), calls: word(2) }
    }

    /// What was spent since.
    pub fn since(self, before: Self) -> Self {
        Self {
            awake: self.awake.wrapping_sub(before.awake),
            hypervisor: self.hypervisor.wrapping_sub(before.hypervisor),
            calls: self.calls.wrapping_sub(before.calls),
        }
    }
}

/// Bytes to be copied between a block of ours and the page of the same offsets that the other domain grants.
#[derive(Clone, Copy, Debug)]
pub struct Move<'a> {
    /// The page.
    pub reference: u32,
    /// Our block.
    pub block: &'a Block,
    /// To the other domain's page.
    pub out: bool,
    /// The first byte, in either.
    pub offset: u16,
    /// How many.
    pub bytes: u16,
    /// What came of it: a [`status`](grant_status) of the grant table's.
    pub result: i16,
}

impl Move<'_> {
    fn is_done(&self) -> bool {
        self.result == grant_status::OKAY
    }
}

/// Whether the other domain may write to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// It may only read.
    ReadOnly,
    /// It may do both.
    Writable,
}

/// What an end needs of the world below. A reference is what a page is known by to the other domain.
pub trait Ground {
    /// Shares the page of a ring with `domain`.
    fn share_ring(&mut self, domain: DomId, page: &'static EchoPage) -> Option<u32>;
    /// Shares a page of data.
    fn share_block(&mut self, domain: DomId, page: &'static Block, shared: Shared) -> Option<u32>;
    /// Takes a page back. False: the other domain still uses it, and it is never to be used for anything else.
    fn unshare(&mut self, reference: u32) -> bool;
    /// Maps a ring that `domain` shares.
    fn map(&mut self, domain: DomId, reference: u32) -> Option<&'static EchoPage>;
    /// Gives it back.
    fn unmap(&mut self, domain: DomId, reference: u32);
    /// Copies all of these, in order; each has its own result.
    fn copy(&mut self, domain: DomId, moves: &mut [Move<'_>]);
    /// A port that `domain` may bind to.
    fn listen(&mut self, domain: DomId) -> Option<Port>;
    /// A port that is joined to that one of `domain`.
    fn bind(&mut self, domain: DomId, port: Port) -> Option<Port>;
    /// Gives a port back.
    fn close(&mut self, port: Port);
    /// Sends an event.
    fn notify(&mut self, port: Port);
}
