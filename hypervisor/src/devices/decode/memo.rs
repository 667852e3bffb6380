//! Instructions that were decoded before: a kernel touches its devices by few of them, again and again.
//!
//! What an instruction does is a function of its bytes, so the bytes are the key, and nothing is ever out of date.

use super::{Access, LONGEST, Undecoded, decode};

/// How many are remembered, a power of 2.
const PLACES: usize = 64;

/// Instructions and what they do.
#[derive(Clone, Debug)]
pub struct Memo {
    places: [Option<(Key, Access)>; PLACES],
}

/// 15 bytes, and the mode's bits in the sixteenth.
type Key = u128;

impl Memo {
    /// Nothing is remembered.
    pub const fn new() -> Self {
        Self { places: [None; PLACES] }
    }

    /// Decodes as [`decode`] does.
    #[inline]
    pub fn decode(&mut self, bytes: &[u8; LONGEST], bits: u32) -> Result<Access, Undecoded> {
        let key = Self::key(bytes, bits);
        let place = Self::place(key);
        if let Some((known, access)) = self.places[place]
            && known == key
        {
            return Ok(access);
        }
        let access = decode(bytes, bits)?;
        self.places[place] = Some((key, access));
        Ok(access)
    }

    fn key(bytes: &[u8; LONGEST], bits: u32) -> Key {
        let mut all = [bits as u8; 16];
        all[..LONGEST].copy_from_slice(bytes);
        u128::from_le_bytes(all)
    }

    const fn place(key: Key) -> usize {
        const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;
        ((key as u64 ^ (key >> 64) as u64).wrapping_mul(MIXER) >> (64 - PLACES.ilog2())) as usize
    }
}

impl Default for Memo {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Instructions that share places, in all modes, in any order, decode as if nothing was remembered.
        #[test]
        fn it_remembers_rightly(instructions: [[u8; 3]; 24], rounds: [(u8, u8); 96]) {
            let mut memo = Memo::new();
            for (which, mode) in rounds {
                let mut bytes = [0x90; LONGEST];
                bytes[..3].copy_from_slice(&instructions[usize::from(which) % 24]);
                let bits = [16, 32, 64][usize::from(mode) % 3];
                prop_assert_eq!(memo.decode(&bytes, bits), decode(&bytes, bits));
            }
        }
    }
}
