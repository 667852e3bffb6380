//! A set of interrupt vectors, as the IRR, the ISR and the TMR are.

/// A bit for each vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Vectors(pub [u64; 4]);

impl Vectors {
    /// No vector.
    pub const NONE: Self = Self([0; 4]);

    /// The highest of them.
    #[inline]
    pub const fn highest(&self) -> Option<u8> {
        let mut word = 4;
        while word > 0 {
            word -= 1;
            if self.0[word] != 0 {
                return Some((word * 64) as u8 + self.0[word].ilog2() as u8);
            }
        }
        None
    }

    /// Whether `vector` is one of them.
    #[inline]
    pub const fn contains(&self, vector: u8) -> bool {
        self.0[vector as usize >> 6] & 1 << (vector & 63) != 0
    }

    /// Puts it in.
    #[inline]
    pub const fn insert(&mut self, vector: u8) {
        self.0[vector as usize >> 6] |= 1 << (vector & 63);
    }

    /// Takes it out.
    #[inline]
    pub const fn remove(&mut self, vector: u8) {
        self.0[vector as usize >> 6] &= !(1 << (vector & 63));
    }

    /// Puts it in or takes it out.
    #[inline]
    pub const fn assign(&mut self, vector: u8, member: bool) {
        if member { self.insert(vector) } else { self.remove(vector) }
    }

    /// Whether they are not the same as others. Word by word: comparing slices of memory is a loop over bytes here.
    #[inline]
    pub const fn differs_from(&self, other: &Self) -> bool {
        let (one, other) = (&self.0, &other.0);
        (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) | (one[3] ^ other[3]) != 0
    }

    /// 32 of them, as the register with this number shows them.
    pub const fn part(&self, index: u32) -> u32 {
        (self.0[index as usize >> 1 & 3] >> ((index & 1) * 32)) as u32
    }
}
