//! From ticks of the time-stamp counter to nanoseconds and back.
//!
//! The one conversion is pvclock's (`xen.h`, `vcpu_time_info`): nanoseconds are ((ticks << shift) * multiplier) >> 32,
//! where a negative shift goes right. The hypervisor's own clock uses the very words that guests are given, so that both
//! read the same time off the same tick.

/// pvclock's multiplier and shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// `tsc_to_system_mul`: a fraction of 2^32, at least a half.
    pub multiplier: u32,
    /// `tsc_shift`.
    pub shift: i8,
    /// Ticks of a nanosecond in parts of 2^[`INVERSE_BITS`], rounded up.
    inverse: u64,
    /// Ticks that roundings may take away.
    lost: u64,
}

/// Bits of a fraction of a tick.
const INVERSE_BITS: u32 = 48;

/// Nanoseconds in a millisecond.
const NS_PER_MS: u64 = 1_000_000;

impl Scale {
    /// For a counter of this rate, which is not 0.
    pub const fn from_khz(khz: u32) -> Self {
        // Nanoseconds a tick is NS_PER_MS / khz: doubled or halved until it is a fraction of which the upper bit is set.
        let (mut numerator, mut denominator, mut shift) =
            (NS_PER_MS, if khz == 0 { 1 } else { khz as u64 }, 0);
        while numerator >= denominator {
            denominator *= 2;
            shift += 1;
        }
        while numerator * 2 < denominator {
            numerator *= 2;
            shift -= 1;
        }
        let multiplier = (numerator << 32) / denominator;
        // 2^32 / (multiplier * 2^shift), which is no more than the 2^13 ticks of the fastest counter there could be.
        let inverse = (1u128 << (32 + INVERSE_BITS as i32 - shift as i32)).div_ceil(multiplier as u128);
        let lost = if shift < 0 { 1 << -shift } else { 1 };
        Self { multiplier: multiplier as u32, shift, inverse: inverse as u64, lost }
    }

    /// Nanoseconds of so many ticks.
    #[inline]
    pub const fn ns(self, ticks: u64) -> u64 {
        let shifted = if self.shift < 0 { ticks >> -self.shift } else { ticks << self.shift };
        ((shifted as u128 * self.multiplier as u128) >> 32) as u64
    }

    /// Ticks after which so many nanoseconds are over: never too few, and too many by what rounding makes, a few and one
    /// for each 2^48 ns. Or so many that it makes no difference. Guests ask for it with every timer they set, so it is
    /// no division.
    #[inline]
    pub const fn ticks(self, ns: u64) -> u64 {
        let product = ns as u128 * self.inverse as u128;
        if product >> (64 + INVERSE_BITS) != 0 {
            return u64::MAX;
        }
        ((product >> INVERSE_BITS) as u64).saturating_add(self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_rates() {
        let words = |khz| (Scale::from_khz(khz).multiplier, Scale::from_khz(khz).shift);
        assert_eq!([2_000_000, 1_000_000, 4_000_000].map(words), [(1 << 31, 0), (1 << 31, 1), (1 << 31, -1)]);
        assert_eq!(Scale::from_khz(2_000_000).ns(2_000_000_000), 1_000_000_000);
        assert_eq!(Scale::from_khz(3_000_000).ns(3_000_000_000), 999_999_999, "rounded down");
    }

    proptest! {
        #[test]
        fn a_second_is_a_second(khz in 1_000u32..10_000_000, seconds in 1u64..1_000_000) {
            let scale = Scale::from_khz(khz);
            prop_assert!(scale.multiplier >= 1 << 31);
            let (ns, exact) = (scale.ns(u64::from(khz) * 1000 * seconds), seconds * 1_000_000_000);
            prop_assert!(ns <= exact && exact - ns <= exact / (1 << 30) + 4, "{ns} of {exact}");
        }

        #[test]
        fn it_is_over_after_the_ticks_and_not_before(khz in 1_000u32..10_000_000, ns in 1u64..1 << 60) {
            let scale = Scale::from_khz(khz);
            let ticks = scale.ticks(ns);
            // pvclock's left shift drops bits beyond 2^64, some centuries of ticks.
            prop_assume!(scale.shift <= 0 || ticks < 1 << (64 - scale.shift as u32 - 1));
            prop_assert!(scale.ns(ticks) >= ns);
            let spare = 2 * scale.lost + 1 + (ns >> INVERSE_BITS);
            prop_assert!(ticks <= spare || scale.ns(ticks - spare) < ns);
        }

        #[test]
        fn any_rate_and_any_time_are_harmless(khz: u32, ticks: u64, ns: u64) {
            let scale = Scale::from_khz(khz);
            let _ = (scale.ns(ticks), scale.ticks(ns));
        }
    }
}
