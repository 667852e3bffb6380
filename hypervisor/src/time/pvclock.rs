//! The words by which guests read the clock by themselves: `vcpu_time_info` and the wall clock (`xen.h`).
//!
//! The time-stamp counter runs at one rate, and so does system time, which the hypervisor itself reads off it. So the
//! words of the clock are the same for every virtual CPU and never change: they are written once, where the guest says,
//! and no core ever has to touch them again. Writing goes by the version, which is odd meanwhile.

use core::sync::atomic::{AtomicU32, Ordering, fence};

use abi::xen::shared_info::time_info::TSC_STABLE;
use abi::xen::vcpu_time::TimeInfo;

use super::scale::Scale;

/// A machine's clock: system time is nanoseconds since the hypervisor's first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The counter at system time 0.
    pub start: u64,
    /// From ticks to nanoseconds.
    pub scale: Scale,
    /// Whether the processor says that its counter is the same and steady on all cores.
    pub stable: bool,
    /// Seconds since 1970 at system time 0, and nanoseconds.
    pub wall: (u64, u32),
}

impl Clock {
    /// System time at that count.
    #[inline]
    pub const fn at(&self, tsc: u64) -> u64 {
        self.scale.ns(tsc.wrapping_sub(self.start))
    }

    /// The count at which it is that system time, or so late that it makes no difference.
    pub const fn tsc(&self, ns: u64) -> u64 {
        self.start.saturating_add(self.scale.ticks(ns))
    }

    /// With the time of day, which was `seconds` since 1970 at the count `tsc`.
    pub const fn with_time_of_day(mut self, seconds: u64, tsc: u64) -> Self {
        const SECOND: u64 = 1_000_000_000;
        let at_start = (seconds * SECOND).saturating_sub(self.at(tsc));
        self.wall = (at_start / SECOND, (at_start % SECOND) as u32);
        self
    }

    /// Nanoseconds since 1970 at system time 0.
    pub const fn epoch(&self) -> u64 {
        self.wall.0 * 1_000_000_000 + self.wall.1 as u64
    }

    /// The words for a virtual CPU.
    pub const fn info(&self, version: u32) -> TimeInfo {
        TimeInfo {
            version,
            pad0: 0,
            tsc_timestamp: self.start,
            system_time: 0,
            tsc_to_system_mul: self.scale.multiplier,
            tsc_shift: self.scale.shift,
            flags: if self.stable { TSC_STABLE } else { 0 },
            pad1: [0; 2],
        }
    }

    /// The wall clock's words: version, seconds, nanoseconds, upper half of the seconds.
    pub const fn wall_words(&self, version: u32) -> [u32; 4] {
        let (seconds, nanoseconds) = self.wall;
        [version, seconds as u32, nanoseconds, (seconds >> 32) as u32]
    }
}

/// Writes words that begin with a version, which is odd while the others change.
///
/// # Safety
/// `place` is valid for writes of all of them, aligned to 4, and memory that others only read, or may change as they like.
pub unsafe fn publish<const WORDS: usize>(place: *mut u32, words: impl Fn(u32) -> [u32; WORDS]) {
    // SAFETY: by the caller; the guest may look at it at any time.
    let version = unsafe { AtomicU32::from_ptr(place) };
    let odd = version.load(Ordering::Relaxed) | 1;
    version.store(odd, Ordering::Relaxed);
    fence(Ordering::Release);
    for (offset, word) in words(odd).into_iter().enumerate().skip(1) {
        // SAFETY: by the caller, within the words.
        unsafe { place.add(offset).write_volatile(word) };
    }
    version.store(odd.wrapping_add(1), Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a guest computes (`xen.h`): with the lower 64 bits of a product of 96.
    fn guest_reads(info: &TimeInfo, tsc: u64) -> u64 {
        let delta = tsc - info.tsc_timestamp;
        let shifted = if info.tsc_shift < 0 { delta >> -info.tsc_shift } else { delta << info.tsc_shift };
        let (low, high) = (shifted & 0xffff_ffff, shifted >> 32);
        let multiplier = u64::from(info.tsc_to_system_mul);
        info.system_time + high * multiplier + ((low * multiplier) >> 32)
    }

    fn clock(start: u64, khz: u32) -> Clock {
        Clock { start, scale: Scale::from_khz(khz), stable: true, wall: (0, 0) }
    }

    #[test]
    fn the_time_of_day() {
        let clock = clock(1_000, 1_000_000).with_time_of_day(1_700_000_000, 1_000 + 2_500_000_000);
        assert_eq!(clock.wall, (1_699_999_997, 500_000_000));
        assert_eq!(clock.wall_words(8), [8, 1_699_999_997, 500_000_000, 0]);
        assert_eq!(clock.with_time_of_day(0, u64::MAX).wall, (0, 0));
    }

    #[test]
    fn versions_are_even_again() {
        let mut words = [7u32, 0, 0];
        let place = words.as_mut_ptr();
        // SAFETY: our own three words.
        unsafe { publish(place, |version| [version, 1, 2]) };
        assert_eq!(words, [8, 1, 2]);
        let place = words.as_mut_ptr();
        // SAFETY: our own three words.
        unsafe { publish(place, |version| [version, 3, 4]) };
        assert_eq!(words, [10, 3, 4]);
    }

    proptest! {
        #[test]
        fn guests_read_the_hypervisors_time(start in 0u64..1 << 60, khz in 1_000u32..10_000_000, ticks in 0u64..1 << 50) {
            let clock = clock(start, khz);
            prop_assert_eq!(guest_reads(&clock.info(2), start + ticks), clock.at(start + ticks));
        }

        #[test]
        fn a_deadline_is_reached_and_not_before(start in 0u64..1 << 60, khz in 1_000u32..10_000_000, ns in 1u64..1 << 50) {
            let clock = clock(start, khz);
            let tsc = clock.tsc(ns);
            prop_assert!(clock.at(tsc) >= ns && clock.at(tsc - 100) < ns);
        }
    }
}
