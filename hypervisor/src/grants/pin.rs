//! What of an entry is in use: by which domain, how often for reading and how often for writing, and which frame it was
//! when that began.
//!
//! All of it is one word, and the frame beside it. Who changes it latches the word by a compare-exchange, and lets go with
//! the store of what it is then. Under the latch there are a dozen loads and stores and no question to anybody, so a core
//! that finds it latched looks again at once; and the one core that mostly uses an entry, the mapping domain's home, never
//! does.

use core::hint;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::xen::DomId;

/// Bits 0 to 15: the domain; 16: latched; 17: a part of a page, which cannot be mapped; 32 to 39: readers; 40 to 47:
/// writers.
const LATCHED: u64 = 1 << 16;
const PART: u64 = 1 << 17;
const READER: u64 = 1 << 32;
const WRITER: u64 = 1 << 40;
const COUNT: u64 = 0xff;
/// From so many on, Xen counts no further.
const FULL: u64 = 0x80;

/// One entry's. All zeroes: not in use.
#[derive(Debug)]
pub struct Pin {
    word: AtomicU64,
    frame: AtomicU64,
}

/// A pin's word, as it is or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u64);

impl State {
    /// Who uses it, if anybody does.
    #[inline]
    pub const fn user(self) -> Option<DomId> {
        if self.is_used() { Some(self.0 as DomId) } else { None }
    }

    /// Whether anybody does.
    #[inline]
    pub const fn is_used(self) -> bool {
        self.0 >> 32 != 0
    }

    /// Whether a part of a page is what they use.
    #[inline]
    pub const fn is_part(self) -> bool {
        self.0 & PART != 0
    }

    /// How many use it to write.
    #[inline]
    pub const fn writers(self) -> u64 {
        (self.0 / WRITER) & COUNT
    }

    /// How many use it to read.
    #[inline]
    pub const fn readers(self) -> u64 {
        (self.0 / READER) & COUNT
    }

    /// Whether no more can be counted.
    #[inline]
    pub const fn is_full(self) -> bool {
        (self.readers() | self.writers()) & FULL != 0
    }

    /// With one user more.
    #[inline]
    pub const fn with(self, domain: DomId, write: bool, part: bool) -> Self {
        let begun = if self.is_used() { self.0 } else { domain as u64 | if part { PART } else { 0 } };
        Self(begun + if write { WRITER } else { READER })
    }

    /// With one user less. `None`: there was no such one.
    #[inline]
    pub const fn without(self, domain: DomId, write: bool) -> Option<Self> {
        let count = if write { self.writers() } else { self.readers() };
        if count == 0 || self.0 as DomId != domain {
            return None;
        }
        let less = self.0 - if write { WRITER } else { READER };
        Some(if less >> 32 == 0 { Self(0) } else { Self(less) })
    }
}

/// A pin that nobody else changes until this is dropped.
#[derive(Debug)]
pub struct Latch<'a> {
    pin: &'a Pin,
    state: State,
}

impl Pin {
    /// Latches it.
    #[inline]
    pub fn latch(&self) -> Latch<'_> {
        let mut now = self.word.load(Ordering::Relaxed);
        loop {
            if now & LATCHED == 0 {
                match self.word.compare_exchange_weak(
                    now,
                    now | LATCHED,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return Latch { pin: self, state: State(now) },
                    Err(other) => now = other,
                }
            } else {
                hint::spin_loop();
                now = self.word.load(Ordering::Relaxed);
            }
        }
    }

    /// Whether it is in use, or about to be.
    pub fn is_used(&self) -> bool {
        self.word.load(Ordering::Acquire) != 0
    }

    /// Not in use any more, whatever it was.
    pub fn reset(&self) {
        self.word.store(0, Ordering::Release);
        self.frame.store(0, Ordering::Relaxed);
    }
}

impl Latch<'_> {
    /// What it was when it was latched, or what it was set to.
    #[inline]
    pub const fn state(&self) -> State {
        self.state
    }

    /// What it is to be when it is let go.
    #[inline]
    pub const fn set(&mut self, state: State) {
        self.state = state;
    }

    /// The frame's host-physical address.
    #[inline]
    pub fn frame(&self) -> u64 {
        self.pin.frame.load(Ordering::Relaxed)
    }

    /// Notes that.
    #[inline]
    pub fn set_frame(&self, frame: u64) {
        self.pin.frame.store(frame, Ordering::Relaxed);
    }
}

impl Drop for Latch<'_> {
    #[inline]
    fn drop(&mut self) {
        self.pin.word.store(self.state.0, Ordering::Release);
    }
}
