//! Domain 0 and the guests' own half of the mesh, together: whatever comes and goes in whatever order, those who live
//! find each other and lose nothing.

use alloc::collections::BTreeMap;
use core::cell::RefCell;

use abi::mesh::MeshPage;
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::event_channel::Port;
use zerocopy::FromBytes;

use super::*;
use crate::mesh::{Mesh, News};
use crate::platform::Platform;

/// Slots guests may have.
const SLOTS: core::ops::Range<Slot> = 1..4;

/// A guest's platform, as far as a mesh needs one: its ports are the fake hypervisor's.
struct Ports<'a> {
    fake: RefCell<&'a mut Fake>,
    own: DomId,
}

impl Platform for Ports<'_> {
    fn bind_interdomain(&self, domain: DomId, remote_port: Port) -> Result<Port, Errno> {
        self.fake.borrow_mut().bind_as(self.own, domain, remote_port)
    }

    fn alloc_unbound(&self, domain: DomId) -> Result<Port, Errno> {
        self.fake.borrow_mut().alloc_unbound(self.own, domain)
    }

    fn close(&self, port: Port) {
        self.fake.borrow_mut().ports.remove(&(self.own, port));
    }

    fn send_event(&self, _: Port) -> Result<(), Errno> {
        Ok(())
    }

    fn now(&self) -> u64 {
        0
    }

    fn ticks_per_millisecond(&self) -> u64 {
        1
    }

    fn set_deadline(&self, _: Option<u64>) {}
    fn take_events(&self, _: &mut dyn FnMut(Port)) {}
    fn take_interrupts(&self, _: &mut dyn FnMut(u8)) {}
    fn let_interrupts_in(&self) {}
    fn halt_if(&self, _: &mut dyn FnMut() -> bool) {}
    fn console_write(&self, _: &[u8]) {}

    fn console_read(&self, _: &mut [u8]) -> usize {
        0
    }

    fn console_flush(&self) -> bool {
        false
    }

    fn watchdog(&self, _: u32, _: u32) -> Result<u32, Errno> {
        Err(Errno::ENOSYS)
    }

    fn suspend(&self) {}

    fn shutdown(&self, _: u32) -> ! {
        unreachable!("no guest of this test shuts down by itself")
    }
}

/// A guest that runs: it numbers what it says to each peer, and checks the numbers it hears.
struct Member {
    mesh: Mesh<'static>,
    domain: DomId,
    said: BTreeMap<Slot, u64>,
    heard: BTreeMap<Slot, u64>,
}

/// The machine and its guests.
struct Reef {
    machine: Machine,
    members: BTreeMap<Slot, Member>,
}

impl Reef {
    fn new() -> Self {
        Self { machine: Machine::with(&[]), members: BTreeMap::new() }
    }

    fn create(&mut self, slot: Slot) {
        if self.machine.ask(Request::Create(guest(&name(slot), Some(slot as u32)))).is_err() {
            return;
        }
        let pages = &self.machine.control.pages;
        let page = MeshPage::read_from_prefix(&pages.guest(slot).unwrap().mesh.bytes()).unwrap().0;
        let mesh = Mesh::new(&page, |other| pages.pair(slot, other).unwrap()).unwrap();
        let domain = mesh.own_domain();
        self.members.insert(slot, Member { mesh, domain, said: BTreeMap::new(), heard: BTreeMap::new() });
    }

    fn destroy(&mut self, slot: Slot) {
        self.members.remove(&slot);
        let _ = self.machine.ask(Request::Destroy(name(slot)));
    }

    fn is_running(&self, slot: Slot) -> bool {
        self.machine.control.guests.get(slot).is_some_and(|guest| guest.state == State::Running)
    }

    /// The guest in a slot gets the core for a while: it hears all it can, then says something to everyone.
    fn run(&mut self, slot: Slot) {
        if !self.is_running(slot) {
            return;
        }
        let Some(member) = self.members.get_mut(&slot) else { return };
        let ports = Ports { fake: RefCell::new(&mut self.machine.control.hypervisor), own: member.domain };
        while let Some(news) = member.mesh.poll(&ports) {
            match news {
                News::Up(peer) => {
                    member.said.remove(&peer);
                    member.heard.remove(&peer);
                }
                News::Message(0, _) | News::Down(_) => {}
                News::Message(peer, message) => {
                    let expected = member.heard.entry(peer).or_default();
                    assert_eq!(message[..2], [kind::PROGRAM, *expected], "slot {slot} hears slot {peer}");
                    *expected += 1;
                }
                News::Liar(peer) => panic!("slot {slot} takes slot {peer} for a liar"),
            }
        }
        for peer in SLOTS {
            if member.mesh.is_live(peer) {
                let number = member.said.entry(peer).or_default();
                if member.mesh.send(peer, &[kind::PROGRAM, *number, 0, 0, 0, 0, 0]).is_ok() {
                    *number += 1;
                }
            }
        }
        member.mesh.flush(&ports);
        self.machine.settle();
    }
}

fn name(slot: Slot) -> String {
    format!("guest{slot}")
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Create(Slot),
    Destroy(Slot),
    Crash(Slot),
    Pause(Slot),
    Unpause(Slot),
    Run(Slot),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => SLOTS.prop_map(Move::Create),
        2 => SLOTS.prop_map(Move::Destroy),
        1 => SLOTS.prop_map(Move::Crash),
        1 => SLOTS.prop_map(Move::Pause),
        1 => SLOTS.prop_map(Move::Unpause),
        5 => SLOTS.prop_map(Move::Run),
    ]
}

proptest! {
    #[test]
    fn those_who_live_find_each_other(moves in proptest::collection::vec(moves(), 1..120)) {
        let mut reef = Reef::new();
        for next in moves {
            match next {
                Move::Create(slot) => reef.create(slot),
                Move::Destroy(slot) => reef.destroy(slot),
                Move::Crash(slot) => {
                    if reef.members.remove(&slot).is_some() {
                        reef.machine.stops(slot, DomainState::Crashed);
                    }
                }
                Move::Pause(slot) => drop(reef.machine.ask(Request::Pause(name(slot)))),
                Move::Unpause(slot) => drop(reef.machine.ask(Request::Unpause(name(slot)))),
                Move::Run(slot) => reef.run(slot),
            }
        }
        // Everybody is let run until all has been said: an acknowledgement, an introduction, a greeting, and talk.
        for slot in SLOTS {
            let _ = reef.machine.ask(Request::Unpause(name(slot)));
        }
        for _ in 0..6 {
            SLOTS.for_each(|slot| reef.run(slot));
        }
        for (slot, member) in &reef.members {
            let others: Vec<Slot> = reef.members.keys().copied().filter(|other| other != slot).collect();
            prop_assert_eq!(member.mesh.live().collect::<Vec<_>>(), others.clone());
            for other in others {
                prop_assert!(member.heard.get(&other).is_some_and(|heard| *heard > 0));
            }
        }
    }
}
