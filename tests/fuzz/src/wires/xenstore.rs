//! Guests that talk to xenstore.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use abi::xen::DomId;
use abi::xen::xs_wire::kind;
use guest_kernel::control::xenstore::Xenstore;
use guest_kernel::control::xenstore::layout::Newcomer;
use guest_kernel::control::xenstore::link::ServedRing;
use guest_kernel::xenstore::wire::{Assembler, ByteRing, Message};

const GUESTS: DomId = 2;
/// The kind that stands for bytes which are no message.
const RAW: u8 = 31;
/// Where a guest reads nothing before more has come, so that answers wait.
const LAZY: u8 = 1 << 7;

/// A guest's ring, as both ends see it.
#[derive(Debug, Default)]
struct Ends {
    /// On its way to the store.
    asked: VecDeque<u8>,
    /// On its way to the guest, which has room for so much more.
    answered: VecDeque<u8>,
    room: usize,
    /// The store serves the guest no more.
    failed: bool,
}

#[derive(Clone, Debug, Default)]
struct Ring(Rc<RefCell<Ends>>);

impl ByteRing for Ring {
    fn read(&mut self, into: &mut [u8]) -> usize {
        let asked = &mut self.0.borrow_mut().asked;
        let count = into.len().min(asked.len());
        into.iter_mut().zip(asked.drain(..count)).for_each(|(to, from)| *to = from);
        count
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut ends = self.0.borrow_mut();
        let count = bytes.len().min(ends.room);
        ends.answered.extend(&bytes[..count]);
        ends.room -= count;
        count
    }

    fn broken(&self) -> bool {
        false
    }
}

impl ServedRing for Ring {
    fn asks_to_begin_anew(&self) -> bool {
        false
    }

    fn begin_anew(&mut self) {}

    fn fail(&mut self, _: u32) {
        self.0.borrow_mut().failed = true;
    }
}

/// A guest's end of the guest's end.
struct Reader<'a>(&'a mut VecDeque<u8>);

impl ByteRing for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.0.len());
        into.iter_mut().zip(self.0.drain(..count)).for_each(|(to, from)| *to = from);
        count
    }

    fn write(&mut self, _: &[u8]) -> usize {
        0
    }

    fn broken(&self) -> bool {
        false
    }
}

/// A guest, and what it awaits.
#[derive(Default)]
struct Guest {
    ring: Ring,
    input: Assembler,
    /// Requests that were sent, by number; each is answered once, in order.
    awaited: VecDeque<u32>,
    sent: u32,
    /// It has sent what is no message, so that nothing is certain any more.
    wild: bool,
}

impl Guest {
    /// Reads all that is there.
    fn read(&mut self) {
        let mut ends = self.ring.0.borrow_mut();
        while let Some(message) = self.input.take(&mut Reader(&mut ends.answered)).expect("the wire's rules")
        {
            if message.header.kind != kind::WATCH_EVENT && !self.wild {
                assert_eq!(self.awaited.pop_front(), Some(message.header.request), "answers come in order");
            }
        }
        assert!(!ends.failed || self.wild, "who keeps to the rules is served");
        ends.room = 1024;
    }
}

/// Two guests that ask anything of the store.
pub fn xenstore(bytes: &[u8]) {
    let mut store = Xenstore::new();
    let mut guests: Vec<Guest> = (1..=GUESTS)
        .map(|domain| {
            let guest = Guest::default();
            store.introduce(&newcomer(domain), guest.ring.clone(), domain.into()).expect("a fresh store");
            guest
        })
        .collect();
    let mut rest = bytes;
    while let Some((&[how, transaction, kind, length], more)) = rest.split_first_chunk() {
        let (payload, more) = more.split_at(more.len().min(length.into()));
        rest = more;
        let guest = &mut guests[usize::from(how) % usize::from(GUESTS)];
        if kind == RAW {
            guest.wild = true;
            guest.ring.0.borrow_mut().asked.extend(payload);
        } else {
            guest.sent += 1;
            guest.awaited.push_back(guest.sent);
            let message = Message::bytes(kind.into(), guest.sent, transaction.into(), &[payload]);
            guest.ring.0.borrow_mut().asked.extend(message);
        }
        if how & LAZY == 0 {
            serve(&mut store, &mut guests);
        }
    }
    serve(&mut store, &mut guests);
    assert!(guests.iter().all(|guest| guest.wild || guest.awaited.is_empty()), "all is answered");
    for domain in 1..=GUESTS {
        store.release(domain);
        assert_eq!(store.read(&format!("/local/domain/{domain}")), None);
    }
}

/// Has the store answer, and the guests read, until neither has anything left to do.
fn serve(store: &mut Xenstore<Ring>, guests: &mut [Guest]) {
    loop {
        guests.iter_mut().for_each(Guest::read);
        let mut moved = false;
        let more = store.turn(|_| moved = true);
        if !more && !moved {
            break;
        }
    }
}

fn newcomer(domain: DomId) -> Newcomer<'static> {
    Newcomer {
        domain,
        name: "web",
        uuid: [domain as u8; 16],
        memory_kib: 65_536,
        vcpus: 2,
        console_frame: 0xf_fffe,
        console_port: 1,
        store_frame: 0xf_fffd,
        store_port: 2,
    }
}
