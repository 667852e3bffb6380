//! Grant tables: pages that a domain lets others use, entry by entry.
//!
//! The table's frames are shared with its domain ([`entry`] reads what it wrote). Beside each lies a frame of the
//! hypervisor's own with a word for each entry: by whom it is in use, and how often ([`Pin`]). The granter's home core
//! alone changes these words and sets the marks; a core that wants to use a page asks it, by a leaf request, and then
//! core 0, which counts who uses a frame. What a domain has mapped is in its home's [`maptrack`].
//!
//! A granter that takes its grant back sees from the marks that it is in use still, as on Xen. One that ends leaves the
//! frame to those who use it: it is scrubbed and free when the last of them lets go.

pub mod entry;
pub mod maptrack;

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use abi::address::{HostPhys, PAGE_SIZE};
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::grant_table::{GrantRef, RESERVED_ENTRIES, V1_ENTRY, V2_ENTRY, status};

use crate::memory::physical::{pointer, scrub};
use entry::{Entry, Refused, Window, Wish};

/// Frames that a table may have, as Xen lets guests have by default.
pub const MAX_FRAMES: usize = 64;
/// Status frames that go with those: two bytes an entry of version 2.
pub const MAX_STATUS_FRAMES: usize = MAX_FRAMES / 8;
const V1_PER_FRAME: u32 = (PAGE_SIZE as usize / V1_ENTRY) as u32;
const V2_PER_FRAME: u32 = (PAGE_SIZE as usize / V2_ENTRY) as u32;
const STATUS_PER_FRAME: u32 = (PAGE_SIZE / 2) as u32;

/// One domain's table: which frames it lies in. Zeroes: there are none yet, and it has version 1.
#[derive(Debug)]
pub struct GrantTable {
    /// 0 and 1: version 1.
    version: AtomicU32,
    count: AtomicU32,
    frames: [AtomicU64; MAX_FRAMES],
    /// The hypervisor's own, one beside each.
    pins: [AtomicU64; MAX_FRAMES],
    status: [AtomicU64; MAX_STATUS_FRAMES],
}

/// What a core asks of a granter's home, and what that answers.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Whose grant.
    pub owner: DomId,
    /// Which.
    pub reference: GrantRef,
    /// For what.
    pub wish: Wish,
    /// The page, and the part of it that may be used; or why not.
    pub found: Result<(HostPhys, Window), Refused>,
}

/// By whom an entry is in use, and how often: a word of the hypervisor's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    /// The domain.
    pub domain: DomId,
    /// How often in all.
    pub uses: u32,
    /// How often to be written.
    pub writes: u32,
}

impl Pin {
    const MOST: u32 = 0xff_ffff;

    const fn from_word(word: u64) -> Self {
        Self {
            domain: (word >> 48) as DomId,
            uses: (word >> 24) as u32 & Self::MOST,
            writes: word as u32 & Self::MOST,
        }
    }

    const fn word(self) -> u64 {
        (self.domain as u64) << 48 | (self.uses as u64) << 24 | self.writes as u64
    }

    /// One more use; `None`: another domain uses it, or there are too many.
    fn with(self, wish: Wish) -> Option<Self> {
        let same = self.uses == 0 || self.domain == wish.from;
        let pin =
            Self { domain: wish.from, uses: self.uses + 1, writes: self.writes + u32::from(wish.write) };
        (same && pin.uses < Self::MOST).then_some(pin)
    }

    /// One use less.
    fn without(self, write: bool) -> Self {
        let uses = self.uses.saturating_sub(1);
        Self { uses, writes: self.writes.saturating_sub(write.into()), ..self }
    }
}

impl GrantTable {
    /// Its version.
    pub fn version(&self) -> u32 {
        self.version.load(Relaxed).max(1)
    }

    /// How many frames it has.
    pub fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// How many status frames: none with version 1.
    pub fn status_count(&self) -> u32 {
        if self.version() == 2 { (self.count() * V2_PER_FRAME).div_ceil(STATUS_PER_FRAME) } else { 0 }
    }

    /// How many entries.
    pub fn entries(&self) -> u32 {
        self.count() * if self.version() == 2 { V2_PER_FRAME } else { V1_PER_FRAME }
    }

    /// A frame that the domain may see.
    pub fn frame(&self, index: u32) -> Option<HostPhys> {
        let frame = self.frames.get(index as usize)?.load(Relaxed);
        (frame != 0).then_some(HostPhys::new(frame))
    }

    /// A status frame that the domain may see.
    pub fn status_frame(&self, index: u32) -> Option<HostPhys> {
        let frame = self.status.get(index as usize)?.load(Relaxed);
        (frame != 0).then_some(HostPhys::new(frame))
    }

    /// Whether this is one of the frames that the domain may see.
    pub fn holds(&self, frame: HostPhys) -> bool {
        let all = self.frames.iter().chain(&self.status);
        all.into_iter().any(|place| place.load(Relaxed) == frame.as_u64())
    }

    /// Home: one more frame, with the hypervisor's own beside it. `ENOSPC`: there are too many.
    pub fn add(&self, frame: HostPhys, pins: HostPhys) -> Result<(), Errno> {
        let at = self.count() as usize;
        let (Some(frames), Some(places)) = (self.frames.get(at), self.pins.get(at)) else {
            return Err(Errno::ENOSPC);
        };
        // SAFETY: two frames that were taken for this, and that nobody reaches yet.
        unsafe {
            scrub(frame, PAGE_SIZE);
            scrub(pins, PAGE_SIZE);
        }
        places.store(pins.as_u64(), Relaxed);
        frames.store(frame.as_u64(), Relaxed);
        self.count.store(at as u32 + 1, Relaxed);
        Ok(())
    }

    /// Home: one more status frame. `ENOSPC`: there are too many.
    pub fn add_status(&self, frame: HostPhys) -> Result<(), Errno> {
        let place = self.status.iter().find(|place| place.load(Relaxed) == 0).ok_or(Errno::ENOSPC)?;
        // SAFETY: a frame that was taken for this, and that nobody reaches yet.
        unsafe { scrub(frame, PAGE_SIZE) };
        place.store(frame.as_u64(), Relaxed);
        Ok(())
    }

    /// Core 0, when the domain has ended: all frames, to be given back.
    pub fn empty(&self) -> impl Iterator<Item = HostPhys> {
        self.version.store(0, Relaxed);
        self.count.store(0, Relaxed);
        let all = self.frames.iter().chain(&self.pins).chain(&self.status);
        all.map(|place| place.swap(0, Relaxed)).filter(|&frame| frame != 0).map(HostPhys::new)
    }

    /// Home: switches the layout. `EBUSY`: an entry is in use. What the toolstack's entries say is kept; the others are
    /// emptied.
    pub fn set_version(&self, version: u32) -> Result<(), Errno> {
        if version == self.version() {
            return Ok(());
        }
        if (0..self.entries()).any(|reference| self.pin(reference).is_some_and(|pin| pin.uses > 0)) {
            return Err(Errno::EBUSY);
        }
        let kept: [[u32; 2]; RESERVED_ENTRIES as usize] = core::array::from_fn(|at| self.words(at as u32));
        for frame in self.frames.iter().chain(&self.status).map(|place| place.load(Relaxed)) {
            if frame != 0 {
                // SAFETY: frames of the table's; the guest may look, and sees an entry or none.
                unsafe { scrub(HostPhys::new(frame), PAGE_SIZE) };
            }
        }
        self.version.store(version, Relaxed);
        for (at, [first, gfn]) in kept.into_iter().enumerate() {
            match self.entry(at as u32) {
                Some(Entry::One(words)) => {
                    words[1].store(gfn, Relaxed);
                    words[0].store(first, Relaxed);
                }
                Some(Entry::Two(words, _)) => {
                    words[2].store(gfn, Relaxed);
                    words[0].store(first, Relaxed);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// First word and frame of an entry.
    fn words(&self, reference: GrantRef) -> [u32; 2] {
        match self.entry(reference) {
            Some(Entry::One(words)) => [words[0].load(Relaxed), words[1].load(Relaxed)],
            Some(Entry::Two(words, _)) => [words[0].load(Relaxed), words[2].load(Relaxed)],
            None => [0; 2],
        }
    }

    /// An entry where it lies.
    fn entry(&self, reference: GrantRef) -> Option<Entry<'_>> {
        if reference >= self.entries() {
            return None;
        }
        if self.version() == 1 {
            let (frame, at) = (self.frame(reference / V1_PER_FRAME)?, reference % V1_PER_FRAME);
            // SAFETY: a frame of the table's, which stays as long as the domain; the index is within it. Both sides use
            // atomic words.
            return Some(Entry::One(unsafe { &*pointer::<[AtomicU32; 2]>(frame).add(at as usize) }));
        }
        let (frame, at) = (self.frame(reference / V2_PER_FRAME)?, reference % V2_PER_FRAME);
        let (marks, mark) = (self.status_frame(reference / STATUS_PER_FRAME)?, reference % STATUS_PER_FRAME);
        // SAFETY: as above, twice.
        unsafe {
            let words = &*pointer::<[AtomicU32; 4]>(frame).add(at as usize);
            Some(Entry::Two(words, &*pointer::<AtomicU16>(marks).add(mark as usize)))
        }
    }

    /// The hypervisor's word for an entry.
    fn place(&self, reference: GrantRef) -> Option<&AtomicU64> {
        let per_frame = if self.version() == 2 { V2_PER_FRAME } else { V1_PER_FRAME };
        let frame = self.pins.get((reference / per_frame) as usize)?.load(Relaxed);
        if frame == 0 || reference >= self.entries() {
            return None;
        }
        // SAFETY: the hypervisor's own frame, of as many words as a table's frame has entries.
        Some(unsafe { &*pointer::<AtomicU64>(HostPhys::new(frame)).add((reference % per_frame) as usize) })
    }

    fn pin(&self, reference: GrantRef) -> Option<Pin> {
        Some(Pin::from_word(self.place(reference)?.load(Relaxed)))
    }

    /// Home: an entry is used once more, if it permits that.
    pub fn acquire(&self, reference: GrantRef, wish: Wish) -> Result<Window, Refused> {
        let (Some(entry), Some(place)) = (self.entry(reference), self.place(reference)) else {
            return Err(status::BAD_GNTREF);
        };
        let before = Pin::from_word(place.load(Relaxed));
        let pin = before.with(wish).ok_or(status::GENERAL_ERROR)?;
        let window = entry.acquire(wish)?;
        place.store(pin.word(), Relaxed);
        Ok(window)
    }

    /// Home: one use of an entry has ended.
    pub fn release(&self, reference: GrantRef, write: bool) {
        let (Some(entry), Some(place)) = (self.entry(reference), self.place(reference)) else { return };
        let pin = Pin::from_word(place.load(Relaxed)).without(write);
        place.store(pin.word(), Relaxed);
        entry.release(pin.writes == 0, pin.uses == 0);
    }

    /// Home: exchanges two entries, neither of them in use. The answer is a `GNTST_*`.
    pub fn swap(&self, one: GrantRef, other: GrantRef) -> i16 {
        let (Some(a), Some(b)) = (self.pin(one), self.pin(other)) else { return status::BAD_GNTREF };
        if one == other {
            return status::OKAY;
        }
        if a.uses > 0 || b.uses > 0 {
            return status::GENERAL_ERROR;
        }
        match (self.entry(one), self.entry(other)) {
            (Some(Entry::One(a)), Some(Entry::One(b))) => exchange(a, b),
            (Some(Entry::Two(a, _)), Some(Entry::Two(b, _))) => exchange(a, b),
            _ => return status::BAD_GNTREF,
        }
        status::OKAY
    }
}

fn exchange(a: &[AtomicU32], b: &[AtomicU32]) {
    for (a, b) in a.iter().zip(b).rev() {
        b.store(a.swap(b.load(Relaxed), Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::xen::grant_table::flag;
    use std::boxed::Box;

    fn page() -> HostPhys {
        #[repr(align(4096))]
        struct Page(#[expect(dead_code, reason = "memory, whoever reads it")] [u64; 512]);
        HostPhys::new(Box::leak(Box::new(Page([1; 512]))) as *mut Page as u64)
    }

    fn table(frames: usize) -> Box<GrantTable> {
        // SAFETY: zeroes are a table without frames.
        let table: Box<GrantTable> = unsafe { Box::new(core::mem::zeroed()) };
        for _ in 0..frames {
            table.add(page(), page()).unwrap();
        }
        table
    }

    fn grant(table: &GrantTable, reference: GrantRef, flags: u16, domain: DomId, gfn: u32) {
        let (first, frame) = match table.entry(reference).unwrap() {
            Entry::One(words) => (&words[0], &words[1]),
            Entry::Two(words, _) => (&words[0], &words[2]),
        };
        frame.store(gfn, Relaxed);
        first.store(u32::from(flags) | u32::from(domain) << 16, Relaxed);
    }

    const READ: Wish = Wish { from: 5, write: false, whole: true };
    const WRITE: Wish = Wish { write: true, ..READ };

    #[test]
    fn marks_stay_as_long_as_somebody_uses_it() {
        let table = table(1);
        grant(&table, 511, flag::PERMIT_ACCESS, 5, 77);
        assert_eq!(table.acquire(511, WRITE).unwrap().gfn, 77);
        assert!(table.acquire(511, READ).is_ok());
        table.release(511, true);
        assert_eq!(table.words(511)[0] as u16, flag::PERMIT_ACCESS | flag::READING);
        // Revoked and given to another meanwhile: the other has to wait.
        grant(&table, 511, flag::PERMIT_ACCESS | flag::READING, 6, 77);
        assert_eq!(table.acquire(511, Wish { from: 6, ..READ }), Err(status::GENERAL_ERROR));
        table.release(511, false);
        assert_eq!(table.words(511)[0] as u16, flag::PERMIT_ACCESS);
        assert!(table.acquire(511, Wish { from: 6, ..READ }).is_ok());
        assert_eq!(table.acquire(512, READ), Err(status::BAD_GNTREF));
        assert_eq!(table.acquire(u32::MAX, READ), Err(status::BAD_GNTREF));
    }

    #[test]
    fn the_version_changes_when_nothing_is_in_use() {
        let table = table(2);
        grant(&table, 3, flag::PERMIT_ACCESS, 5, 33);
        grant(&table, 100, flag::PERMIT_ACCESS, 5, 44);
        assert!(table.acquire(100, READ).is_ok());
        assert_eq!(table.set_version(2), Err(Errno::EBUSY));
        table.release(100, false);
        table.add_status(page()).unwrap();
        table.set_version(2).unwrap();
        assert_eq!((table.entries(), table.status_count()), (512, 1));
        assert_eq!(table.acquire(3, READ).unwrap().gfn, 33, "the toolstack's are kept");
        assert_eq!(table.acquire(100, READ), Err(status::GENERAL_ERROR));
        table.release(3, false);
        assert_eq!(table.swap(3, 200), status::OKAY);
        assert_eq!(table.acquire(200, READ).unwrap().gfn, 33);
        assert_eq!(table.swap(3, 200), status::GENERAL_ERROR);
        assert_eq!(table.swap(3, 512), status::BAD_GNTREF);
        assert_eq!(table.empty().count(), 5);
        assert_eq!(table.entries(), 0);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let table = table(MAX_FRAMES);
        assert_eq!(table.add(page(), page()), Err(Errno::ENOSPC));
        assert_eq!(table.entries(), 32_768);
    }
}
