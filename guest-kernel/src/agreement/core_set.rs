//! Sets of cores, a bit each.

use serde::{Deserialize, Serialize};

/// A core's number in the mesh.
pub type CoreId = u8;

/// A set of cores with numbers below 64. Greater numbers are in no set, whoever names them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CoreSet(u64);

impl CoreSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// One core alone.
    pub fn one(core: CoreId) -> Self {
        Self(1_u64.checked_shl(u32::from(core)).unwrap_or(0))
    }

    /// The cores from 0 on.
    pub fn first(count: u8) -> Self {
        (0..count).collect()
    }

    /// Whether the core is among them.
    pub fn contains(self, core: CoreId) -> bool {
        self.0 & Self::one(core).0 != 0
    }

    /// Whether nobody is.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The lowest number.
    pub fn lowest(self) -> Option<CoreId> {
        (!self.is_empty()).then_some(self.0.trailing_zeros() as CoreId)
    }

    /// Adds one.
    pub fn insert(&mut self, core: CoreId) {
        self.0 |= Self::one(core).0;
    }

    /// Takes one out; whether it was there.
    pub fn remove(&mut self, core: CoreId) -> bool {
        let there = self.contains(core);
        self.0 &= !Self::one(core).0;
        there
    }

    /// Those of either.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those with a lower number.
    #[must_use]
    pub fn below(self, core: CoreId) -> Self {
        Self(self.0 & Self::one(core).0.wrapping_sub(1))
    }

    /// Lowest first.
    pub fn iter(self) -> impl Iterator<Item = CoreId> {
        let mut left = self;
        core::iter::from_fn(move || {
            let next = left.lowest();
            left.0 &= left.0.wrapping_sub(1);
            next
        })
    }
}

impl FromIterator<CoreId> for CoreSet {
    fn from_iter<I: IntoIterator<Item = CoreId>>(cores: I) -> Self {
        cores.into_iter().fold(Self::EMPTY, |set, core| set.with(Self::one(core)))
    }
}

impl core::fmt::Debug for CoreSet {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}
