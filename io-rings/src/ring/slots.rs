//! Slots: words that a message is copied into and out of, one atomic access each.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::hostile::Word;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A message that is nothing but its bytes: any bytes are one, and it has no padding.
pub trait Plain: FromBytes + IntoBytes + Immutable {}

impl<T: FromBytes + IntoBytes + Immutable> Plain for T {}

/// `COUNT` slots of `WORDS` 32-bit words: for messages that are aligned to four bytes or less, as the network's.
pub type Slots32<const WORDS: usize, const COUNT: usize> = [[AtomicU32; WORDS]; COUNT];

/// `COUNT` slots of `WORDS` 64-bit words: for messages that are aligned to eight bytes, as the block device's.
pub type Slots64<const WORDS: usize, const COUNT: usize> = [[AtomicU64; WORDS]; COUNT];

/// The slots of a ring, found by free-running index: [`Slots32`] or [`Slots64`].
pub trait Slots {
    /// How many there are.
    const COUNT: u32;
    /// The size of each.
    const BYTES: usize;

    /// Slots in memory of one's own, all zero.
    fn zeroed() -> Self;
    /// Copies a message into the slot of `index`; what the slot holds beyond it stays.
    fn store<T: Plain>(&self, index: u32, message: &T);
    /// Copies a message out of the slot of `index`.
    fn load<T: Plain>(&self, index: u32) -> T;
    /// All words in order: see [`crate::hostile`].
    fn words(&self) -> impl Iterator<Item = Word<'_>>;
}

macro_rules! slots_of {
    ($atomic:ident, $word:ty, $bytes:literal, $variant:ident) => {
        impl<const WORDS: usize, const COUNT: usize> Slots for [[$atomic; WORDS]; COUNT] {
            const COUNT: u32 = COUNT as u32;
            const BYTES: usize = WORDS * $bytes;

            fn zeroed() -> Self {
                core::array::from_fn(|_| core::array::from_fn(|_| $atomic::new(0)))
            }

            // A slot that is not there cannot be: the count is a power of two, checked while compiling, and a
            // masked index lies below it. The compiler sees that too.
            #[inline]
            fn store<T: Plain>(&self, index: u32, message: &T) {
                let Some(slot) = self.get(index as usize & (COUNT - 1)) else { return };
                let (whole, rest) = message.as_bytes().as_chunks::<$bytes>();
                for (word, bytes) in slot.iter().zip(whole) {
                    word.store(<$word>::from_ne_bytes(*bytes), Ordering::Relaxed);
                }
                if let (false, Some(word)) = (rest.is_empty(), slot.get(whole.len())) {
                    let mut bytes = [0; $bytes];
                    bytes[..rest.len()].copy_from_slice(rest);
                    word.store(<$word>::from_ne_bytes(bytes), Ordering::Relaxed);
                }
            }

            #[inline]
            fn load<T: Plain>(&self, index: u32) -> T {
                let mut message = T::new_zeroed();
                let Some(slot) = self.get(index as usize & (COUNT - 1)) else { return message };
                let (whole, rest) = message.as_mut_bytes().as_chunks_mut::<$bytes>();
                for (word, bytes) in slot.iter().zip(whole.iter_mut()) {
                    *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
                }
                if let (false, Some(word)) = (rest.is_empty(), slot.get(whole.len())) {
                    let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
                    rest.copy_from_slice(&bytes[..rest.len()]);
                }
                message
            }

            fn words(&self) -> impl Iterator<Item = Word<'_>> {
                self.iter().flatten().map(Word::$variant)
            }
        }
    };
}

slots_of!(AtomicU32, u32, 4, Half);
slots_of!(AtomicU64, u64, 8, Whole);
