//! One entry of a grant table, as its owner wrote it: who may use which page how, and the marks that say that somebody
//! does. Pure.
//!
//! The owner may change an entry at any time, so each word is read once, and a mark is set by compare-exchange against
//! what was read (version 1), or set first and looked at again afterwards (version 2, whose marks lie elsewhere).

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering::SeqCst};

use abi::address::PAGE_SIZE;
use abi::xen::DomId;
use abi::xen::grant_table::{flag, status};

/// Tries before an owner that changes its entry all the time is believed to do so on purpose, as on Xen.
const TRIES: usize = 5;

/// What somebody wants with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who.
    pub from: DomId,
    /// Whether to write.
    pub write: bool,
    /// Only a whole page will do.
    pub whole: bool,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The owner's frame number.
    pub gfn: u64,
    /// The part of it that may be used.
    pub start: u16,
    /// Its length.
    pub length: u16,
}

/// Why not: a `GNTST_*`.
pub type Refused = i16;

/// An entry where it lies.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// Version 1: flags and domain, frame.
    One(&'a [AtomicU32; 2]),
    /// Version 2: flags and domain, part, frame; and the marks.
    Two(&'a [AtomicU32; 4], &'a AtomicU16),
}

const fn domain_of(word: u32) -> DomId {
    (word >> 16) as DomId
}

const fn marks(write: bool) -> u16 {
    if write { flag::READING | flag::WRITING } else { flag::READING }
}

/// Whether a first word lets `wish` be. The marks in it do not matter.
fn permits(word: u32, wish: Wish) -> Result<(), Refused> {
    let flags = word as u16;
    let fits = flags & flag::TYPE == flag::PERMIT_ACCESS && domain_of(word) == wish.from;
    // A part of a page is not to be mapped, since a mapping shows all of it.
    let whole = flags & flag::SUB_PAGE == 0 || !wish.whole;
    if fits && whole && !(wish.write && flags & flag::READONLY != 0) {
        Ok(())
    } else {
        Err(status::GENERAL_ERROR)
    }
}

impl Entry<'_> {
    /// Marks the entry as in use, if it permits that.
    pub fn acquire(&self, wish: Wish) -> Result<Window, Refused> {
        match *self {
            Self::One(words) => acquire_one(words, wish),
            Self::Two(words, marked) => acquire_two(words, marked, wish),
        }
    }

    /// Takes marks away: that of writing when nobody writes any more, that of reading when nobody uses it at all.
    pub fn release(&self, writing: bool, reading: bool) {
        let gone = if writing { flag::WRITING } else { 0 } | if reading { flag::READING } else { 0 };
        match *self {
            Self::One(words) => words[0].fetch_and(!u32::from(gone), SeqCst) as u16,
            Self::Two(_, marked) => marked.fetch_and(!gone, SeqCst),
        };
    }
}

fn acquire_one(words: &[AtomicU32; 2], wish: Wish) -> Result<Window, Refused> {
    let mut word = words[0].load(SeqCst);
    for _ in 0..TRIES {
        permits(word, Wish { whole: false, ..wish })?;
        let marked = word | u32::from(marks(wish.write));
        match words[0].compare_exchange(word, marked, SeqCst, SeqCst) {
            Ok(_) => {
                let gfn = words[1].load(SeqCst).into();
                return Ok(Window { gfn, start: 0, length: PAGE_SIZE as u16 });
            }
            Err(now) => word = now,
        }
    }
    Err(status::GENERAL_ERROR)
}

fn acquire_two(words: &[AtomicU32; 4], marked: &AtomicU16, wish: Wish) -> Result<Window, Refused> {
    let word = words[0].load(SeqCst);
    permits(word, wish)?;
    let before = marked.fetch_or(marks(wish.write), SeqCst);
    let part = words[1].load(SeqCst);
    let gfn = u64::from(words[2].load(SeqCst)) | u64::from(words[3].load(SeqCst)) << 32;
    // An owner that revoked meanwhile has either seen the marks, or is seen here.
    let window = if word as u16 & flag::SUB_PAGE == 0 {
        Window { gfn, start: 0, length: PAGE_SIZE as u16 }
    } else {
        Window { gfn, start: part as u16, length: (part >> 16) as u16 }
    };
    let sound = u64::from(window.start) + u64::from(window.length) <= PAGE_SIZE;
    if words[0].load(SeqCst) != word || !sound {
        marked.fetch_and(before | !marks(wish.write), SeqCst);
        return Err(status::GENERAL_ERROR);
    }
    Ok(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Wish = Wish { from: 7, write: false, whole: true };
    const WRITE: Wish = Wish { write: true, ..READ };
    const ALL: u16 = PAGE_SIZE as u16;

    fn first(flags: u16, domain: DomId) -> AtomicU32 {
        AtomicU32::new(u32::from(flags) | u32::from(domain) << 16)
    }

    #[test]
    fn version_1() {
        let words = [first(flag::PERMIT_ACCESS, 7), AtomicU32::new(99)];
        let entry = Entry::One(&words);
        assert_eq!(entry.acquire(READ), Ok(Window { gfn: 99, start: 0, length: ALL }));
        assert_eq!(words[0].load(SeqCst) as u16, flag::PERMIT_ACCESS | flag::READING);
        assert!(entry.acquire(WRITE).is_ok());
        entry.release(true, false);
        assert_eq!(words[0].load(SeqCst) as u16, flag::PERMIT_ACCESS | flag::READING);
        entry.release(false, true);
        assert_eq!(words[0].load(SeqCst) as u16, flag::PERMIT_ACCESS);
        assert_eq!(entry.acquire(Wish { from: 8, ..READ }), Err(status::GENERAL_ERROR));
        for (flags, wish) in [
            (flag::INVALID, READ),
            (flag::TRANSITIVE, READ),
            (2, READ),
            (flag::PERMIT_ACCESS | flag::READONLY, WRITE),
        ] {
            let words = [first(flags, 7), AtomicU32::new(99)];
            assert_eq!(Entry::One(&words).acquire(wish), Err(status::GENERAL_ERROR));
            assert_eq!(words[0].load(SeqCst), u32::from(flags) | 7 << 16, "no mark stays");
        }
    }

    fn two(flags: u16, part: u32) -> [AtomicU32; 4] {
        [first(flags, 7), AtomicU32::new(part), AtomicU32::new(5), AtomicU32::new(1)]
    }

    #[test]
    fn version_2() {
        let (words, marked) = (two(flag::PERMIT_ACCESS, 0), AtomicU16::new(0));
        let entry = Entry::Two(&words, &marked);
        assert_eq!(entry.acquire(WRITE), Ok(Window { gfn: 1 << 32 | 5, start: 0, length: ALL }));
        assert_eq!(marked.load(SeqCst), flag::READING | flag::WRITING);
        entry.release(true, true);
        assert_eq!(marked.load(SeqCst), 0);
    }

    #[test]
    fn a_part_of_a_page() {
        let copy = Wish { whole: false, ..READ };
        let (words, marked) = (two(flag::PERMIT_ACCESS | flag::SUB_PAGE, 100 | 50 << 16), AtomicU16::new(0));
        let entry = Entry::Two(&words, &marked);
        assert_eq!(entry.acquire(copy), Ok(Window { gfn: 1 << 32 | 5, start: 100, length: 50 }));
        assert_eq!(entry.acquire(READ), Err(status::GENERAL_ERROR), "it is not to be mapped");
        let words = two(flag::PERMIT_ACCESS | flag::SUB_PAGE, 4000 | 200 << 16);
        let marked = AtomicU16::new(0);
        assert_eq!(Entry::Two(&words, &marked).acquire(copy), Err(status::GENERAL_ERROR));
        assert_eq!(marked.load(SeqCst), 0);
    }
}
