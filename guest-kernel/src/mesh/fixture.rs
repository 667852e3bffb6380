//! Meshes on thin air for tests, with a domain 0 that the tests play.

use std::boxed::Box;
use std::vec::Vec;

use abi::control::topology::MeshPlace;
use abi::mesh::{MAX_SLOTS, MESH_MAGIC, MeshPage, PeerInfo, kind};
use io_rings::urpc::{Receiver, Sender};

use super::{Mesh, News, Window};
use crate::platform::fake::{Fake, Switch};

/// Domain 0's own ends of the channel with one guest.
pub struct Control {
    pub sender: Sender<'static>,
    pub receiver: Receiver<'static>,
}

/// The pages between each pair of slots.
pub struct Pages(Vec<Vec<&'static Window>>);

impl Pages {
    pub fn new(slots: usize) -> Self {
        let window = |_| &*Box::leak(Box::<Window>::default());
        Self((0..slots).map(|high| (0..high).map(window).collect()).collect())
    }

    pub fn between(&self, a: usize, b: usize) -> &'static Window {
        self.0[a.max(b)][a.min(b)]
    }

    pub fn control(&self, slot: usize) -> Control {
        let window = self.between(0, slot);
        Control { sender: Sender::new(&window.upwards), receiver: Receiver::new(&window.downwards) }
    }
}

/// A mesh page with these peers and no others.
pub fn page(own_slot: u32, slots: u32, present: &[(usize, PeerInfo)]) -> MeshPage {
    let mut page = MeshPage {
        magic: MESH_MAGIC,
        own_slot,
        slots,
        strangers: 0,
        peers: [PeerInfo { domain: 0xffff, reserved: 0, port: 0 }; MAX_SLOTS],
        places: [MeshPlace::default(); MAX_SLOTS],
    };
    for &(slot, info) in present {
        page.peers[slot] = info;
    }
    page
}

pub fn info(domain: u16, port: u32) -> PeerInfo {
    PeerInfo { domain, reserved: 0, port }
}

/// Guests in the slots from 1 on, domain id = slot, all of which know each other.
pub fn gather(guests: usize) -> Vec<(Fake, Mesh<'static>)> {
    gather_on(&Pages::new(guests + 1), guests)
}

/// As [`gather`], on pages that the test keeps.
pub fn gather_on(pages: &Pages, guests: usize) -> Vec<(Fake, Mesh<'static>)> {
    gather_all(pages, guests).0
}

/// As [`gather_on`], with domain 0's ends of the channels, in the order of the slots.
pub fn gather_all(pages: &Pages, guests: usize) -> (Vec<(Fake, Mesh<'static>)>, Vec<Control>) {
    let slots = guests + 1;
    let switch = Switch::new();
    let mut members: Vec<(Fake, Mesh<'static>)> = Vec::new();
    let mut controls: Vec<Control> = Vec::new();
    for slot in 1..slots {
        let id = slot as u16;
        let platform = switch.domain(id);
        let mut place = std::vec![(0, info(0, switch.alloc_unbound(id, 0))), (slot, info(id, 0))];
        for older in 1..slot {
            place.push((older, info(older as u16, switch.alloc_unbound(id, older as u16))));
        }
        let mut mesh =
            Mesh::new(&page(slot as u32, slots as u32, &place), |peer| pages.between(slot, peer)).unwrap();
        for (older, (control, (platform, mesh))) in controls.iter_mut().zip(&mut members).enumerate() {
            let port = u64::from(place[older + 2].1.port);
            control.sender.try_send(&[kind::PEER_UP, slot as u64, slot as u64, port, 0, 0, 0]).unwrap();
            assert_eq!(mesh.poll(platform), Some(News::Up(slot)));
            mesh.flush(platform);
        }
        for _ in 1..slot {
            assert!(matches!(mesh.poll(&platform), Some(News::Up(_))));
        }
        members.push((platform, mesh));
        controls.push(pages.control(slot));
    }
    (members, controls)
}
