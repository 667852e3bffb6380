//! Too much for xenstore: nodes, watches, transactions, sizes, half requests, answers that nobody reads, other domains'
//! nodes, lies in the ring.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::xen::event_channel::Port;
use abi::xen::xs_wire::{connection, kind};
use alloc::format;
use alloc::vec::Vec;
use guest_kernel::platform::atoll::{cpu, hypercall};
use guest_kernel::programs::random::Random;
use guest_kernel::say;
use guest_kernel::xenstore::wire::{Assembler, ByteRing, Message, PageEnd};
use io_rings::bytes::XenstorePage;

/// Requests of each kind of flood: more than any quota.
const FLOOD: u32 = 1_500;
/// Pieces of a stream that means nothing.
const PIECES: u64 = 400;
/// How long the store may take for one answer.
const PATIENCE_TICKS: u64 = 4_000_000_000;

/// A conversation, as this guest has it.
struct Talk {
    page: &'static XenstorePage,
    end: PageEnd,
    input: Assembler,
    port: Port,
    /// Answers so far, and errors among them.
    answers: u32,
    errors: u32,
}

impl Talk {
    fn new(page: &'static XenstorePage, port: Port) -> Self {
        Self { page, end: PageEnd::guest(page), input: Assembler::default(), port, answers: 0, errors: 0 }
    }

    fn notify(&self) {
        // That the port is closed shows in there being no answer.
        let _ = hypercall::send(self.port);
    }

    /// Waits until `is_so`. False: it was never so.
    fn until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        let end = cpu::tsc() + PATIENCE_TICKS;
        while cpu::tsc() < end {
            if is_so(self) {
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    /// Takes what is there.
    fn take(&mut self) {
        while let Ok(Some(message)) = self.input.take(&mut self.end) {
            self.notify();
            if message.header.kind != kind::WATCH_EVENT {
                self.answers += 1;
                self.errors += u32::from(message.header.kind == kind::ERROR);
            }
        }
    }

    /// Sends a request, and takes answers while there is no room.
    fn send(&mut self, kind: u32, transaction: u32, payload: &[u8]) {
        let bytes = Message::bytes(kind, 1, transaction, &[payload]);
        let mut rest = bytes.as_slice();
        self.until(|talk| {
            let count = talk.end.write(rest);
            rest = &rest[count..];
            if count > 0 {
                talk.notify();
            }
            talk.take();
            rest.is_empty()
        });
    }

    /// Sends so many, and waits for as many answers. How many of those were errors.
    fn flood(&mut self, kind: u32, payload: impl Fn(u32) -> Vec<u8>) -> u32 {
        let (answers, errors) = (self.answers, self.errors);
        (0..FLOOD).for_each(|number| self.send(kind, 0, &payload(number)));
        if !self.until(|talk| {
            talk.take();
            talk.answers == answers + FLOOD
        }) {
            say!("bad: {} of {FLOOD} requests were answered", self.answers - answers);
        }
        self.errors - errors
    }

    /// Asks for a fresh beginning.
    fn begin_anew(&mut self) -> bool {
        self.page.set_connection(connection::RECONNECT);
        self.notify();
        let page = self.page;
        let begun = self.until(|_| page.connection() == connection::CONNECTED);
        *self = Self::new(self.page, self.port);
        begun
    }
}

/// All of that, one after the other.
pub fn store(store: Option<(&'static XenstorePage, Port)>, random: &mut Random) {
    let Some((page, port)) = store else { return say!("bad: no store here") };
    let mut talk = Talk::new(page, port);
    let nodes = talk.flood(kind::WRITE, |number| format!("data/{number}\0x").into_bytes());
    let sizes = talk.flood(kind::WRITE, |number| {
        let mut value = format!("data/{number}\0").into_bytes();
        value.resize(4096 - (number as usize % 64), b'x');
        value
    });
    let watches = talk.flood(kind::WATCH, |number| format!("data\0{number}\0").into_bytes());
    let transactions = talk.flood(kind::TRANSACTION_START, |_| b"\0".to_vec());
    let foreign =
        talk.flood(kind::WRITE, |number| format!("/local/domain/{}/name\0mine", number % 3).into_bytes());
    let privileged = talk.flood(kind::INTRODUCE, |number| format!("{number}\x00262141\x001\0").into_bytes());
    let strange = talk.flood(1_000_000, |_| Vec::new());
    say!(
        "bad: of {FLOOD} each refused: {nodes} nodes, {sizes} large ones, {watches} watches, {transactions} \
          transactions, {foreign} nodes of others, {privileged} of domain 0's requests, {strange} that do not exist"
    );
    say!("bad: anew {}", talk.begin_anew());

    // Requests whose answers nobody reads, until no more is taken.
    let request = Message::bytes(kind::READ, 7, 0, &[b"memory/static-max\0"]);
    while talk.end.write(&request) == request.len() {
        talk.notify();
    }
    // A half one.
    talk.end.write(&request[..9]);
    talk.notify();
    say!("bad: anew {}", talk.begin_anew());

    for _ in 0..PIECES {
        let piece: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
        talk.end.write(&piece);
        talk.notify();
    }
    say!("bad: anew {}", talk.begin_anew());
    // SAFETY: words to whoever wants them, as for `rings::lie_to_keeper`.
    let words = unsafe { &*core::ptr::from_ref(talk.page).cast::<[AtomicU64; 512]>() };
    words.iter().for_each(|word| word.store(random.draw(), Ordering::SeqCst));
    talk.notify();
    say!("bad: anew {}", talk.begin_anew());
}
