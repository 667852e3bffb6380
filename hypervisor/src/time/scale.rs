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
}

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
        Self { multiplier: ((numerator << 32) / denominator) as u32, shift }
    }

    /// Nanoseconds of so many ticks.
    #[inline]
    pub const fn ns(self, ticks: u64) -> u64 {
        let shifted = if self.shift < 0 { ticks >> -self.shift } else { ticks << self.shift };
        ((shifted as u128 * self.multiplier as u128) >> 32) as u64
    }

    /// The least number of ticks after which so many nanoseconds are over, or so many that it makes no difference.
    pub const fn ticks(self, ns: u64) -> u64 {
        if ns >> 32 == 0 && self.shift >= 0 {
            // As below, in narrower words.
            return (ns << 32).div_ceil(self.multiplier as u64).div_ceil(1 << self.shift);
        }
        let least = ((ns as u128) << 32).div_ceil(self.multiplier as u128);
        let ticks = if self.shift < 0 { least << -self.shift } else { least.div_ceil(1 << self.shift) };
        if ticks > u64::MAX as u128 { u64::MAX } else { ticks as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_rates() {
        assert_eq!(Scale::from_khz(2_000_000), Scale { multiplier: 1 << 31, shift: 0 });
        assert_eq!(Scale::from_khz(1_000_000), Scale { multiplier: 1 << 31, shift: 1 });
        assert_eq!(Scale::from_khz(4_000_000), Scale { multiplier: 1 << 31, shift: -1 });
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
            prop_assert!(scale.ns(ticks - 1) < ns);
        }

        #[test]
        fn any_rate_and_any_time_are_harmless(khz: u32, ticks: u64, ns: u64) {
            let scale = Scale::from_khz(khz);
            let _ = (scale.ns(ticks), scale.ticks(ns));
        }
    }
}
