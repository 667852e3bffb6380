//! What both ends have: a half that publishes messages and a half that takes them, each with private indices.
//!
//! An end never reads back an index that it wrote, because the peer may have changed it.

use crate::PeerBroken;
use crate::sync::{AtomicU32, Ordering, fence};

/// Requests in the front end, responses in the back end.
#[derive(Debug)]
pub(super) struct Putting<'a> {
    shared_prod: &'a AtomicU32,
    shared_event: &'a AtomicU32,
    /// The index of the next message.
    pub next: u32,
    /// What the peer has been shown: messages below this index.
    pub published: u32,
}

impl<'a> Putting<'a> {
    pub fn new(shared_prod: &'a AtomicU32, shared_event: &'a AtomicU32) -> Self {
        Self { shared_prod, shared_event, next: 0, published: 0 }
    }

    /// `RING_PUSH_..._AND_CHECK_NOTIFY`: shows the peer all that was put, and says if it wants an event for it.
    #[inline]
    pub fn publish(&mut self) -> bool {
        let fresh = self.next.wrapping_sub(self.published);
        self.published = self.next;
        // Release: the messages before the index that shows them.
        self.shared_prod.store(self.next, Ordering::Release);
        // The index before the look at the event; the peer asks for the event before it looks at the index.
        fence(Ordering::SeqCst);
        self.next.wrapping_sub(self.shared_event.load(Ordering::Relaxed)) < fresh
    }
}

/// Responses in the front end, requests in the back end.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    shared_prod: &'a AtomicU32,
    shared_event: &'a AtomicU32,
    /// The index of the next message to take.
    pub next: u32,
    /// The peer's index as last seen and checked; not behind `next`.
    seen: u32,
    broken: bool,
}

impl<'a> Taking<'a> {
    pub fn new(shared_prod: &'a AtomicU32, shared_event: &'a AtomicU32) -> Self {
        Self { shared_prod, shared_event, next: 0, seen: 0, broken: false }
    }

    /// Whether there is a message to take. `limit` is the index that an honest peer's cannot be ahead of.
    ///
    /// The peer's index is looked at only when all it has shown is taken, so one that went back looks like one
    /// that ran far ahead, and both are seen here.
    #[inline]
    pub fn available(&mut self, limit: u32) -> Result<bool, PeerBroken> {
        if self.seen != self.next {
            return Ok(true);
        }
        if self.broken {
            return Err(PeerBroken);
        }
        // Acquire: the messages are at least as new as the index that shows them.
        let prod = self.shared_prod.load(Ordering::Acquire);
        if prod.wrapping_sub(self.next) > limit.wrapping_sub(self.next) {
            self.broken = true;
            return Err(PeerBroken);
        }
        self.seen = prod;
        Ok(prod != self.next)
    }

    /// `RING_FINAL_CHECK_FOR_...`: asks for an event at the next message. True: one is there already, take it first.
    pub fn final_check(&mut self, limit: u32) -> Result<bool, PeerBroken> {
        if self.available(limit)? {
            return Ok(true);
        }
        self.shared_event.store(self.next.wrapping_add(1), Ordering::Relaxed);
        // The other half of the rule in `Putting::publish`.
        fence(Ordering::SeqCst);
        self.available(limit)
    }
}
