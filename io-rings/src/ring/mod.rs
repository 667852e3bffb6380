//! Xen's request and response ring, as its public header `io/ring.h` lays it out.
//!
//! ```text
//! 0    req_prod   req_event   rsp_prod   rsp_event     four free-running 32-bit indices
//! 16   private words, zero                             up to byte 64
//! 64   slots, a power of two; slot i serves index i modulo their count
//! ```
//!
//! The front end puts requests, the back end takes each and later puts a response **in the slot of a request it
//! has taken**. So there are never more responses than requests, and never more requests under way than slots:
//! both ends hold the other to that (`RING_REQUEST_PROD_OVERFLOW`, `RING_RESPONSE_PROD_OVERFLOW`, and stricter for
//! responses: no more than requests were published). Responses may come in any order; an id in the message pairs
//! them up.
//!
//! **The notify rule.** `req_event` and `rsp_event` say at which index the other side wants an event. Who publishes
//! messages fences and notifies if the event index lies among those just published
//! ([`Front::push_and_check_notify`], `RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`). Who wants to sleep asks for an event
//! at the very next message, fences, and looks once more ([`Back::final_check`], `RING_FINAL_CHECK_FOR_REQUESTS`).
//!
//! A [`Protocol`] names the message types and the slots. Messages are plain bytes (`zerocopy`) and are copied into
//! and out of the page word by word, so nothing here refers into memory that the peer can write.

mod back;
mod front;
mod halves;
mod slots;

pub use back::Back;
pub use front::Front;
pub use slots::{Plain, Slots, Slots32, Slots64};

use core::fmt;

pub use crate::PeerBroken;
use crate::sync::{AtomicU32, Ordering, array_of};

/// What goes over a ring: the two message types and the slots that hold either.
pub trait Protocol {
    /// What the front end asks.
    type Request: Plain;
    /// What the back end answers.
    type Response: Plain;
    /// [`Slots32`] or [`Slots64`], each slot as large as the larger message, their count a power of two.
    type Slots: Slots;
}

/// No slot to put the message in: all are under way (front), or every request taken has its response (back).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSlot;

impl fmt::Display for NoSlot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the ring has no slot for this message")
    }
}

impl core::error::Error for NoSlot {}

/// The indices in front of the slots.
#[derive(Debug)]
#[repr(C)]
struct Header {
    req_prod: AtomicU32,
    req_event: AtomicU32,
    rsp_prod: AtomicU32,
    rsp_event: AtomicU32,
    private: [AtomicU32; 12],
}

/// The shared page of a ring, or the part of it that is used. Fresh only after a [`Front`] was made on it.
#[derive(Debug)]
#[repr(C)]
pub struct Ring<P: Protocol> {
    header: Header,
    slots: P::Slots,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Header>() == 64, "the slots begin at byte 64");

impl<P: Protocol> Ring<P> {
    /// What is checked once per protocol, while compiling.
    const LAYOUT: () = {
        assert!(P::Slots::COUNT.is_power_of_two(), "a slot is found by masking the index");
        assert!(size_of::<P::Request>() <= P::Slots::BYTES, "a request fits a slot");
        assert!(size_of::<P::Response>() <= P::Slots::BYTES, "a response fits a slot");
        #[cfg(not(loom))]
        assert!(size_of::<Self>() == 64 + P::Slots::COUNT as usize * P::Slots::BYTES, "no padding");
    };

    /// A fresh ring in memory of one's own.
    pub fn new() -> Self {
        let header = Header {
            req_prod: AtomicU32::new(0),
            req_event: AtomicU32::new(1),
            rsp_prod: AtomicU32::new(0),
            rsp_event: AtomicU32::new(1),
            private: array_of![AtomicU32::new(0); 12],
        };
        Self { header, slots: P::Slots::zeroed() }
    }

    /// `SHARED_RING_INIT`: both ends at index 0, both wanting an event at the first message.
    fn reset(&self) {
        let header = &self.header;
        for word in &header.private {
            word.store(0, Ordering::Relaxed);
        }
        header.req_event.store(1, Ordering::Relaxed);
        header.rsp_event.store(1, Ordering::Relaxed);
        header.req_prod.store(0, Ordering::Release);
        header.rsp_prod.store(0, Ordering::Release);
    }

    /// The words of the page as a scribbling peer sees them: see [`crate::hostile`].
    pub(crate) fn words(&self) -> impl Iterator<Item = crate::hostile::Word<'_>> {
        let header = &self.header;
        [&header.req_prod, &header.req_event, &header.rsp_prod, &header.rsp_event]
            .into_iter()
            .chain(&header.private)
            .map(crate::hostile::Word::Half)
            .chain(self.slots.words())
    }
}

impl<P: Protocol> Default for Ring<P> {
    fn default() -> Self {
        Self::new()
    }
}
