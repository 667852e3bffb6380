//! The mesh: messages to and from the guests on the other cores.
//!
//! Each pair of slots shares two channels, and each side an event channel to wake the other with. Who is there changes
//! while we run, and domain 0 (slot 0) tells of it over the channel it has with each guest: a peer that came (bind to
//! its port, greet it), a peer that went (drop the ends, close the port, say so, because only then may domain 0 make
//! the pages fresh again). Peers that were there before us bind to *our* port and greet us.
//!
//! A peer's words are allegations. One that breaks the rules of a ring is dropped and never read again until domain 0
//! says that its slot has a new life; the others do not notice.

mod carry;
mod link;
mod page;

use alloc::vec::Vec;

use abi::control::topology::MeshPlace;
use abi::mesh::{MAX_SLOTS, MeshPage, PeerInfo, kind};
use abi::xen::DomId;
use abi::xen::event_channel::Port;
use io_rings::urpc::Message;
use serde::{Deserialize, Serialize};

use crate::platform::Platform;
pub use carry::Carried;
use link::Link;
pub use link::{NotSent, Window};
pub use page::{SharedPage, WORDS};

/// `PeerInfo::domain` of an empty slot.
const EMPTY: DomId = 0xffff;
/// Domain 0's slot.
pub const CONTROL_SLOT: usize = 0;

/// What the mesh has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A peer sent something. Membership is not among it.
    Message(usize, Message),
    /// The peer in this slot can be talked to.
    Up(usize),
    /// The peer in this slot is gone.
    Down(usize),
    /// The peer in this slot broke the rules, and was dropped.
    Liar(usize),
}

/// How far a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Life {
    /// Nobody is there, or nobody we talk to.
    Absent,
    /// It was there before us, and will greet.
    Awaited,
    /// Messages flow.
    Live,
}

/// One slot's place on this side.
struct Peer<'a> {
    window: Option<&'a Window>,
    life: Life,
    port: Option<Port>,
    link: Option<Link<'a>>,
    /// Messages that did not come, or not in their order, as the program noticed.
    lost: u64,
}

/// What is told to domain 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages from guests.
    pub received: u64,
    /// Messages to guests.
    pub sent: u64,
    /// Messages lost or out of order. Those of a peer that turned out a liar do not count.
    pub lost: u64,
    /// Peers dropped because they broke the rules of the ring.
    pub liars: u64,
}

/// This guest's side of all its conversations.
pub struct Mesh<'a> {
    own_slot: usize,
    own_domain: DomId,
    /// Guests that were there before us, and of which we are told later.
    strangers: u32,
    peers: Vec<Peer<'a>>,
    /// Where the slots' cores are in the machine.
    places: Vec<MeshPlace>,
    /// Where the search for the next message begins: fair to all.
    next: usize,
    counts: Counts,
    reported: Counts,
}

impl<'a> Mesh<'a> {
    /// Takes the place that `page` tells of. `window` gives the shared pages of a slot other than our own; it is
    /// asked once per slot. `None`: the page contradicts itself.
    pub fn new(page: &MeshPage, mut window: impl FnMut(usize) -> &'a Window) -> Option<Self> {
        let (own_slot, slots) = (page.own_slot as usize, page.slots as usize);
        if own_slot >= slots || slots > MAX_SLOTS {
            return None;
        }
        let peer = |(slot, info): (usize, &PeerInfo)| {
            if slot == own_slot {
                return Peer { window: None, life: Life::Absent, port: None, link: None, lost: 0 };
            }
            let window = window(slot);
            let present = info.domain != EMPTY;
            Peer {
                window: Some(window),
                life: match present {
                    true if slot == CONTROL_SLOT => Life::Live,
                    true => Life::Awaited,
                    false => Life::Absent,
                },
                port: present.then_some(info.port),
                link: present.then(|| Link::new(window, own_slot, slot)),
                lost: 0,
            }
        };
        Some(Self {
            own_slot,
            own_domain: page.peers[own_slot].domain,
            places: page.places.iter().take(slots).copied().collect(),
            strangers: page.strangers,
            peers: page.peers.iter().take(slots).enumerate().map(peer).collect(),
            next: 0,
            counts: Counts::default(),
            reported: Counts::default(),
        })
    }

    /// The slot this guest has.
    pub fn own_slot(&self) -> usize {
        self.own_slot
    }

    /// This guest's domain id.
    pub fn own_domain(&self) -> DomId {
        self.own_domain
    }

    /// Where the slots' cores are in the machine.
    pub fn places(&self) -> &[MeshPlace] {
        &self.places
    }

    /// Slots there are, empty ones included.
    pub fn slots(&self) -> usize {
        self.peers.len()
    }

    /// The guests that can be talked to, lowest slot first; domain 0 is not among them.
    pub fn live(&self) -> impl Iterator<Item = usize> + '_ {
        (CONTROL_SLOT + 1..self.peers.len()).filter(|&slot| self.peers[slot].life == Life::Live)
    }

    /// Whether no guest was there or on its way at the start.
    pub fn is_lonely(&self) -> bool {
        self.strangers == 0 && self.peers.iter().skip(CONTROL_SLOT + 1).all(|peer| peer.life == Life::Absent)
    }

    /// Whether the slot's owner can be talked to.
    pub fn is_live(&self, slot: usize) -> bool {
        self.peers.get(slot).is_some_and(|peer| peer.life == Life::Live)
    }

    /// The pages shared with a slot's owner; none of our own slot.
    pub fn window(&self, slot: usize) -> Option<&'a Window> {
        self.peers.get(slot)?.window
    }

    /// Our own event channel to a slot's owner.
    pub fn port(&self, slot: usize) -> Option<Port> {
        self.peers.get(slot)?.port
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        let lost = self.peers.iter().map(|peer| peer.lost).sum();
        Counts { lost, ..self.counts }
    }

    /// Messages of `slot` that were noted as lost.
    pub fn lost_from(&self, slot: usize) -> u64 {
        self.peers.get(slot).map_or(0, |peer| peer.lost)
    }

    /// A message from `slot` did not come, or came out of order.
    pub fn note_lost(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.lost += 1;
        }
    }

    /// Sends a message. The peer is told by the next [`Mesh::flush`], should it sleep.
    #[inline]
    pub fn send(&mut self, slot: usize, message: &Message) -> Result<(), NotSent> {
        let Some(Peer { life: Life::Live, link: Some(link), .. }) = self.peers.get_mut(slot) else {
            return Err(NotSent::NoPeer);
        };
        link.send(message)?;
        self.counts.sent += u64::from(slot != CONTROL_SLOT);
        Ok(())
    }

    /// Ends a batch: one event to each peer that sleeps and has news.
    pub fn flush<P: Platform>(&mut self, platform: &P) {
        for peer in &mut self.peers {
            if let Peer { link: Some(link), port: Some(port), .. } = peer
                && link.flush()
            {
                // A peer that is gone needs no event; domain 0 will tell us that it went.
                let _ = platform.send_event(*port);
            }
        }
    }

    /// The next piece of news, if there is any. Membership is dealt with here.
    #[inline]
    pub fn poll<P: Platform>(&mut self, platform: &P) -> Option<News> {
        for _ in 0..self.peers.len() {
            let slot = self.next;
            self.next = if slot + 1 == self.peers.len() { 0 } else { slot + 1 };
            let Some(Peer { link: Some(link), life, .. }) = self.peers.get_mut(slot) else { continue };
            let news = match link.receive() {
                Ok(None) => continue,
                Ok(Some(message)) if slot == CONTROL_SLOT => match self.control(platform, &message) {
                    Some(news) => news,
                    None => continue,
                },
                Ok(Some(message)) if *life == Life::Live => {
                    self.counts.received += 1;
                    News::Message(slot, message)
                }
                Ok(Some(message)) if message[0] == kind::GREET => {
                    *life = Life::Live;
                    News::Up(slot)
                }
                // Whoever speaks before it greets is no peer of ours.
                Ok(Some(_)) | Err(_) => {
                    self.drop_liar(slot);
                    News::Liar(slot)
                }
            };
            return Some(news);
        }
        None
    }

    /// What domain 0 says: membership, or something for the program.
    fn control<P: Platform>(&mut self, platform: &P, message: &Message) -> Option<News> {
        let slot = message[1] as usize;
        let is_peer = slot != self.own_slot && slot != CONTROL_SLOT && message[1] < self.peers.len() as u64;
        match message[0] {
            kind::PEER_UP if is_peer => {
                let (domain, port) = (DomId::try_from(message[2]).ok()?, Port::try_from(message[3]).ok()?);
                self.peer_up(platform, slot, domain, port)
            }
            kind::PEER_DOWN if is_peer => {
                self.disconnect(platform, slot);
                let acknowledge = [kind::PEER_DOWN_ACK, slot as u64, 0, 0, 0, 0, 0];
                if self.send(CONTROL_SLOT, &acknowledge).is_err() {
                    log::error!("domain 0 does not take the word that slot {slot} was given up");
                }
                Some(News::Down(slot))
            }
            kind::PEER_AWAIT if is_peer => {
                let port = Port::try_from(message[3]).ok()?;
                self.disconnect(platform, slot);
                self.connect(slot, port, Life::Awaited);
                None
            }
            kind::PEER_UP | kind::PEER_DOWN | kind::PEER_AWAIT => None,
            _ => Some(News::Message(CONTROL_SLOT, *message)),
        }
    }

    fn peer_up<P: Platform>(&mut self, platform: &P, slot: usize, domain: DomId, port: Port) -> Option<News> {
        self.disconnect(platform, slot);
        let own_port = match platform.bind_interdomain(domain, port) {
            Ok(own_port) => own_port,
            Err(error) => {
                // It died again before we came to it; domain 0 will tell.
                log::debug!("slot {slot}: cannot bind to port {port} of domain {domain}: {error:?}");
                return None;
            }
        };
        self.connect(slot, own_port, Life::Live);
        let greeting = [kind::GREET, self.own_slot as u64, 0, 0, 0, 0, 0];
        if let Some(link) = self.peers.get_mut(slot).and_then(|peer| peer.link.as_mut()) {
            // A fresh channel has room.
            let _ = link.send(&greeting);
        }
        Some(News::Up(slot))
    }

    /// Fresh ends for a new life of the slot.
    fn connect(&mut self, slot: usize, port: Port, life: Life) {
        let own_slot = self.own_slot;
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.port = Some(port);
            peer.link = peer.window.map(|window| Link::new(window, own_slot, slot));
            peer.life = life;
            peer.lost = 0;
        }
    }

    fn disconnect<P: Platform>(&mut self, platform: &P, slot: usize) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.link = None;
        peer.life = Life::Absent;
        if let Some(port) = peer.port.take() {
            platform.close(port);
        }
    }

    /// The port stays until domain 0 says that the peer is gone: it costs nothing, and closing tells nobody anything.
    fn drop_liar(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.link = None;
            peer.life = Life::Absent;
            peer.lost = 0;
            self.counts.liars += 1;
        }
    }

    /// Whether messages wait for room in a channel: no event tells when there is some.
    pub fn has_backlog(&self) -> bool {
        self.peers.iter().any(|peer| peer.link.as_ref().is_some_and(Link::has_backlog))
    }

    /// Whether the peer in `slot` has asked for an event with the next message.
    pub fn peer_sleeps(&mut self, slot: usize) -> bool {
        self.peers.get_mut(slot).and_then(|peer| peer.link.as_mut()).is_some_and(Link::peer_sleeps)
    }

    /// Asks all peers for an event from now on; false, and awake again, if one has sent something already.
    pub fn sleep(&mut self) -> bool {
        let quiet = self.peers.iter_mut().filter_map(|peer| peer.link.as_mut()).all(Link::sleep);
        if !quiet {
            self.awake();
        }
        quiet
    }

    /// Tells all peers that we look by ourselves.
    pub fn awake(&mut self) {
        self.peers.iter_mut().filter_map(|peer| peer.link.as_mut()).for_each(Link::awake);
    }

    /// Whether domain 0 has not been told the latest counts.
    pub fn report_is_due(&self) -> bool {
        self.counts() != self.reported
    }

    /// Tells domain 0 the counts.
    pub fn report(&mut self) {
        let counts = self.counts();
        let message = [kind::REPORT, counts.received, counts.sent, counts.lost, counts.liars, 0, 0];
        if self.send(CONTROL_SLOT, &message).is_ok() {
            self.reported = counts;
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
