//! Numbers that look random and are the same for the same seed: what a hostile guest did can be done again.

/// A xorshift generator (Marsaglia's, 64 bits).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub const fn new(seed: u64) -> Self {
        // The one state that never leaves itself is zero.
        Self(if seed == 0 { 0x9e37_79b9_7f4a_7c15 } else { seed })
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw().checked_rem(bound).unwrap_or(0)
    }

    /// One of `choices`, or the type's default where there are none.
    pub fn choose<T: Copy + Default>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices.get(index as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut a, mut b, mut other) = (Random::new(7), Random::new(7), Random::new(8));
        assert!((0..100).all(|_| a.draw() == b.draw()));
        assert_ne!(a.draw(), other.draw());
        assert_ne!(Random::new(0).draw(), 0);
        assert!((0..100).all(|_| a.below(10) < 10));
        assert_eq!(a.choose::<u64>(&[]), 0);
    }
}
