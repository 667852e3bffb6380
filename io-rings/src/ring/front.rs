//! The front end: a driver in a guest, which asks.

use super::halves::{Putting, Taking};
use super::{NoSlot, PeerBroken, Protocol, Ring, Slots};

/// The private half of the end that puts requests and takes responses.
#[derive(Debug)]
pub struct Front<'a, P: Protocol> {
    slots: &'a P::Slots,
    requests: Putting<'a>,
    responses: Taking<'a>,
}

impl<'a, P: Protocol> Front<'a, P> {
    /// Makes the ring fresh and attaches to it. The back end attaches afterwards.
    pub fn new(ring: &'a Ring<P>) -> Self {
        const { Ring::<P>::LAYOUT };
        ring.reset();
        let header = &ring.header;
        Self {
            slots: &ring.slots,
            requests: Putting::new(&header.req_prod, &header.req_event),
            responses: Taking::new(&header.rsp_prod, &header.rsp_event),
        }
    }

    /// `RING_FREE_REQUESTS`: how many requests can be put now. Taking a response frees its slot.
    #[inline]
    pub fn free_requests(&self) -> u32 {
        let under_way = self.requests.next.wrapping_sub(self.responses.next);
        P::Slots::COUNT.wrapping_sub(under_way)
    }

    /// Puts one request, which the back end sees only after [`Front::push_and_check_notify`].
    #[inline]
    pub fn push_request(&mut self, request: &P::Request) -> Result<(), NoSlot> {
        if self.free_requests() == 0 {
            return Err(NoSlot);
        }
        self.slots.store(self.requests.next, request);
        self.requests.next = self.requests.next.wrapping_add(1);
        Ok(())
    }

    /// Puts as many of the requests as there are slots, and says how many.
    pub fn push_requests<'r>(&mut self, requests: impl IntoIterator<Item = &'r P::Request>) -> usize
    where
        P::Request: 'r,
    {
        requests.into_iter().take_while(|request| self.push_request(request).is_ok()).count()
    }

    /// `RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`: shows the back end what was put. True: it wants an event for it.
    #[inline]
    pub fn push_and_check_notify(&mut self) -> bool {
        self.requests.publish()
    }

    /// The next response, copied out of the page, if there is one.
    #[inline]
    pub fn take_response(&mut self) -> Result<Option<P::Response>, PeerBroken> {
        if !self.responses.available(self.requests.published)? {
            return Ok(None);
        }
        let response = self.slots.load(self.responses.next);
        self.responses.next = self.responses.next.wrapping_add(1);
        Ok(Some(response))
    }

    /// `RING_FINAL_CHECK_FOR_RESPONSES`, before sleeping: asks for an event at the next response. True: do not
    /// sleep, one is there.
    pub fn final_check(&mut self) -> Result<bool, PeerBroken> {
        self.responses.final_check(self.requests.published)
    }
}
