//! Who owns which 4 KiB frame of the machine, and how many mappings by others it has.
//!
//! Each frame's entry is one atomic word. Core 0's hypervisor alone moves frames between owners and free lists
//! ([`FrameTable`]), so those need no lock. Any core may look at a word, and add or drop a share ([`Words`]): by
//! compare-exchange against the owner, so that a frame which changes hands at that moment is never shared by mistake. A
//! frame whose owner gives it up while it is shared is an orphan: nobody's, until the last share is dropped and core 0
//! takes it.
//!
//! Free memory is kept track of by 2 MiB chunks, so that a guest gets large pages where there are any.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::address::{HostPhys, PAGE_SIZE, PageCount};
use abi::xen::DomId;
use spin::Once;

use super::orphans;

/// Frames in a chunk of 2 MiB.
pub const CHUNK_FRAMES: usize = 512;

/// Whose a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Not memory, or firmware's, or the hypervisor's own for good.
    Reserved,
    /// Nobody's; whether it holds zeroes.
    Free {
        /// Scrubbed since its last owner.
        clean: bool,
    },
    /// The hypervisor's, for a domain's sake: page tables.
    Tables,
    /// A domain's memory.
    Domain(DomId),
    /// The hypervisor's, which a domain may see: its grant table.
    Lent(DomId),
    /// Nobody's any more, but somebody still has it mapped.
    Orphan,
}

const RESERVED: u64 = 0;
const FREE_DIRTY: u64 = 1;
const FREE_CLEAN: u64 = 2;
const TABLES: u64 = 3;
const DOMAIN: u64 = 4;
const LENT: u64 = 5;
const ORPHAN: u64 = 6;

/// Bits 0 to 15: the domain; 16 to 23: the kind of owner; 24 to 43: shares; 44 to 63: the audit's count of those.
const KIND_SHIFT: u32 = 16;
const OWNER: u64 = (1 << 24) - 1;
const SHARE: u64 = 1 << 24;
const COUNT: u64 = (1 << 20) - 1;
const SHARES_SHIFT: u32 = 24;
const SEEN: u64 = 1 << 44;
const SEEN_SHIFT: u32 = 44;

/// The word of a frame nobody shares.
const fn encode(owner: Owner) -> u64 {
    match owner {
        Owner::Reserved => RESERVED << KIND_SHIFT,
        Owner::Free { clean: false } => FREE_DIRTY << KIND_SHIFT,
        Owner::Free { clean: true } => FREE_CLEAN << KIND_SHIFT,
        Owner::Tables => TABLES << KIND_SHIFT,
        Owner::Domain(domain) => DOMAIN << KIND_SHIFT | domain as u64,
        Owner::Lent(domain) => LENT << KIND_SHIFT | domain as u64,
        Owner::Orphan => ORPHAN << KIND_SHIFT,
    }
}

const fn owner(word: u64) -> Owner {
    let domain = word as DomId;
    match word >> KIND_SHIFT & 0xff {
        FREE_DIRTY => Owner::Free { clean: false },
        FREE_CLEAN => Owner::Free { clean: true },
        TABLES => Owner::Tables,
        DOMAIN => Owner::Domain(domain),
        LENT => Owner::Lent(domain),
        ORPHAN => Owner::Orphan,
        _ => Owner::Reserved,
    }
}

const fn shares(word: u64) -> u64 {
    word >> SHARES_SHIFT & COUNT
}

/// One frame's entry. All zeroes: not for use.
#[derive(Debug)]
#[repr(transparent)]
pub struct Frame(AtomicU64);

impl Frame {
    /// A frame that is not for use.
    pub const fn reserved() -> Self {
        Self(AtomicU64::new(0))
    }
}

/// All entries, for any core to look at.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(&'a [Frame]);

static WORDS: Once<Words<'static>> = Once::new();

/// Lets every core see the machine's table, once.
pub fn publish(words: Words<'static>) {
    WORDS.call_once(|| words);
}

/// The machine's table; before it is there, an empty one.
#[inline]
pub fn words() -> Words<'static> {
    WORDS.get().copied().unwrap_or(Words(&[]))
}

impl Words<'_> {
    #[inline]
    fn word(&self, frame: HostPhys) -> Option<&AtomicU64> {
        self.0.get(index_of(frame)).map(|entry| &entry.0)
    }

    #[inline]
    fn load(&self, frame: HostPhys) -> u64 {
        self.word(frame).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Whose this frame is; `Reserved` beyond the table.
    pub fn owner(&self, frame: HostPhys) -> Owner {
        owner(self.load(frame))
    }

    /// How many mappings by others than its owner it has.
    pub fn shares(&self, frame: HostPhys) -> u64 {
        shares(self.load(frame))
    }

    /// Notes one more use of this domain's frame by another. `false`: it is not that domain's memory now, or shared too
    /// often. From now on it is not used for anything else until [`Self::unshare`].
    #[inline]
    pub fn share(&self, frame: HostPhys, domain: DomId) -> bool {
        let Some(word) = self.word(frame) else { return false };
        let more = |now: u64| {
            (now & OWNER == encode(Owner::Domain(domain)) && shares(now) < COUNT).then(|| now + SHARE)
        };
        word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// Notes one use less. `true`: it was the last, and the frame has no owner: core 0 is to take it back.
    #[inline]
    #[must_use]
    pub fn unshare(&self, frame: HostPhys) -> bool {
        let Some(word) = self.word(frame) else { return false };
        let less = |now: u64| (shares(now) > 0).then(|| now - SHARE);
        let before = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
        before.is_ok_and(|now| shares(now) == 1 && owner(now) == Owner::Orphan)
    }
}

/// The table as core 0 has it.
#[derive(Debug)]
pub struct FrameTable<'a> {
    words: Words<'a>,
    /// Free frames of each chunk.
    free: &'a mut [u16],
    total: u64,
    free_total: u64,
    /// No chunk below this one has a free frame.
    first_free: usize,
}

impl<'a> FrameTable<'a> {
    /// A table of frames that are all reserved still. `chunks` has a zero for each [`CHUNK_FRAMES`] of them.
    pub fn new(frames: &'a [Frame], chunks: &'a mut [u16]) -> Self {
        Self { words: Words(frames), free: chunks, total: 0, free_total: 0, first_free: 0 }
    }

    /// What every core may see of it.
    pub fn words(&self) -> Words<'a> {
        self.words
    }

    /// Frees reserved frames that were never used: `pages` from `start` on, as far as the table reaches.
    pub fn add(&mut self, start: HostPhys, pages: PageCount) {
        let mut index = index_of(start);
        let end = index.saturating_add(pages.get() as usize).min(self.words.0.len());
        while index < end {
            let chunk = index / CHUNK_FRAMES;
            let behind = end.min((chunk + 1) * CHUNK_FRAMES);
            let mut added = 0;
            for Frame(word) in &self.words.0[index..behind] {
                if word.load(Ordering::Relaxed) == encode(Owner::Reserved) {
                    word.store(encode(Owner::Free { clean: false }), Ordering::Release);
                    added += 1;
                }
            }
            self.free[chunk] += added;
            self.total += u64::from(added);
            self.free_total += u64::from(added);
            self.first_free = self.first_free.min(chunk);
            index = behind;
        }
    }

    /// Frames that domains may have, free or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Of those, the free ones.
    pub fn free(&self) -> u64 {
        self.free_total
    }

    /// Whose this frame is; `Reserved` beyond the table.
    pub fn owner(&self, frame: HostPhys) -> Owner {
        self.words.owner(frame)
    }

    /// A free frame for `owner`, and whether it holds zeroes.
    pub fn take_frame(&mut self, owner: Owner) -> Option<(HostPhys, bool)> {
        // A chunk that is in use already, if there is one, so that whole chunks stay whole.
        let chunk = (self.first_free..self.free.len())
            .find(|&chunk| (1..CHUNK_FRAMES as u16).contains(&self.free[chunk]))
            .or_else(|| (self.first_free..self.free.len()).find(|&chunk| self.free[chunk] > 0))?;
        let start = chunk * CHUNK_FRAMES;
        let end = (start + CHUNK_FRAMES).min(self.words.0.len());
        let is_free = |&index: &usize| matches!(self.words.owner(address_of(index)), Owner::Free { .. });
        let index = (start..end).find(is_free)?;
        Some((address_of(index), self.take(index, owner)))
    }

    /// A free, aligned 2 MiB of frames for `owner`, and whether all of it holds zeroes.
    pub fn take_chunk(&mut self, owner: Owner) -> Option<(HostPhys, bool)> {
        let chunk =
            (self.first_free..self.free.len()).find(|&chunk| self.free[chunk] as usize == CHUNK_FRAMES)?;
        Some((address_of(chunk * CHUNK_FRAMES), self.take_whole(chunk, owner)))
    }

    /// So many free, aligned 2 MiB of frames in a row, whatever they hold.
    pub fn take_chunks(&mut self, count: usize, owner: Owner) -> Option<HostPhys> {
        let mut run = 0;
        let mut chunks = self.first_free..self.free.len();
        let last = chunks.find(|&chunk| {
            run = if self.free[chunk] as usize == CHUNK_FRAMES { run + 1 } else { 0 };
            run == count
        })?;
        let first = last + 1 - count;
        for chunk in first..=last {
            self.take_whole(chunk, owner);
        }
        Some(address_of(first * CHUNK_FRAMES))
    }

    /// Takes a frame from its owner. `true`: nobody can use it, and it is ours, to be given back; `false`: others have it
    /// mapped, and the last of them gives it back, or there was no owner.
    pub fn disown(&mut self, frame: HostPhys) -> bool {
        let Some(word) = self.words.word(frame) else { return false };
        let without = |now: u64| match owner(now) {
            Owner::Domain(_) | Owner::Lent(_) if shares(now) == 0 => Some(encode(Owner::Tables)),
            Owner::Domain(_) => Some(now & !OWNER | encode(Owner::Orphan)),
            _ => None,
        };
        let before = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, without);
        before.is_ok_and(|now| shares(now) == 0)
    }

    /// Gives a frame back. `clean`: it was filled with zeroes. Frames that are free or reserved stay so, and one that
    /// others have mapped waits for them.
    pub fn give_back(&mut self, frame: HostPhys, clean: bool) {
        let given = match self.owner(frame) {
            Owner::Tables => true,
            Owner::Orphan => self.words.shares(frame) == 0,
            Owner::Domain(_) | Owner::Lent(_) => self.disown(frame),
            Owner::Reserved | Owner::Free { .. } => false,
        };
        if given {
            self.release(index_of(frame), clean);
        }
    }

    /// Takes back the orphans that nobody has mapped any more.
    pub fn collect(&mut self) {
        orphans::take_all(|frame| self.give_back(frame, false));
    }

    /// The audit: one mapping of a shared frame was seen.
    pub fn mark_seen(&mut self, frame: HostPhys) {
        if let Some(word) = self.words.word(frame) {
            let more = |now: u64| (now >> SEEN_SHIFT < COUNT).then(|| now + SEEN);
            // Full is as good as wrong, which it then is.
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more);
        }
    }

    /// The audit's end: how many frames were seen shared more or less often than is noted. Forgets what was seen.
    pub fn miscounted(&mut self) -> u64 {
        let mut wrong = 0;
        for Frame(word) in self.words.0 {
            let now = word.load(Ordering::Relaxed);
            if now >> SEEN_SHIFT != shares(now) {
                wrong += 1;
            }
            if now >> SEEN_SHIFT != 0 {
                word.fetch_and(SEEN - 1, Ordering::AcqRel);
            }
        }
        wrong
    }

    fn take(&mut self, index: usize, owner: Owner) -> bool {
        let Some(frame) = self.words.0.get(index) else { return false };
        let clean = take_free(frame, encode(owner));
        self.count_taken(index / CHUNK_FRAMES, 1);
        clean
    }

    /// Takes all frames of a chunk, which are free.
    fn take_whole(&mut self, chunk: usize, owner: Owner) -> bool {
        let frames = self.words.0.iter().skip(chunk * CHUNK_FRAMES).take(CHUNK_FRAMES);
        let word = encode(owner);
        let mut clean = true;
        for frame in frames {
            clean &= take_free(frame, word);
        }
        self.count_taken(chunk, CHUNK_FRAMES as u16);
        clean
    }

    fn count_taken(&mut self, chunk: usize, frames: u16) {
        self.free[chunk] -= frames;
        self.free_total -= u64::from(frames);
        if self.free[chunk] == 0 && chunk == self.first_free {
            self.first_free += 1;
        }
    }

    fn release(&mut self, index: usize, clean: bool) {
        let Some(Frame(word)) = self.words.0.get(index) else { return };
        word.store(encode(Owner::Free { clean }), Ordering::Release);
        let chunk = index / CHUNK_FRAMES;
        self.free[chunk] += 1;
        self.free_total += 1;
        self.first_free = self.first_free.min(chunk);
    }
}

/// Gives a free frame this word; whether it held zeroes. Nobody else changes the word of a free frame.
fn take_free(Frame(word): &Frame, taken: u64) -> bool {
    let clean = word.load(Ordering::Relaxed) == encode(Owner::Free { clean: true });
    word.store(taken, Ordering::Release);
    clean
}

fn index_of(frame: HostPhys) -> usize {
    (frame.as_u64() / PAGE_SIZE) as usize
}

fn address_of(index: usize) -> HostPhys {
    HostPhys::new(index as u64 * PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn frames(count: usize) -> std::vec::Vec<Frame> {
        std::iter::repeat_with(Frame::reserved).take(count).collect()
    }

    fn with_table<R>(run: impl FnOnce(&mut FrameTable) -> R) -> R {
        let (frames, mut chunks) = (frames(4 * CHUNK_FRAMES), vec![0; 4]);
        let mut table = FrameTable::new(&frames, &mut chunks);
        table.add(HostPhys::new(0x1000), PageCount::new(4 * CHUNK_FRAMES as u64 + 100));
        run(&mut table)
    }

    #[test]
    fn what_is_taken_comes_back() {
        with_table(|table| {
            let all = table.free();
            assert_eq!((table.total(), all), (2047, 2047));
            let (chunk, clean) = table.take_chunk(Owner::Domain(3)).unwrap();
            assert!(chunk.is_aligned(1 << 21) && !clean);
            assert_eq!(table.owner(chunk), Owner::Domain(3));
            let (frame, _) = table.take_frame(Owner::Tables).unwrap();
            assert_eq!(frame, HostPhys::new(0x1000), "a broken chunk is used first");
            for page in 0..CHUNK_FRAMES as u64 {
                table.give_back(HostPhys::new(chunk.as_u64() + page * PAGE_SIZE), true);
            }
            table.give_back(frame, false);
            table.give_back(frame, false);
            assert_eq!(table.free(), all);
            assert_eq!(table.take_chunk(Owner::Domain(4)), Some((chunk, true)));
        });
    }

    #[test]
    fn chunks_in_a_row() {
        with_table(|table| {
            let all = table.free();
            // The first chunk is broken: its first frame is not free.
            assert_eq!(table.take_chunks(4, Owner::Tables), None);
            let (single, _) = table.take_chunk(Owner::Domain(1)).unwrap();
            let start = table.take_chunks(2, Owner::Tables).unwrap();
            assert_eq!((single, start), (HostPhys::new(1 << 21), HostPhys::new(2 << 21)));
            assert_eq!(table.take_chunks(1, Owner::Tables), None);
            assert_eq!(table.free(), all - 3 * CHUNK_FRAMES as u64);
            assert_eq!(table.owner(HostPhys::new((4 << 21) - PAGE_SIZE)), Owner::Tables);
        });
    }

    #[test]
    fn it_ends() {
        with_table(|table| {
            while table.take_frame(Owner::Domain(1)).is_some() {}
            assert_eq!(table.free(), 0);
            assert_eq!(table.take_chunk(Owner::Domain(1)), None);
            assert_eq!(table.owner(HostPhys::new(0)), Owner::Reserved);
            assert_eq!(table.owner(HostPhys::new(u64::MAX)), Owner::Reserved);
        });
    }

    #[test]
    fn shares_are_counted() {
        with_table(|table| {
            let words = table.words();
            let (frame, _) = table.take_frame(Owner::Domain(0)).unwrap();
            assert!(words.share(frame, 0) && !words.share(frame, 1));
            assert_eq!(table.miscounted(), 1);
            table.mark_seen(frame);
            assert_eq!(table.miscounted(), 0);
            assert!(!words.unshare(frame) && !words.unshare(frame));
            assert_eq!((words.shares(frame), table.miscounted()), (0, 0));
        });
    }

    #[test]
    fn an_orphan_waits_for_its_last_share() {
        with_table(|table| {
            let (words, all) = (table.words(), table.free());
            let (frame, _) = table.take_frame(Owner::Domain(7)).unwrap();
            assert!(words.share(frame, 7) && words.share(frame, 7));
            table.give_back(frame, true);
            assert_eq!((table.owner(frame), table.free()), (Owner::Orphan, all - 1));
            assert!(!words.share(frame, 7), "nobody's frame is not granted");
            assert!(!words.unshare(frame));
            table.give_back(frame, true);
            assert_eq!(table.owner(frame), Owner::Orphan);
            assert!(words.unshare(frame), "the last one gives it back");
            table.give_back(frame, false);
            assert_eq!((table.owner(frame), table.free()), (Owner::Free { clean: false }, all));
        });
    }

    #[test]
    fn what_is_lent_is_not_shared() {
        with_table(|table| {
            let words = table.words();
            let (frame, _) = table.take_frame(Owner::Lent(7)).unwrap();
            assert!(!words.share(frame, 7));
            assert!(table.disown(frame) && !table.disown(frame));
            assert_eq!(table.owner(frame), Owner::Tables);
        });
    }
}
