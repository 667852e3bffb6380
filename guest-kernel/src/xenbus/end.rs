//! One end of a device, over the store: it hears of the other's state, reads what the other has published, has its
//! driver act, and publishes in one transaction.

use abi::xen::DomId;
use abi::xen::xenbus::XenbusState;
use abi::xen::xs_wire::Error;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::reaction::{Reaction, reaction};
use super::{Driver, Keys, Peer, Role};
use crate::xenstore::client::{Client, News, Ticket, Transaction};
use crate::xenstore::wire::{ByteRing, strings};

/// The most nodes that are read of the other end: it may have made any number.
const MAX_KEYS: usize = 256;

/// What an end waits for.
#[derive(Debug)]
enum Phase {
    /// The answers that name the other end.
    Finding { path: Ticket, domain: Ticket, found: Option<String> },
    /// A change.
    Resting,
    /// The other end's state.
    Looking(Ticket),
    /// The other end's nodes: those read, and those listed, by their tickets.
    Gathering { reads: BTreeMap<Ticket, String>, lists: BTreeMap<Ticket, String>, keys: Keys },
    /// A transaction to publish in.
    Beginning(Ticket),
    /// Its end.
    Publishing(Ticket),
    /// There is no such device.
    Gone,
}

/// One end.
#[derive(Debug)]
pub struct End<D> {
    /// What is particular to it.
    pub driver: D,
    role: Role,
    path: String,
    other: String,
    /// The other end's domain; 0 until it is known.
    other_domain: DomId,
    own: XenbusState,
    their: XenbusState,
    wanted: bool,
    phase: Phase,
    doing: Reaction,
    /// What is to be published, and the state that goes with it.
    publish: (Keys, XenbusState),
    /// Something may have changed meanwhile.
    again: bool,
    /// The connection is to be ended, whatever the states say.
    failed: bool,
}

impl<D: Driver> End<D> {
    /// The end whose nodes are at `path`.
    pub fn new<R: ByteRing>(role: Role, path: &str, driver: D, client: &mut Client<R>) -> Self {
        let link = role.link();
        let found = client.read(None, &format!("{path}/{link}"));
        let domain = client.read(None, &format!("{path}/{link}-id"));
        Self {
            driver,
            role,
            path: path.into(),
            other: String::new(),
            other_domain: 0,
            own: XenbusState::Initialising,
            their: XenbusState::Unknown,
            wanted: true,
            phase: Phase::Finding { path: found, domain, found: None },
            doing: Reaction::Wait,
            publish: (Keys::new(), XenbusState::Unknown),
            again: false,
            failed: false,
        }
    }

    /// This end's state, as it was last published.
    pub fn state(&self) -> XenbusState {
        self.own
    }

    /// The other end's state, as it was last seen.
    pub fn their_state(&self) -> XenbusState {
        self.their
    }

    /// The other end's domain, once it is known.
    pub fn other_domain(&self) -> DomId {
        self.other_domain
    }

    /// Whether this end is to be connected.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Has this end closed; or, with `wanted` again, has it connect anew.
    pub fn want<R: ByteRing>(&mut self, wanted: bool, client: &mut Client<R>) {
        self.wanted = wanted;
        if wanted && self.own == XenbusState::Closed {
            self.doing = Reaction::Become(XenbusState::Initialising);
            self.again = true;
            if matches!(self.phase, Phase::Resting) {
                self.publish_state(Keys::new(), XenbusState::Initialising, client);
            }
            return;
        }
        self.look(client);
    }

    /// The other end broke the rules: lets go of everything, and says that it is closed. The other may begin anew.
    pub fn broken<R: ByteRing>(&mut self, client: &mut Client<R>) {
        self.driver.disconnect();
        self.failed = true;
        self.look(client);
    }

    /// The device is gone, or is another one now: the driver, which has let go of everything.
    pub fn detach<R: ByteRing>(mut self, client: &mut Client<R>) -> D {
        self.driver.disconnect();
        if !self.other.is_empty() {
            client.unwatch(&format!("{}/state", self.other), &self.path);
        }
        if let Phase::Beginning(begun) = self.phase {
            client.abandon(begun);
        }
        self.driver
    }

    /// Takes what arrived. False: it is not this end's.
    pub fn news<R: ByteRing>(&mut self, news: &News, client: &mut Client<R>) -> bool {
        match news {
            News::Changed { token, .. } if *token == self.path => {
                self.look(client);
                true
            }
            News::Changed { .. } => false,
            News::Answer { ticket, result } => self.answer(*ticket, result, client),
        }
    }

    fn answer<R: ByteRing>(
        &mut self,
        ticket: Ticket,
        result: &Result<Vec<u8>, Error>,
        client: &mut Client<R>,
    ) -> bool {
        let text = || result.as_ref().ok().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        match &mut self.phase {
            Phase::Finding { path, found, .. } if *path == ticket => match text() {
                Some(other) => *found = Some(other),
                None => self.phase = Phase::Gone,
            },
            Phase::Finding { domain, found, .. } if *domain == ticket => {
                let id = text().and_then(|text| text.parse().ok());
                match (found.take(), id) {
                    (Some(other), Some(id)) => {
                        (self.other, self.other_domain) = (other, id);
                        client.watch(&format!("{}/state", self.other), &self.path);
                        // From its start on, whatever it was before it.
                        self.publish_state(Keys::new(), XenbusState::Initialising, client);
                    }
                    _ => self.phase = Phase::Gone,
                }
            }
            Phase::Looking(look) if *look == ticket => {
                self.their = result.as_ref().map_or(XenbusState::Unknown, |text| XenbusState::parse(text));
                self.phase = Phase::Resting;
                self.react(client);
            }
            Phase::Gathering { reads, lists, keys } => {
                if let Some(name) = reads.remove(&ticket) {
                    if let Some(value) = text() {
                        keys.insert(name, value);
                    }
                } else if let Some(above) = lists.remove(&ticket) {
                    let names =
                        result.as_deref().map(|names| strings(names).collect::<Vec<_>>()).unwrap_or_default();
                    for name in names {
                        if keys.len() + reads.len() >= MAX_KEYS {
                            break;
                        }
                        let name = format!("{above}{}", String::from_utf8_lossy(name));
                        reads.insert(client.read(None, &format!("{}/{name}", self.other)), name.clone());
                        lists.insert(
                            client.directory(None, &format!("{}/{name}", self.other)),
                            format!("{name}/"),
                        );
                    }
                } else {
                    return false;
                }
                if reads.is_empty() && lists.is_empty() {
                    let keys = core::mem::take(keys);
                    self.phase = Phase::Resting;
                    self.gathered(&keys, client);
                }
            }
            Phase::Beginning(begin) if *begin == ticket => {
                let transaction = result.as_ref().ok().and_then(|answer| Transaction::from_answer(answer));
                match transaction {
                    Some(transaction) => self.fill(transaction, client),
                    None => self.phase = Phase::Gone,
                }
            }
            Phase::Publishing(end) if *end == ticket => match result {
                Err(Error::EAGAIN) => self.phase = Phase::Beginning(client.begin()),
                Ok(_) => {
                    self.own = self.publish.1;
                    self.phase = Phase::Resting;
                    self.look(client);
                }
                // The nodes are not ours any more: the toolstack has taken the device away.
                Err(_) => {
                    self.driver.disconnect();
                    self.phase = Phase::Gone;
                }
            },
            _ => return false,
        }
        true
    }

    /// Looks at the other's state, now or when there is time.
    fn look<R: ByteRing>(&mut self, client: &mut Client<R>) {
        match self.phase {
            Phase::Resting => {
                self.again = false;
                self.phase = Phase::Looking(client.read(None, &format!("{}/state", self.other)));
            }
            Phase::Gone => {}
            _ => self.again = true,
        }
    }

    fn react<R: ByteRing>(&mut self, client: &mut Client<R>) {
        self.doing = match core::mem::take(&mut self.failed) {
            true if self.own != XenbusState::Closed => Reaction::Leave(XenbusState::Closed),
            _ => reaction(self.role, self.own, self.their, self.wanted),
        };
        match self.doing {
            Reaction::Wait if self.again => self.look(client),
            Reaction::Wait => {}
            Reaction::Become(state) => self.publish_state(Keys::new(), state, client),
            Reaction::Leave(state) => {
                self.driver.disconnect();
                self.publish_state(Keys::new(), state, client);
            }
            Reaction::Offer(_) | Reaction::Connect => {
                let lists = BTreeMap::from([(client.directory(None, &self.other), String::new())]);
                self.phase = Phase::Gathering { reads: BTreeMap::new(), lists, keys: Keys::new() };
            }
        }
    }

    fn gathered<R: ByteRing>(&mut self, keys: &Keys, client: &mut Client<R>) {
        let peer = Peer { domain: self.other_domain, keys };
        let (keys, state) = match self.doing {
            Reaction::Offer(state) => {
                // Whatever there was of an earlier offer.
                self.driver.disconnect();
                (self.driver.offer(&peer), state)
            }
            _ => (self.driver.connect(&peer), XenbusState::Connected),
        };
        match keys {
            Some(keys) => self.publish_state(keys, state, client),
            None => {
                self.driver.disconnect();
                self.wanted = false;
                self.publish_state(Keys::new(), XenbusState::Closed, client);
            }
        }
    }

    fn publish_state<R: ByteRing>(&mut self, keys: Keys, state: XenbusState, client: &mut Client<R>) {
        self.publish = (keys, state);
        self.phase = Phase::Beginning(client.begin());
    }

    /// Writes everything in a transaction, and ends it. Should one of the writes fail, its end fails too or the other
    /// end finds something missing.
    fn fill<R: ByteRing>(&mut self, transaction: Transaction, client: &mut Client<R>) {
        let (keys, state) = &self.publish;
        for (name, value) in keys {
            client.write(Some(transaction), &format!("{}/{name}", self.path), value.as_bytes());
        }
        client.write(Some(transaction), &format!("{}/state", self.path), state.text().to_string().as_bytes());
        self.phase = Phase::Publishing(client.end(transaction, true));
    }
}
