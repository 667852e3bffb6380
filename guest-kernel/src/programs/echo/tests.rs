//! Front and back end over the real store, with grants and events of thin air.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use abi::xen::xenbus::XenbusState;
use io_rings::bytes::XenstorePage;
use io_rings::hostile::{Liar, SharedPage};
use proptest::prelude::*;

use super::back::Back;
use super::front::Front;
use super::*;
use crate::control::xenstore::Xenstore;
use crate::control::xenstore::layout::{Device, Newcomer};
use crate::control::xenstore::link::PageRing;
use crate::xenbus::Role;
use crate::xenbus::end::End;
use crate::xenstore::client::Client;
use crate::xenstore::wire::PageEnd;

/// What the two guests share.
#[derive(Default)]
struct World {
    /// By owner and reference: with whom, the page, and how often it is mapped.
    grants: BTreeMap<(DomId, u32), (DomId, &'static EchoPage, usize)>,
    /// By owner and port: whom it waits for or whom it leads to.
    ports: BTreeMap<(DomId, Port), (DomId, Option<Port>)>,
    events: usize,
    next: u32,
}

struct Here {
    domain: DomId,
    world: Rc<RefCell<World>>,
}

impl Ground for Here {
    fn share(&mut self, domain: DomId) -> Option<(u32, &'static EchoPage)> {
        let page: &'static EchoPage = Box::leak(Box::default());
        let world = &mut *self.world.borrow_mut();
        world.next += 1;
        world.grants.insert((self.domain, world.next), (domain, page, 0));
        Some((world.next, page))
    }

    fn unshare(&mut self, reference: u32) {
        self.world.borrow_mut().grants.remove(&(self.domain, reference));
    }

    fn map(&mut self, domain: DomId, reference: u32) -> Option<&'static EchoPage> {
        let mut world = self.world.borrow_mut();
        let (with, page, mapped) = world.grants.get_mut(&(domain, reference))?;
        *mapped += 1;
        (*with == self.domain).then_some(*page)
    }

    fn unmap(&mut self, domain: DomId, reference: u32) {
        if let Some((_, _, mapped)) = self.world.borrow_mut().grants.get_mut(&(domain, reference)) {
            *mapped -= 1;
        }
    }

    fn listen(&mut self, domain: DomId) -> Option<Port> {
        let world = &mut *self.world.borrow_mut();
        world.next += 1;
        world.ports.insert((self.domain, world.next), (domain, None));
        Some(world.next)
    }

    fn bind(&mut self, domain: DomId, port: Port) -> Option<Port> {
        let own = {
            let world = self.world.borrow();
            (world.ports.get(&(domain, port)) == Some(&(self.domain, None))).then_some(())
        };
        own?;
        let own = self.listen(domain)?;
        let mut world = self.world.borrow_mut();
        world.ports.insert((self.domain, own), (domain, Some(port)));
        world.ports.insert((domain, port), (self.domain, Some(own)));
        Some(own)
    }

    fn close(&mut self, port: Port) {
        self.world.borrow_mut().ports.remove(&(self.domain, port));
    }

    fn notify(&mut self, port: Port) {
        let mut world = self.world.borrow_mut();
        assert!(world.ports.contains_key(&(self.domain, port)));
        world.events += 1;
    }
}

type Shop = Client<PageEnd>;

/// Guest 1 uses what guest 2 serves.
struct Machine {
    store: Xenstore<PageRing>,
    world: Rc<RefCell<World>>,
    clients: [Shop; 2],
    front: End<Front<Here>>,
    back: End<Back<Here>>,
}

const DEVICE: Device<'static> = Device { kind: "echo", front: 1, back: 2, index: 0 };

impl Machine {
    fn new() -> Self {
        let mut store = Xenstore::new();
        let mut clients = [1u16, 2].map(|domain| {
            let page: &'static XenstorePage = Box::leak(Box::new(XenstorePage::new()));
            let newcomer = Newcomer {
                domain,
                name: "guest",
                uuid: [domain as u8; 16],
                memory_kib: 1024,
                vcpus: 1,
                console_frame: 1,
                console_port: 1,
                store_frame: 2,
                store_port: 2,
            };
            store.introduce(&newcomer, PageRing::new(page), domain.into()).unwrap();
            Client::new(PageEnd::guest(page))
        });
        store.connect(&DEVICE).unwrap();
        let world = Rc::<RefCell<World>>::default();
        let front = Self::front(&world, &mut clients[0]);
        let back = Self::back(&world, &mut clients[1], vec![[0; SECTOR]; 64]);
        Self { store, world, clients, front, back }
    }

    fn front(world: &Rc<RefCell<World>>, client: &mut Shop) -> End<Front<Here>> {
        let here = Here { domain: 1, world: world.clone() };
        End::new(Role::Front, &DEVICE.front_path(), Front::new(here), client)
    }

    fn back(world: &Rc<RefCell<World>>, client: &mut Shop, sectors: Vec<[u8; SECTOR]>) -> End<Back<Here>> {
        let here = Here { domain: 2, world: world.clone() };
        End::new(Role::Back, &DEVICE.back_path(), Back::new(here, sectors), client)
    }

    fn turn(&mut self) {
        self.store.turn(|_| {});
        while let Some(news) = self.clients[0].poll().unwrap() {
            self.front.news(&news, &mut self.clients[0]);
        }
        while let Some(news) = self.clients[1].poll().unwrap() {
            self.back.news(&news, &mut self.clients[1]);
        }
    }

    fn settle(&mut self) {
        (0..60).for_each(|_| self.turn());
    }

    fn states(&self) -> [XenbusState; 2] {
        [self.front.state(), self.back.state()]
    }

    /// Serves until nothing is under way; what came back.
    fn finish(&mut self) -> Vec<(Request, Response)> {
        let mut done = Vec::new();
        for _ in 0..100 {
            self.front.driver.send();
            self.back.driver.serve().unwrap();
            done.extend(core::iter::from_fn(|| self.front.driver.take().unwrap()));
        }
        assert_eq!(self.front.driver.under_way(), 0);
        done
    }
}

#[test]
fn they_find_each_other_and_what_is_written_comes_back() {
    let mut machine = Machine::new();
    machine.settle();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
    assert_eq!((machine.front.other_domain(), machine.front.driver.sectors()), (2, 64));
    for sector in 0..64 {
        machine.front.driver.write(sector, [sector as u8; SECTOR]);
        machine.front.driver.read(sector);
    }
    machine.front.driver.read(64);
    let done = machine.finish();
    assert_eq!(done.len(), 129);
    for (request, response) in done {
        assert_eq!(request.id, response.id);
        match request.operation {
            _ if request.sector == 64 => assert_eq!(response.status, status::NO_SECTOR),
            operation::READ => assert_eq!(response.data, [request.sector as u8; SECTOR]),
            _ => assert_eq!(response.status, status::OKAY),
        }
    }
}

#[test]
fn a_full_ring_costs_one_event_each_way() {
    let mut machine = Machine::new();
    machine.settle();
    for sector in 0..32 {
        machine.front.driver.read(sector);
    }
    machine.world.borrow_mut().events = 0;
    machine.front.driver.send();
    assert_eq!(machine.back.driver.serve(), Ok(32));
    while machine.front.driver.take().unwrap().is_some() {}
    assert_eq!(machine.world.borrow().events, 2);
    assert_eq!(machine.front.driver.final_check(), Ok(false));
    assert_eq!(machine.back.driver.final_check(), Ok(false));
}

#[test]
fn whichever_end_starts_anew_nothing_acknowledged_is_lost() {
    let mut machine = Machine::new();
    machine.settle();
    machine.front.driver.write(3, [3; SECTOR]);
    machine.finish();

    // The back end goes in the middle of a request, and another one takes its sectors over.
    machine.front.driver.write(4, [4; SECTOR]);
    machine.front.driver.send();
    let sectors = core::mem::take(&mut machine.back.driver.sectors);
    machine.back.driver.ground.world.borrow_mut().grants.values_mut().for_each(|(_, _, mapped)| *mapped = 0);
    machine.back = Machine::back(&machine.world, &mut machine.clients[1], sectors);
    machine.settle();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
    assert_eq!(machine.finish().len(), 1, "the request that was under way is done by the new one");

    // The front end goes.
    machine.front = Machine::front(&machine.world, &mut machine.clients[0]);
    machine.settle();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
    for sector in [3, 4] {
        machine.front.driver.read(sector);
    }
    let read: Vec<_> = machine.finish().into_iter().map(|(_, response)| response.data).collect();
    assert_eq!(read, [[3; SECTOR], [4; SECTOR]]);
    let world = machine.world.borrow();
    assert_eq!(world.grants.values().map(|(_, _, mapped)| *mapped).sum::<usize>(), 1);
}

#[test]
fn closed_on_purpose_and_opened_again() {
    let mut machine = Machine::new();
    machine.settle();
    machine.front.want(false, &mut machine.clients[0]);
    machine.settle();
    assert_eq!(machine.front.state(), XenbusState::Closed);
    assert!(machine.world.borrow().grants.is_empty() && machine.world.borrow().ports.is_empty());
    machine.front.want(true, &mut machine.clients[0]);
    machine.settle();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
    machine.back.want(false, &mut machine.clients[1]);
    machine.settle();
    assert_eq!(machine.back.state(), XenbusState::Closed);
    assert!(!machine.front.driver.is_served());
    machine.back.want(true, &mut machine.clients[1]);
    machine.settle();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
}

#[test]
fn keys_that_lead_nowhere_close_the_back_end_only() {
    let mut machine = Machine::new();
    for _ in 0..100 {
        machine.turn();
        if machine.front.state() == XenbusState::Initialised {
            break;
        }
        machine.store.write(&[&DEVICE.front_path(), "/ring-ref"].concat(), b"77777").unwrap();
    }
    machine.store.write(&[&DEVICE.front_path(), "/ring-ref"].concat(), b"77777").unwrap();
    machine.settle();
    assert_eq!(machine.back.state(), XenbusState::Closed);
    assert_eq!(machine.world.borrow().ports.values().filter(|(_, peer)| peer.is_some()).count(), 0);
}

#[test]
fn a_device_that_is_taken_away_is_let_go_of() {
    let mut machine = Machine::new();
    machine.settle();
    machine.store.remove(&DEVICE.back_path()).unwrap();
    machine.settle();
    assert_eq!(machine.front.state(), XenbusState::Closed);
    assert!(machine.front.driver.port().is_none());
}

proptest! {
    /// Whatever either end scribbles into the ring, the other one answers, drops it or says that it is broken.
    #[test]
    fn rings_that_lie(seed: u64) {
        let (mut machine, mut liar) = (Machine::new(), Liar::new(seed));
        machine.settle();
        let page = machine.world.borrow().grants.values().next().unwrap().1;
        for sector in 0..40 {
            machine.front.driver.write(sector, [1; SECTOR]);
            machine.front.driver.send();
            liar.scribble(&page.0);
            let _ = machine.back.driver.serve();
            liar.scribble(&page.0);
            while let Ok(Some(_)) = machine.front.driver.take() {}
        }
        let _ = page.0.words().count();
    }
}
