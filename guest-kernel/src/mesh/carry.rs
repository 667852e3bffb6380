//! A mesh that goes over to another kernel on the same core: same slot, same domain, same pages, same ports.

use alloc::vec::Vec;

use abi::control::topology::MeshPlace;
use abi::mesh::MAX_SLOTS;
use abi::xen::DomId;
use abi::xen::event_channel::Port;
use serde::{Deserialize, Serialize};

use super::link::{CarriedLink, Link};
use super::{Counts, Life, Mesh, Peer, Window};
use crate::handover::Carry;

/// One slot's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CarriedPeer {
    life: Life,
    port: Option<Port>,
    link: Option<CarriedLink>,
    lost: u64,
}

/// What goes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    own_slot: u8,
    own_domain: DomId,
    peers: Vec<CarriedPeer>,
    /// Where the slots' cores are.
    places: Vec<MeshPlace>,
    counts: Counts,
    reported: Counts,
}

impl Carry for Mesh<'_> {
    type Carried = Carried;

    fn carry(&self) -> Carried {
        let peer = |peer: &Peer<'_>| {
            let link = peer.link.as_ref().and_then(Link::carry);
            // Whoever broke the rules was dropped, or is now.
            let life = if link.is_some() { peer.life } else { Life::Absent };
            CarriedPeer { life, port: peer.port, link, lost: peer.lost }
        };
        Carried {
            // There are fewer slots than that.
            own_slot: self.own_slot as u8,
            own_domain: self.own_domain,
            peers: self.peers.iter().map(peer).collect(),
            places: self.places.clone(),
            counts: self.counts,
            reported: self.reported,
        }
    }
}

impl<'a> Mesh<'a> {
    /// Goes on where another stood. `window` gives the shared pages of a slot other than our own. None: it cannot have
    /// stood there.
    pub fn take_over(carried: &Carried, mut window: impl FnMut(usize) -> Option<&'a Window>) -> Option<Self> {
        let own_slot = usize::from(carried.own_slot);
        if own_slot >= carried.peers.len() || carried.peers.len() > MAX_SLOTS {
            return None;
        }
        let mut peers = Vec::new();
        for (slot, peer) in carried.peers.iter().enumerate() {
            let window = if slot == own_slot { None } else { window(slot) };
            let link = match (&peer.link, window) {
                (Some(link), Some(window)) => Some(Link::resume(window, own_slot, slot, link)?),
                (Some(_), None) => return None,
                (None, _) => None,
            };
            if link.is_none() && peer.life != Life::Absent {
                return None;
            }
            peers.push(Peer { window, life: peer.life, port: peer.port, link, lost: peer.lost });
        }
        let Carried { own_domain, counts, reported, .. } = *carried;
        let places = carried.places.clone();
        (places.len() == peers.len()).then_some(Self {
            // Whoever takes over begins nothing anew.
            strangers: 0,
            own_slot,
            own_domain,
            peers,
            places,
            next: 0,
            counts,
            reported,
        })
    }
}
