//! One guest's ring, seen from the store.
//!
//! A guest that breaks the rules is served no more, and told why in the page; it may ask for a fresh beginning there,
//! and gets one, without the watches and transactions it had. What it wrote, and what was acknowledged, stays.

use abi::xen::DomId;
use abi::xen::event_channel::Port;
use abi::xen::xs_wire::{connection, fault, feature};
use io_rings::bytes::XenstorePage;

use super::quota;
use super::store::Store;
use crate::xenstore::wire::{Assembler, ByteRing, PageEnd};

/// Requests taken from one guest in one turn.
pub const REQUESTS: usize = 16;

/// A byte ring that can be begun anew.
pub trait ServedRing: ByteRing {
    /// Whether the guest asks for that.
    fn asks_to_begin_anew(&self) -> bool;
    /// Empties the ring and says so.
    fn begin_anew(&mut self);
    /// Says why the guest is served no more.
    fn fail(&mut self, fault: u32);
}

/// The ring in the page that guests have.
#[derive(Debug)]
pub struct PageRing {
    page: &'static XenstorePage,
    end: PageEnd,
}

impl PageRing {
    /// The ring in a fresh page.
    pub fn new(page: &'static XenstorePage) -> Self {
        page.offer(feature::RECONNECTION | feature::ERROR);
        Self { page, end: PageEnd::back(page) }
    }
}

impl ByteRing for PageRing {
    fn read(&mut self, into: &mut [u8]) -> usize {
        self.end.read(into)
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        self.end.write(bytes)
    }

    fn broken(&self) -> bool {
        self.end.broken()
    }
}

impl ServedRing for PageRing {
    fn asks_to_begin_anew(&self) -> bool {
        self.page.connection() == connection::RECONNECT
    }

    fn begin_anew(&mut self) {
        // The guest touches nothing until the state changes; one that does all the same harms its own ring.
        self.page.begin_anew(connection::RECONNECT);
        self.page.offer(feature::RECONNECTION | feature::ERROR);
        self.end = PageEnd::back(self.page);
        self.page.set_connection(connection::CONNECTED);
    }

    fn fail(&mut self, fault: u32) {
        self.page.set_error(fault);
    }
}

/// A ring with what was taken from it so far.
#[derive(Debug)]
pub struct Link<R> {
    /// The ring.
    pub ring: R,
    /// Our port.
    pub port: Port,
    input: Assembler,
    failed: bool,
    /// Bytes moved, so that the guest is to be told.
    moved: bool,
}

impl<R: ServedRing> Link<R> {
    /// A link at its beginning.
    pub fn new(ring: R, port: Port) -> Self {
        Self { ring, port, input: Assembler::default(), failed: false, moved: false }
    }

    /// Takes some requests. True: there may be more.
    pub fn take(&mut self, store: &mut Store, domain: DomId) -> bool {
        if self.ring.asks_to_begin_anew() {
            self.forget(store, domain);
            self.ring.begin_anew();
            self.failed = false;
            self.moved = true;
        }
        if self.failed {
            return false;
        }
        for _ in 0..REQUESTS {
            let answers = store.sessions.get(&domain).map_or(0, |session| session.outbox.answers());
            if answers >= quota::OUTSTANDING {
                // It has to read first, and tells us when it has.
                return false;
            }
            match self.input.take(&mut self.ring) {
                Ok(Some(message)) => {
                    self.moved = true;
                    store.request(domain, &message);
                    self.flush(store, domain);
                }
                Ok(None) => {
                    if self.ring.broken() {
                        self.fail(store, domain, fault::RINGIDX);
                    }
                    return false;
                }
                Err(_) => {
                    self.fail(store, domain, fault::PROTO);
                    return false;
                }
            }
        }
        true
    }

    /// Writes what waits for the guest, as far as there is room.
    pub fn flush(&mut self, store: &mut Store, domain: DomId) {
        if self.failed {
            return;
        }
        let Some(session) = store.sessions.get_mut(&domain) else { return };
        self.moved |= session.outbox.flush(&mut self.ring);
        if self.ring.broken() {
            self.fail(store, domain, fault::RINGIDX);
        }
    }

    /// Whether the guest is to be told that bytes moved; true once.
    pub fn moved(&mut self) -> bool {
        core::mem::take(&mut self.moved)
    }

    fn fail(&mut self, store: &mut Store, domain: DomId, fault: u32) {
        self.failed = true;
        self.moved = true;
        self.forget(store, domain);
        self.ring.fail(fault);
    }

    fn forget(&mut self, store: &mut Store, domain: DomId) {
        self.input = Assembler::default();
        if let Some(session) = store.sessions.get_mut(&domain) {
            session.reset();
            session.outbox = super::session::Outbox::default();
        }
    }
}
