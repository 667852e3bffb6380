//! Front and back end over the real store, with grants and events of thin air.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::sync::atomic::Ordering;

use abi::xen::grant_table::status as grant_status;
use abi::xen::xenbus::XenbusState;
use io_rings::bytes::XenstorePage;
use io_rings::hostile::{Liar, SharedPage};
use proptest::prelude::*;

use super::back::Back;
use super::front::Front;
use super::hostile::{ACTS, Act, Due, Hostile};
use super::work::{Outcome, Task, Work};
use super::*;
use crate::control::xenstore::Xenstore;
use crate::control::xenstore::layout::{Device, Newcomer};
use crate::control::xenstore::link::PageRing;
use crate::xenbus::end::End;
use crate::xenbus::{Driver, Role};
use crate::xenstore::client::Client;
use crate::xenstore::wire::PageEnd;

/// A guest that the store knows from now on: its end of the conversation.
pub(crate) fn introduced(store: &mut Xenstore<PageRing>, domain: DomId) -> Client<PageEnd> {
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
}

#[derive(Clone, Copy)]
enum Page {
    Ring(&'static EchoPage),
    Data(&'static Block, Shared),
}

struct Grant {
    with: DomId,
    page: Page,
    mapped: usize,
}

/// What the two guests share.
#[derive(Default)]
struct World {
    grants: BTreeMap<(DomId, u32), Grant>,
    /// By owner and port: whom it waits for or whom it leads to.
    ports: BTreeMap<(DomId, Port), (DomId, Option<Port>)>,
    events: usize,
    copies: usize,
    next: u32,
}

#[derive(Clone)]
struct Here {
    domain: DomId,
    world: Rc<RefCell<World>>,
}

impl Here {
    fn share(&mut self, with: DomId, page: Page) -> Option<u32> {
        let world = &mut *self.world.borrow_mut();
        world.next += 1;
        world.grants.insert((self.domain, world.next), Grant { with, page, mapped: 0 });
        Some(world.next)
    }
}

impl Ground for Here {
    fn share_ring(&mut self, domain: DomId, page: &'static EchoPage) -> Option<u32> {
        self.share(domain, Page::Ring(page))
    }

    fn share_block(&mut self, domain: DomId, page: &'static Block, shared: Shared) -> Option<u32> {
        self.share(domain, Page::Data(page, shared))
    }

    fn unshare(&mut self, reference: u32) -> bool {
        let grants = &mut self.world.borrow_mut().grants;
        let in_use = grants.get(&(self.domain, reference)).is_some_and(|grant| grant.mapped > 0);
        if !in_use {
            grants.remove(&(self.domain, reference));
        }
        !in_use
    }

    fn map(&mut self, domain: DomId, reference: u32) -> Option<&'static EchoPage> {
        let mut world = self.world.borrow_mut();
        let grant = world.grants.get_mut(&(domain, reference)).filter(|grant| grant.with == self.domain)?;
        let Page::Ring(page) = grant.page else { return None };
        grant.mapped += 1;
        Some(page)
    }

    fn unmap(&mut self, domain: DomId, reference: u32) {
        if let Some(grant) = self.world.borrow_mut().grants.get_mut(&(domain, reference)) {
            grant.mapped -= 1;
        }
    }

    fn copy(&mut self, domain: DomId, moves: &mut [Move<'_>]) {
        let world = &mut *self.world.borrow_mut();
        world.copies += 1;
        for one in moves {
            let grant = world.grants.get(&(domain, one.reference)).filter(|grant| grant.with == self.domain);
            one.result = match grant.map(|grant| grant.page) {
                Some(Page::Data(page, shared)) if shared == Shared::Writable || !one.out => {
                    let (from, to) = if one.out { (one.block, page) } else { (page, one.block) };
                    let whole = usize::from(one.offset) / 8..usize::from(one.offset + one.bytes) / 8;
                    for (from, to) in from.0[whole.clone()].iter().zip(&to.0[whole]) {
                        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                    grant_status::OKAY
                }
                _ => grant_status::BAD_GNTREF,
            };
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

/// A back end with blocks of its own.
struct Shop {
    end: End<Back<Here>>,
    blocks: Vec<Block>,
    scratch: Block,
}

impl Shop {
    fn serve(&mut self) -> Result<usize, io_rings::PeerBroken> {
        self.end.driver.serve(&self.blocks, &self.scratch, || Figures { awake: 1, hypervisor: 2, calls: 3 })
    }
}

const BLOCKS: u64 = 64;

/// Guest 1 uses what guest 2 serves.
struct Machine<D = Front<Here>> {
    store: Xenstore<PageRing>,
    world: Rc<RefCell<World>>,
    clients: [Client<PageEnd>; 2],
    front: End<D>,
    back: Shop,
}

const DEVICE: Device<'static> = Device { kind: "echo", front: 1, back: 2, index: 0 };

impl<D: Driver> Machine<D> {
    fn of(make: impl FnOnce(Here) -> D) -> Self {
        let mut store = Xenstore::new();
        let mut clients = [1, 2].map(|domain| introduced(&mut store, domain));
        store.connect(&DEVICE).unwrap();
        let world = Rc::<RefCell<World>>::default();
        let driver = make(Here { domain: 1, world: world.clone() });
        let front = End::new(Role::Front, &DEVICE.front_path(), driver, &mut clients[0]);
        let blocks = (0..BLOCKS).map(|_| Block::default()).collect();
        let back = Self::back(&world, &mut clients[1], blocks);
        Self { store, world, clients, front, back }
    }

    fn back(world: &Rc<RefCell<World>>, client: &mut Client<PageEnd>, blocks: Vec<Block>) -> Shop {
        let driver = Back::new(Here { domain: 2, world: world.clone() }, BLOCKS);
        let end = End::new(Role::Back, &DEVICE.back_path(), driver, client);
        Shop { end, blocks, scratch: Block::default() }
    }

    fn turn(&mut self) {
        self.store.turn(|_| {});
        while let Some(news) = self.clients[0].poll().unwrap() {
            self.front.news(&news, &mut self.clients[0]);
        }
        while let Some(news) = self.clients[1].poll().unwrap() {
            self.back.end.news(&news, &mut self.clients[1]);
        }
    }

    fn settle(&mut self) {
        (0..60).for_each(|_| self.turn());
    }

    fn states(&self) -> [XenbusState; 2] {
        [self.front.state(), self.back.end.state()]
    }

    fn mapped(&self) -> usize {
        self.world.borrow().grants.values().map(|grant| grant.mapped).sum()
    }
}

impl Machine {
    fn new() -> Self {
        let mut machine = Self::of(Front::new);
        machine.settle();
        machine
    }

    /// Works and serves until the task is done.
    fn work(&mut self, task: Task) -> Outcome {
        let mut work = Work::new(task);
        for _ in 0..10_000 {
            let (_, outcome) = work.turn(&mut self.front.driver, Figures::default).unwrap();
            if let Some(outcome) = outcome {
                return outcome;
            }
            self.back.serve().unwrap();
        }
        panic!("{task:?} has no end: {work:?}");
    }

    fn check(&mut self, seed: u64, write: bool) -> u64 {
        let Outcome::Checked { blocks: BLOCKS, wrong } = self.work(Task::Check { seed, write }) else {
            panic!("another number of blocks");
        };
        wrong
    }
}

#[test]
fn they_find_each_other_and_what_is_written_comes_back() {
    let mut machine = Machine::new();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
    assert_eq!((machine.front.other_domain(), machine.front.driver.blocks()), (2, BLOCKS));
    assert_eq!(machine.check(7, true), 0);
    assert_eq!(machine.check(7, false), 0);
    assert_eq!(machine.check(8, false), BLOCKS, "the check sees what is not right");
}

#[test]
fn a_run_costs_a_copy_and_two_events_a_batch() {
    for depth in [1, 32] {
        let mut machine = Machine::new();
        let (copies, events) = (machine.world.borrow().copies, machine.world.borrow().events);
        let mut work = Work::new(Task::Run { depth, count: 3200 });
        let outcome = loop {
            // Both halt whenever there is nothing to do.
            if let Some(outcome) = work.turn(&mut machine.front.driver, Figures::default).unwrap().1 {
                break outcome;
            }
            assert_eq!(machine.front.driver.final_check(), Ok(false));
            machine.back.serve().unwrap();
            assert_eq!(machine.back.end.driver.final_check(), Ok(false));
        };
        let nothing = Figures::default();
        assert_eq!(outcome, Outcome::Ran { depth, count: 3200, wrong: 0, front: nothing, back: nothing });
        // One more of each before and after: the figures.
        let batches = 3200 / depth + 2;
        let world = machine.world.borrow();
        assert_eq!((world.copies - copies, world.events - events), (batches, 2 * batches));
    }
}

#[test]
fn who_polls_gets_no_events() {
    let mut machine = Machine::new();
    machine.check(1, true);
    let events = machine.world.borrow().events;
    machine.check(2, true);
    assert_eq!(machine.world.borrow().events, events);
}

#[test]
fn figures_come_back_in_a_block() {
    let mut machine = Machine::new();
    machine.front.driver.ask(operation::FIGURES, 0).unwrap();
    machine.front.driver.send();
    machine.back.serve().unwrap();
    let (_, response, page) = machine.front.driver.take().unwrap().unwrap();
    assert_eq!(response.status, status::OKAY);
    assert_eq!(Figures::from_block(page), Figures { awake: 1, hypervisor: 2, calls: 3 });
}

#[test]
fn whichever_end_starts_anew_nothing_acknowledged_is_lost() {
    let mut machine = Machine::new();
    assert_eq!(machine.check(3, true), 0);
    // The back end goes in the middle of 32 requests, and another one takes its blocks over.
    let mut work = Work::new(Task::Stream);
    work.turn(&mut machine.front.driver, Figures::default).unwrap();
    assert_eq!(machine.front.driver.under_way(), 32);
    let blocks = core::mem::take(&mut machine.back.blocks);
    machine.world.borrow_mut().grants.values_mut().for_each(|grant| grant.mapped = 0);
    machine.back = Machine::<Front<Here>>::back(&machine.world, &mut machine.clients[1], blocks);
    machine.settle();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
    assert_eq!(machine.back.serve(), Ok(32), "what was under way is done by the new one");
    work.turn(&mut machine.front.driver, Figures::default).unwrap();
    assert_eq!(work.answers(), (32, 0));

    // The front end goes.
    machine.check(4, true);
    let driver = Front::new(machine.front.driver.ground.clone());
    machine.front = End::new(Role::Front, &DEVICE.front_path(), driver, &mut machine.clients[0]);
    machine.settle();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
    assert_eq!(machine.check(4, false), 0);
    assert_eq!(machine.mapped(), 1);
}

#[test]
fn closed_on_purpose_and_opened_again() {
    let mut machine = Machine::new();
    for _ in 0..5 {
        machine.front.want(false, &mut machine.clients[0]);
        machine.settle();
        assert_eq!(machine.front.state(), XenbusState::Closed);
        assert!(machine.world.borrow().ports.is_empty() && machine.mapped() == 0);
        machine.front.want(true, &mut machine.clients[0]);
        machine.settle();
        assert_eq!(machine.states(), [XenbusState::Connected; 2]);
        let grants = machine.world.borrow().grants.len();
        assert_eq!(grants, DEPTH + 1, "the ring that lingered is back");
    }
    machine.back.end.want(false, &mut machine.clients[1]);
    machine.settle();
    assert_eq!(machine.back.end.state(), XenbusState::Closed);
    assert!(!machine.front.driver.is_served());
    machine.back.end.want(true, &mut machine.clients[1]);
    machine.settle();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
    assert_eq!(machine.check(1, true), 0);
}

#[test]
fn keys_that_lead_nowhere_close_the_back_end_only() {
    let mut machine = Machine::of(Front::new);
    for _ in 0..100 {
        machine.turn();
        if machine.front.state() == XenbusState::Initialised {
            break;
        }
        machine.store.write(&[&DEVICE.front_path(), "/ring-ref"].concat(), b"77777").unwrap();
    }
    machine.store.write(&[&DEVICE.front_path(), "/ring-ref"].concat(), b"77777").unwrap();
    machine.settle();
    assert_eq!(machine.back.end.state(), XenbusState::Closed);
    assert_eq!(machine.world.borrow().ports.values().filter(|(_, peer)| peer.is_some()).count(), 0);
}

#[test]
fn a_device_that_is_taken_away_is_let_go_of_and_its_driver_serves_for_the_next() {
    let mut machine = Machine::new();
    machine.store.disconnect(&DEVICE);
    machine.settle();
    assert!(machine.front.driver.port().is_none() && machine.back.end.driver.port().is_none());
    machine.store.connect(&DEVICE).unwrap();
    let Machine { front, back, clients: [one, two], .. } = &mut machine;
    let again = |role: Role| if role == Role::Front { DEVICE.front_path() } else { DEVICE.back_path() };
    let stand_in = End::new(Role::Front, &again(Role::Front), Front::new(front.driver.ground.clone()), one);
    let driver = core::mem::replace(front, stand_in).detach(one);
    *front = End::new(Role::Front, &again(Role::Front), driver, one);
    let stand_in =
        End::new(Role::Back, &again(Role::Back), Back::new(back.end.driver.ground.clone(), 1), two);
    let driver = core::mem::replace(&mut back.end, stand_in).detach(two);
    back.end = End::new(Role::Back, &again(Role::Back), driver, two);
    machine.settle();
    assert_eq!(machine.states(), [XenbusState::Connected; 2]);
    assert_eq!(machine.check(5, true), 0);
}

#[test]
fn a_hostile_front_end_gets_its_due_and_the_back_end_lives() {
    let mut machine = Machine::of(|here| Hostile::new(here, 7));
    let mut dues = Vec::new();
    for _ in 0..200_000 {
        if let Some((act, due)) = machine.front.driver.turn() {
            dues.push((act, due));
            if act == Act::ClosedPort {
                machine.front.want(false, &mut machine.clients[0]);
                machine.settle();
                machine.front.want(true, &mut machine.clients[0]);
            }
        }
        if machine.back.serve().is_err() {
            machine.back.end.broken(&mut machine.clients[1]);
        }
        machine.turn();
        if machine.front.driver.is_done() {
            break;
        }
    }
    let expected = ACTS.map(|act| match act {
        Act::Torn | Act::FarAhead | Act::Backwards | Act::Keys => (act, Due::Disconnected),
        _ => (act, Due::Answered),
    });
    assert_eq!(dues, expected);
    machine.settle();
    assert_eq!(machine.mapped(), 0);
}

proptest! {
    /// Whatever either end scribbles into the ring, the other one answers, drops it or says that it is broken.
    #[test]
    fn rings_that_lie(seed: u64) {
        let (mut machine, mut liar) = (Machine::new(), Liar::new(seed));
        let ring = |grant: &Grant| if let Page::Ring(page) = grant.page { Some(page) } else { None };
        let page = machine.world.borrow().grants.values().find_map(ring).unwrap();
        for block in 0..40 {
            machine.front.driver.write(block);
            machine.front.driver.send();
            liar.scribble(&page.0);
            let _ = machine.back.serve();
            liar.scribble(&page.0);
            while let Ok(Some(_)) = machine.front.driver.take() {}
        }
        let _ = page.0.words().count();
    }
}
