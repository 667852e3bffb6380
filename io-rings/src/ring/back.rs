//! The back end: the driver domain, which answers.

use super::halves::{Putting, Taking};
use super::{NoSlot, PeerBroken, Protocol, Ring, Slots};

/// The private half of the end that takes requests and puts responses.
#[derive(Debug)]
pub struct Back<'a, P: Protocol> {
    slots: &'a P::Slots,
    requests: Taking<'a>,
    responses: Putting<'a>,
}

impl<'a, P: Protocol> Back<'a, P> {
    /// Attaches to a ring that a front end has made fresh.
    pub fn new(ring: &'a Ring<P>) -> Self {
        const { Ring::<P>::LAYOUT };
        let header = &ring.header;
        Self {
            slots: &ring.slots,
            requests: Taking::new(&header.req_prod, &header.req_event),
            responses: Putting::new(&header.rsp_prod, &header.rsp_event),
        }
    }

    /// The next request, copied out of the page, if there is one.
    #[inline]
    pub fn take_request(&mut self) -> Result<Option<P::Request>, PeerBroken> {
        let limit = self.request_limit();
        if !self.requests.available(limit)? {
            return Ok(None);
        }
        let request = self.slots.load(self.requests.next);
        self.requests.next = self.requests.next.wrapping_add(1);
        Ok(Some(request))
    }

    /// How many requests were taken and have no response yet.
    #[inline]
    pub fn owed(&self) -> u32 {
        self.requests.next.wrapping_sub(self.responses.next)
    }

    /// Puts one response, which the front end sees only after [`Back::push_and_check_notify`].
    #[inline]
    pub fn push_response(&mut self, response: &P::Response) -> Result<(), NoSlot> {
        if self.owed() == 0 {
            return Err(NoSlot);
        }
        self.slots.store(self.responses.next, response);
        self.responses.next = self.responses.next.wrapping_add(1);
        Ok(())
    }

    /// `RING_PUSH_RESPONSES_AND_CHECK_NOTIFY`: shows the front end what was put. True: it wants an event for it.
    #[inline]
    pub fn push_and_check_notify(&mut self) -> bool {
        self.responses.publish()
    }

    /// `RING_FINAL_CHECK_FOR_REQUESTS`, before sleeping: asks for an event at the next request. True: do not
    /// sleep, one is there.
    pub fn final_check(&mut self) -> Result<bool, PeerBroken> {
        let limit = self.request_limit();
        self.requests.final_check(limit)
    }

    /// `RING_REQUEST_PROD_OVERFLOW`: requests without a published response cannot outnumber the slots.
    ///
    /// Unpublished responses do not count: the front end cannot have reused their slots.
    #[inline]
    fn request_limit(&self) -> u32 {
        self.responses.published.wrapping_add(P::Slots::COUNT)
    }
}
