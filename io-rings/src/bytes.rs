//! Xen's byte rings: the console (`io/console.h`) and the xenstore connection (`io/xs_wire.h`).
//!
//! A page holds two streams, one each way, and for each a consumer and a producer index: 32 bits, free-running, so
//! that their difference is the number of bytes under way and the low bits are the place. The writer owns `prod`,
//! the reader owns `cons`. An end takes its own index from the page once, when it attaches, and from then on
//! trusts its private copy; the peer's index is believed only if it lies between what was seen before and what
//! can be.
//!
//! These rings have no event threshold: whoever moved bytes notifies, the writer because there is something to
//! read, the reader because there is room again. Linux spares its store some of these events: having written, it
//! notifies only if all it wrote before was read. So an end that moved bytes fences before it looks at the peer's index
//! again, and an end that rests has looked once more after the last bytes it moved.

use crate::hostile::Word;
use crate::sync::{AtomicU8, AtomicU32, Ordering, array_of, const_unless_loom, fence};

/// Two streams in a page, as both of Xen's byte rings have them: the bytes, then the four indices, three words that
/// only xenstore's has a use for, then nothing (`REST` makes it a page).
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct BytePage<const FIRST: usize, const SECOND: usize, const REST: usize> {
    first: [AtomicU8; FIRST],
    second: [AtomicU8; SECOND],
    first_cons: AtomicU32,
    first_prod: AtomicU32,
    second_cons: AtomicU32,
    second_prod: AtomicU32,
    features: AtomicU32,
    connection: AtomicU32,
    error: AtomicU32,
    rest: [AtomicU8; REST],
}

/// The console's page, `struct xencons_interface`: `in[1024]`, `out[2048]`, `in_cons`, `in_prod`, `out_cons`,
/// `out_prod`. What is typed comes in to the guest, what it prints goes out. The byte behind the indices says that
/// nobody serves the console, where it is 1; here it stays 0.
pub type ConsolePage = BytePage<1024, 2048, 996>;

/// The xenstore connection's page, `struct xenstore_domain_interface`: `req[1024]`, `rsp[1024]`, `req_cons`,
/// `req_prod`, `rsp_cons`, `rsp_prod`, `server_features`, `connection`, `error`. The guest writes requests and reads
/// responses and watch events.
pub type XenstorePage = BytePage<1024, 1024, 2020>;

#[cfg(not(loom))]
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<ConsolePage>() == 4096 && size_of::<XenstorePage>() == 4096);
    assert!(offset_of!(ConsolePage, second) == 1024 && offset_of!(XenstorePage, second) == 1024);
    assert!(offset_of!(ConsolePage, first_cons) == 3072 && offset_of!(ConsolePage, second_prod) == 3084);
    assert!(offset_of!(XenstorePage, first_cons) == 2048 && offset_of!(XenstorePage, second_prod) == 2060);
    assert!(offset_of!(XenstorePage, features) == 2064 && offset_of!(XenstorePage, error) == 2072);
};

impl<const FIRST: usize, const SECOND: usize, const REST: usize> BytePage<FIRST, SECOND, REST> {
    const_unless_loom! {
        /// A page with both streams empty: all zero.
        pub fn new() -> Self {
            Self {
                first: array_of![AtomicU8::new(0); FIRST],
                second: array_of![AtomicU8::new(0); SECOND],
                first_cons: AtomicU32::new(0),
                first_prod: AtomicU32::new(0),
                second_cons: AtomicU32::new(0),
                second_prod: AtomicU32::new(0),
                features: AtomicU32::new(0),
                connection: AtomicU32::new(0),
                error: AtomicU32::new(0),
                rest: array_of![AtomicU8::new(0); REST],
            }
        }
    }

    /// Makes the page fresh again. Both ends must be gone, and new ones made only after this returned.
    pub fn reset(&self) {
        self.words().for_each(|word| word.set(0));
    }

    /// The words of the page, as a scribbling peer sees them: see [`crate::hostile`].
    pub(crate) fn words(&self) -> impl Iterator<Item = Word<'_>> {
        let indices = [&self.first_cons, &self.first_prod, &self.second_cons, &self.second_prod];
        let more = [&self.features, &self.connection, &self.error];
        let bytes = self.first.iter().chain(&self.second).chain(&self.rest);
        indices.into_iter().chain(more).map(Word::Half).chain(bytes.map(Word::Byte))
    }

    fn first_reader(&self) -> Reader<'_, FIRST> {
        Reader { stream: Stream::new(&self.first, &self.first_cons, &self.first_prod, 0) }
    }

    fn first_writer(&self) -> Writer<'_, FIRST> {
        Writer { stream: Stream::new(&self.first, &self.first_prod, &self.first_cons, FIRST as u32) }
    }

    fn second_reader(&self) -> Reader<'_, SECOND> {
        Reader { stream: Stream::new(&self.second, &self.second_cons, &self.second_prod, 0) }
    }

    fn second_writer(&self) -> Writer<'_, SECOND> {
        Writer { stream: Stream::new(&self.second, &self.second_prod, &self.second_cons, SECOND as u32) }
    }
}

impl<const FIRST: usize, const SECOND: usize, const REST: usize> Default for BytePage<FIRST, SECOND, REST> {
    fn default() -> Self {
        Self::new()
    }
}

impl ConsolePage {
    /// The guest's ends, attached where the page's indices stand: it reads `in` and writes `out`.
    pub fn guest(&self) -> (Reader<'_, 1024>, Writer<'_, 2048>) {
        (self.first_reader(), self.second_writer())
    }

    /// The back end's ends, attached where the page's indices stand: it reads `out` and writes `in`.
    pub fn back(&self) -> (Reader<'_, 2048>, Writer<'_, 1024>) {
        (self.second_reader(), self.first_writer())
    }
}

impl XenstorePage {
    /// The guest's ends, attached where the page's indices stand: it reads `rsp` and writes `req`.
    pub fn guest(&self) -> (Reader<'_, 1024>, Writer<'_, 1024>) {
        (self.second_reader(), self.first_writer())
    }

    /// The store's ends, attached where the page's indices stand: it reads `req` and writes `rsp`.
    pub fn back(&self) -> (Reader<'_, 1024>, Writer<'_, 1024>) {
        (self.first_reader(), self.second_writer())
    }

    /// The store says what it [can do](Self::features).
    pub fn offer(&self, features: u32) {
        self.features.store(features, Ordering::Release);
    }

    /// What the store says that it can do.
    pub fn features(&self) -> u32 {
        self.features.load(Ordering::Acquire)
    }

    /// The connection's state: a guest that wants to begin anew writes it, and the store writes it back.
    pub fn connection(&self) -> u32 {
        self.connection.load(Ordering::Acquire)
    }

    /// The guest asks to begin anew with this state; it touches nothing else until the store has changed it back.
    pub fn set_connection(&self, state: u32) {
        self.connection.store(state, Ordering::Release);
    }

    /// Why the store serves this guest no more; 0: it does.
    pub fn error(&self) -> u32 {
        self.error.load(Ordering::Acquire)
    }

    /// The store says why it serves this guest no more.
    pub fn set_error(&self, error: u32) {
        self.error.store(error, Ordering::Release);
    }

    /// The store empties both streams, and takes the connection as good from here on. Its old ends are to be dropped,
    /// and new ones made.
    pub fn begin_anew(&self, connected: u32) {
        for index in [&self.first_cons, &self.first_prod, &self.second_cons, &self.second_prod, &self.error] {
            index.store(0, Ordering::Relaxed);
        }
        self.connection.store(connected, Ordering::Release);
    }
}

/// The end that puts bytes into a stream.
#[derive(Debug)]
pub struct Writer<'a, const BYTES: usize> {
    stream: Stream<'a, BYTES>,
}

impl<const BYTES: usize> Writer<'_, BYTES> {
    /// Writes what there is room for and says how many bytes that was; 0 once the peer is [broken](Self::broken).
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let room = self.stream.reach();
        let places = self.stream.places();
        let count =
            places.zip(bytes).take(room).map(|(place, byte)| place.store(*byte, Ordering::Relaxed)).count();
        self.stream.advance(count);
        count
    }

    /// How many bytes can be written now.
    pub fn room(&mut self) -> usize {
        self.stream.reach()
    }

    /// The reader's index took something back or ran ahead; this lasts.
    pub fn broken(&self) -> bool {
        self.stream.broken
    }
}

/// The end that takes bytes out of a stream.
#[derive(Debug)]
pub struct Reader<'a, const BYTES: usize> {
    stream: Stream<'a, BYTES>,
}

impl<const BYTES: usize> Reader<'_, BYTES> {
    /// Reads what is there, as far as it fits, and says how many bytes that was; 0 once the peer is
    /// [broken](Self::broken).
    pub fn read(&mut self, bytes: &mut [u8]) -> usize {
        let there = self.stream.reach();
        let places = self.stream.places();
        let count =
            places.zip(bytes).take(there).map(|(place, byte)| *byte = place.load(Ordering::Relaxed)).count();
        self.stream.advance(count);
        count
    }

    /// How many bytes can be read now.
    pub fn available(&mut self) -> usize {
        self.stream.reach()
    }

    /// The writer's index took something back or ran ahead; this lasts.
    pub fn broken(&self) -> bool {
        self.stream.broken
    }
}

/// One stream as either end sees it: its own index may move until it reaches the peer's index plus `lead`, which
/// is 0 for a reader and the whole ring for a writer.
#[derive(Debug)]
struct Stream<'a, const BYTES: usize> {
    bytes: &'a [AtomicU8; BYTES],
    shared_own: &'a AtomicU32,
    shared_peer: &'a AtomicU32,
    lead: u32,
    own: u32,
    /// How far the own index may move as far as is known: what the peer gave it cannot take back.
    reach: u32,
    broken: bool,
}

impl<'a, const BYTES: usize> Stream<'a, BYTES> {
    fn new(bytes: &'a [AtomicU8; BYTES], own: &'a AtomicU32, peer: &'a AtomicU32, lead: u32) -> Self {
        const { assert!(BYTES.is_power_of_two(), "the index wraps at a multiple of the ring") };
        let private = own.load(Ordering::Relaxed);
        Self { bytes, shared_own: own, shared_peer: peer, lead, own: private, reach: 0, broken: false }
    }

    /// Looks at the peer's index. Acquire: a reader sees the bytes that the index shows; a writer knows that those
    /// it frees were read.
    fn reach(&mut self) -> usize {
        if self.broken {
            return 0;
        }
        let peer = self.shared_peer.load(Ordering::Acquire);
        let reach = peer.wrapping_add(self.lead).wrapping_sub(self.own);
        if reach > BYTES as u32 || reach < self.reach {
            self.broken = true;
            return 0;
        }
        self.reach = reach;
        reach as usize
    }

    /// The places from the own index on, all the way round.
    fn places(&self) -> impl Iterator<Item = &'a AtomicU8> + use<'a, BYTES> {
        let (before, after) = self.bytes.split_at(self.own as usize & (BYTES - 1));
        after.iter().chain(before)
    }

    /// Shows the peer that `count` bytes were moved, at most as many as `reach` said.
    fn advance(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.own = self.own.wrapping_add(count as u32);
        self.reach = self.reach.wrapping_sub(count as u32);
        self.shared_own.store(self.own, Ordering::Release);
        // This index before the next look at the peer's: see the head.
        fence(Ordering::SeqCst);
    }
}
