//! A peer that lies: it has the page mapped and writes what it likes, when it likes.
//!
//! It is here for tests, and for the guests whose job is to behave badly. A page shows itself as [`Word`]s; a
//! [`Liar`] picks some and writes values that are close to the truth as often as they are wild, because an index
//! that is off by one, by a lap, or by one lap and one, is the lie that a careless check believes.

use crate::bytes::BytePage;
use crate::ring::{Protocol, Ring};
use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::urpc::Channel;

/// One word of a shared page.
#[derive(Clone, Copy, Debug)]
pub enum Word<'a> {
    /// 64 bits.
    Whole(&'a AtomicU64),
    /// 32 bits.
    Half(&'a AtomicU32),
    /// 8 bits.
    Byte(&'a AtomicU8),
}

impl Word<'_> {
    /// What the word holds now.
    pub fn get(self) -> u64 {
        match self {
            Self::Whole(word) => word.load(Ordering::Relaxed),
            Self::Half(word) => word.load(Ordering::Relaxed).into(),
            Self::Byte(word) => word.load(Ordering::Relaxed).into(),
        }
    }

    /// Writes as many low bits of `value` as the word has.
    pub fn set(self, value: u64) {
        match self {
            Self::Whole(word) => word.store(value, Ordering::Relaxed),
            Self::Half(word) => word.store(value as u32, Ordering::Relaxed),
            Self::Byte(word) => word.store(value as u8, Ordering::Relaxed),
        }
    }
}

/// A page that a peer can scribble on.
pub trait SharedPage {
    /// Its words; those that steer an honest end come first, in the order of the page.
    fn words(&self) -> impl Iterator<Item = Word<'_>>;
}

impl<const LINES: usize> SharedPage for Channel<LINES> {
    fn words(&self) -> impl Iterator<Item = Word<'_>> {
        self.words().map(Word::Whole)
    }
}

impl<P: Protocol> SharedPage for Ring<P> {
    fn words(&self) -> impl Iterator<Item = Word<'_>> {
        self.words()
    }
}

impl<const FIRST: usize, const SECOND: usize, const REST: usize> SharedPage
    for BytePage<FIRST, SECOND, REST>
{
    fn words(&self) -> impl Iterator<Item = Word<'_>> {
        self.words()
    }
}

/// A source of lies, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Liar {
    state: u64,
}

impl Liar {
    /// A liar whose lies follow from `seed`.
    pub fn new(seed: u64) -> Self {
        // The generator's one fixed point is zero.
        Self { state: seed | 1 << 63 }
    }

    /// The next number of a xorshift generator.
    pub fn number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// Something to write where `truth` stands.
    pub fn lie(&mut self, truth: u64) -> u64 {
        let small = self.number() % 4;
        match self.number() % 8 {
            0 => truth.wrapping_add(small),
            1 => truth.wrapping_sub(small),
            2 => truth.wrapping_add(1 << (self.number() % 32)).wrapping_add(small),
            3 => truth.wrapping_sub(1 << (self.number() % 32)).wrapping_sub(small),
            4 => small,
            5 => u64::MAX.wrapping_sub(small),
            6 => 1 << (self.number() % 64),
            _ => self.number(),
        }
    }

    /// Writes one lie anywhere in the page, every other time among its first sixteen words.
    pub fn scribble(&mut self, page: &impl SharedPage) {
        let words = if self.number().is_multiple_of(2) { 16 } else { page.words().count() as u64 };
        let place = self.number() % words.max(1);
        if let Some(word) = page.words().nth(place as usize) {
            word.set(self.lie(word.get()));
        }
    }
}
