//! Xenstore: the small tree of names and values that guests and domain 0 share, over Xen's wire.
//!
//! ```text
//! ring ── link ── message ── answers ── work ── transaction ── tree
//!                    │                                          │
//!                    └────────── session: watches, what waits ──┘
//! ```
//!
//! A [`link`] takes messages out of a guest's ring and puts answers and events in. [`answers`] is the list of requests;
//! [`work`] is what they do to nodes, always inside of a [`transaction`]; [`tree`] holds the nodes and counts who owns
//! how many; [`session`] is what else the store keeps for a domain. [`layout`] is what a toolstack writes for a guest,
//! [`quota`] how much of anything a guest may have. It maps nothing and sends no event: whoever calls
//! [`Xenstore::turn`] is told which ports to notify.
//!
//! What guests write is an allegation: a request that makes no sense is answered with the error that Xen's server has
//! for it, a stream that makes no sense ends that guest's conversation, and each guest gets a bounded part of a turn and
//! of the memory. Domain 0 has no ring: it calls the methods of [`Xenstore`].

mod answers;
pub mod layout;
pub mod link;
mod list;
pub mod path;
pub mod permission;
pub mod quota;
mod session;
mod store;
mod transaction;
mod tree;
mod work;

#[cfg(test)]
pub(crate) mod tests;

use abi::control::wire::XenstoreNode;
use abi::xen::DomId;
use abi::xen::event_channel::Port;
use abi::xen::xs_wire::Error;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use layout::{Device, Newcomer};
use link::{Link, ServedRing};
use permission::Access;
use session::Session;
use store::Store;
use tree::{INTRODUCE_DOMAIN, RELEASE_DOMAIN};

/// A change that domain 0 asked to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The path that changed.
    pub path: String,
    /// The watch's token.
    pub token: String,
}

/// The store and all its rings.
#[derive(Debug)]
pub struct Xenstore<R> {
    store: Store,
    links: BTreeMap<DomId, Link<R>>,
}

impl<R: ServedRing> Default for Xenstore<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: ServedRing> Xenstore<R> {
    /// A store without guests, with domain 0's own nodes.
    pub fn new() -> Self {
        let mut store = Store::new();
        for (path, value) in [("/local/domain/0/name", super::OWN_NAME), ("/local/domain/0/domid", "0")] {
            // Domain 0 may do all, and these paths are good.
            let _ = store.place(path, value.as_bytes(), &[]);
        }
        Self { store, links: BTreeMap::new() }
    }

    /// Makes a guest's nodes and begins to serve its ring, whose page is fresh; `port` is our end of its channel.
    pub fn introduce(&mut self, newcomer: &Newcomer<'_>, ring: R, port: Port) -> Result<(), Error> {
        let domain = newcomer.domain;
        if domain == 0 || self.links.contains_key(&domain) {
            return Err(Error::EINVAL);
        }
        self.store.furnish(newcomer)?;
        self.store.sessions.insert(domain, Session::default());
        self.links.insert(domain, Link::new(ring, port));
        self.store.fire_special(INTRODUCE_DOMAIN);
        Ok(())
    }

    /// A guest is gone: its ring is served no more, and its nodes and its rights go. The answer: our port, to be closed.
    pub fn release(&mut self, domain: DomId) -> Option<Port> {
        let link = self.links.remove(&domain)?;
        let home = path::home(domain);
        let vm = self.read(&path::child(&home, "vm")).and_then(|vm| String::from_utf8(vm).ok());
        for path in [Some(home), vm].into_iter().flatten() {
            // Not there is as good as gone.
            let _ = self.remove(&path);
        }
        self.store.forget(domain);
        self.store.fire_special(RELEASE_DOMAIN);
        Some(link.port)
    }

    /// A guest runs no more, though it is not gone: whoever watches for that is told, once.
    pub fn stopped(&mut self, domain: DomId) {
        if let Some(session) = self.store.sessions.get_mut(&domain)
            && !core::mem::replace(&mut session.stopped, true)
        {
            self.store.fire_special(RELEASE_DOMAIN);
        }
    }

    /// Whether a guest is served.
    pub fn is_introduced(&self, domain: DomId) -> bool {
        self.links.contains_key(&domain)
    }

    /// Serves all guests, each a bounded piece, and has those notified whose bytes moved. True: there may be more.
    pub fn turn(&mut self, mut notify: impl FnMut(Port)) -> bool {
        let mut more = false;
        for (domain, link) in &mut self.links {
            more |= link.take(&mut self.store, *domain);
        }
        for (domain, link) in &mut self.links {
            link.flush(&mut self.store, *domain);
            if link.moved() {
                notify(link.port);
            }
        }
        more
    }

    /// The value of a node.
    pub fn read(&mut self, path: &str) -> Option<Vec<u8>> {
        self.store.work(0, 0, |work| work.node(path, Access::READ)).ok().map(|node| node.value.clone())
    }

    /// Writes a node, and makes those above it.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), Error> {
        let path = path::absolute(0, path.as_bytes(), false)?;
        self.store.place(&path, value, &[])
    }

    /// Removes a node and all below it.
    pub fn remove(&mut self, path: &str) -> Result<(), Error> {
        let path = path::absolute(0, path.as_bytes(), false)?;
        self.store.work(0, 0, |work| work.remove(&path))
    }

    /// Has domain 0 told of changes at and below `path`, or of a special name; at once of its present state.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), Error> {
        let event = self.store.watch(0, path.as_bytes(), token.as_bytes())?;
        if let Some(session) = self.store.sessions.get_mut(&0) {
            session.tell(&event, usize::MAX);
        }
        Ok(())
    }

    /// Undoes [`Self::watch`].
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), Error> {
        self.store.unwatch(0, path.as_bytes(), token.as_bytes())
    }

    /// What domain 0 is to be told next.
    pub fn heard(&mut self) -> Option<Heard> {
        let event = self.store.sessions.get_mut(&0)?.take_event()?;
        let mut texts = crate::xenstore::wire::strings(&event).map(String::from_utf8_lossy);
        Some(Heard { path: texts.next()?.into_owned(), token: texts.next()?.into_owned() })
    }

    /// Makes the nodes of a device that two domains share.
    pub fn connect(&mut self, device: &Device<'_>) -> Result<(), Error> {
        self.store.connect(device)
    }

    /// Removes the nodes of such a device, and what was made for them alone.
    pub fn disconnect(&mut self, device: &Device<'_>) {
        let (front, back) = (device.front_path(), device.back_path());
        for path in [&front, &back] {
            // Not there is as good as gone.
            let _ = self.remove(path);
            let mut above = path::parent(path);
            // Up to the home's own nodes.
            while above.split('/').count() > 5
                && self.store.tree.get(above).is_some_and(|node| node.children.is_empty())
            {
                let _ = self.remove(above);
                above = path::parent(above);
            }
        }
    }

    /// The nodes at and below `path`, from behind `after` on, as many as an answer holds; and whether there are more.
    pub fn list(&self, path: &str, after: Option<&str>) -> Result<(Vec<XenstoreNode>, bool), Error> {
        list::list(&self.store.tree, path, after)
    }
}
