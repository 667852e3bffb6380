//! The words of one entry, in memory that the granter writes to whenever it likes.
//!
//! Each word is an atomic and is read once for each decision that is taken by it. The hypervisor's own two flags, reading
//! and writing, tell the granter that it cannot take the page back yet. In version 1 they are beside the granter's own, so
//! that one compare-exchange both checks and sets; in version 2 they have a word of their own, and the entry is looked at
//! again once they are set.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use abi::address::{HostPhys, PAGE_SIZE};
use abi::xen::DomId;
use abi::xen::grant_table::{EntryV1, EntryV2, flag, status};

use crate::memory::physical::pointer;

/// How often an entry may change under one attempt.
const PATIENCE: usize = 5;

/// One entry's words.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    header: &'static AtomicU32,
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    V1 { frame: &'static AtomicU32 },
    V2 { part: &'static AtomicU32, frame: &'static AtomicU64, status: &'static AtomicU16 },
}

/// What an entry is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// By whom.
    pub domain: DomId,
    /// To write as well.
    pub write: bool,
    /// To map it; else to copy.
    pub mapping: bool,
}

/// What an entry leads to, by its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A frame of the granter's.
    Page {
        /// The granter's number for it.
        gfn: u64,
    },
    /// A part of one.
    Part {
        /// The granter's number for it.
        gfn: u64,
        /// First byte.
        start: u16,
        /// Bytes.
        length: u16,
    },
    /// What another domain grants to this one.
    Through {
        /// That domain.
        domain: DomId,
        /// Its entry.
        reference: u32,
    },
}

/// A word in a frame. `offset` is a multiple of its size, below 4096.
fn word<T>(frame: HostPhys, offset: u32) -> &'static T {
    // SAFETY: frames of a grant table stay until the fence that follows its end, and nobody keeps an `Entry` over one. `T`
    // is an atomic integer, for the guest writes there too; the offset is within the frame, and aligned.
    unsafe { &*pointer::<u8>(frame).add(offset as usize % PAGE_SIZE as usize).cast::<T>() }
}

/// Fills a frame of entries with zeroes.
pub fn clear(frame: HostPhys) {
    for offset in (0..PAGE_SIZE as u32).step_by(8) {
        word::<AtomicU64>(frame, offset).store(0, Ordering::Relaxed);
    }
}

const fn kind(header: u32) -> u16 {
    header as u16 & flag::TYPE
}

const fn domain(header: u32) -> DomId {
    (header >> 16) as DomId
}

const fn has(header: u32, flag: u16) -> bool {
    header as u16 & flag != 0
}

impl Entry {
    /// An entry of version 1.
    #[inline]
    pub fn v1(frame: HostPhys, slot: u32) -> Self {
        let at = slot * size_of::<EntryV1>() as u32;
        Self { header: word(frame, at), body: Body::V1 { frame: word(frame, at + 4) } }
    }

    /// An entry of version 2.
    #[inline]
    pub fn v2(frame: HostPhys, slot: u32, status: HostPhys, status_slot: u32) -> Self {
        let at = slot * size_of::<EntryV2>() as u32;
        let body = Body::V2 {
            part: word(frame, at + 4),
            frame: word(frame, at + 8),
            status: word(status, status_slot * 2),
        };
        Self { header: word(frame, at), body }
    }

    /// Tells the granter that its page is in use, if the entry allows what is wished. `pinned`: it is in use already by
    /// the same domain, so that only the right to write is in question.
    pub fn begin(&self, wish: Wish, pinned: bool) -> Result<(), i16> {
        match self.body {
            Body::V1 { .. } => self.begin_v1(wish, pinned),
            Body::V2 { status, .. } => self.begin_v2(status, wish, pinned),
        }
    }

    fn begin_v1(&self, wish: Wish, pinned: bool) -> Result<(), i16> {
        let mut now = self.header.load(Ordering::Acquire);
        for _ in 0..PATIENCE {
            let fits = kind(now) == flag::PERMIT_ACCESS
                && !(wish.mapping && has(now, flag::SUB_PAGE))
                && domain(now) == wish.domain;
            if !pinned && !fits || wish.write && has(now, flag::READONLY) {
                return Err(status::GENERAL_ERROR);
            }
            let mark = flag::READING | if wish.write { flag::WRITING } else { 0 };
            let new = now | u32::from(mark);
            match self.header.compare_exchange(now, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(other) => now = other,
            }
        }
        Err(status::GENERAL_ERROR)
    }

    fn begin_v2(&self, in_use: &AtomicU16, wish: Wish, pinned: bool) -> Result<(), i16> {
        let fits = |now: u32| {
            let kind = kind(now);
            let kind_fits = kind == flag::PERMIT_ACCESS || kind == flag::TRANSITIVE && !wish.mapping;
            kind_fits && !(wish.mapping && has(now, flag::SUB_PAGE)) && domain(now) == wish.domain
        };
        let refuses = |now: u32| !pinned && !fits(now) || wish.write && has(now, flag::READONLY);
        if refuses(self.header.load(Ordering::Acquire)) {
            return Err(status::GENERAL_ERROR);
        }
        let mark = flag::READING | if wish.write { flag::WRITING } else { 0 };
        // A locked instruction: the granter sees it before we look whether the entry still stands.
        in_use.fetch_or(mark, Ordering::SeqCst);
        if refuses(self.header.load(Ordering::SeqCst)) {
            let taken_back = if pinned { flag::WRITING } else { mark };
            in_use.fetch_and(!taken_back, Ordering::AcqRel);
            return Err(status::GENERAL_ERROR);
        }
        Ok(())
    }

    /// Takes flags back: the page is not in use any more, or not for writing.
    pub fn end(&self, flags: u16) {
        if flags == 0 {
            return;
        }
        match self.body {
            Body::V1 { .. } => {
                self.header.fetch_and(!u32::from(flags), Ordering::AcqRel);
            }
            Body::V2 { status, .. } => {
                status.fetch_and(!flags, Ordering::AcqRel);
            }
        }
    }

    /// Where the entry leads.
    pub fn target(&self) -> Target {
        let Body::V2 { part, frame, .. } = self.body else {
            let Body::V1 { frame } = self.body else { return Target::Page { gfn: u64::MAX } };
            return Target::Page { gfn: frame.load(Ordering::Acquire).into() };
        };
        let (header, part, frame) = (
            self.header.load(Ordering::Acquire),
            part.load(Ordering::Acquire),
            frame.load(Ordering::Acquire),
        );
        if kind(header) == flag::TRANSITIVE {
            Target::Through { domain: part as DomId, reference: frame as u32 }
        } else if has(header, flag::SUB_PAGE) {
            Target::Part { gfn: frame, start: part as u16, length: (part >> 16) as u16 }
        } else {
            Target::Page { gfn: frame }
        }
    }

    /// What it says, in the words of version 1. `None`: it has none for it.
    pub fn as_v1(&self) -> Option<EntryV1> {
        let header = self.header.load(Ordering::Acquire);
        let says =
            |frame: u32, used: u16| EntryV1 { flags: header as u16 | used, domid: domain(header), frame };
        match self.body {
            Body::V1 { frame } => Some(says(frame.load(Ordering::Acquire), 0)),
            Body::V2 { frame, status, .. } => match kind(header) {
                flag::PERMIT_ACCESS => {
                    let frame = u32::try_from(frame.load(Ordering::Acquire)).ok()?;
                    Some(says(frame, status.load(Ordering::Acquire)))
                }
                flag::TRANSITIVE => None,
                _ => Some(EntryV1::default()),
            },
        }
    }

    /// Says that.
    pub fn set(&self, entry: &EntryV1) {
        let used = entry.flags & (flag::READING | flag::WRITING);
        let header = |flags: u16| u32::from(flags) | u32::from(entry.domid) << 16;
        match self.body {
            Body::V1 { frame } => {
                frame.store(entry.frame, Ordering::Release);
                self.header.store(header(entry.flags), Ordering::Release);
            }
            Body::V2 { frame, status, .. } => {
                frame.store(entry.frame.into(), Ordering::Release);
                status.store(used, Ordering::Release);
                self.header.store(header(entry.flags & !used), Ordering::Release);
            }
        }
    }

    /// Exchanges what two entries say.
    pub fn swap(&self, other: &Self) {
        exchange(self.header, other.header, AtomicU32::load, AtomicU32::store);
        match (self.body, other.body) {
            (Body::V1 { frame: a }, Body::V1 { frame: b }) => {
                exchange(a, b, AtomicU32::load, AtomicU32::store)
            }
            (
                Body::V2 { part, frame, status },
                Body::V2 { part: part_b, frame: frame_b, status: status_b },
            ) => {
                exchange(part, part_b, AtomicU32::load, AtomicU32::store);
                exchange(frame, frame_b, AtomicU64::load, AtomicU64::store);
                exchange(status, status_b, AtomicU16::load, AtomicU16::store);
            }
            // The version changed in between: then both entries were to be forgotten.
            _ => {}
        }
    }
}

fn exchange<A, V>(a: &A, b: &A, load: fn(&A, Ordering) -> V, store: fn(&A, V, Ordering)) {
    let (was_a, was_b) = (load(a, Ordering::Acquire), load(b, Ordering::Acquire));
    store(a, was_b, Ordering::Release);
    store(b, was_a, Ordering::Release);
}
