//! A virtual CPU's two timers (`vcpu.h`): one that fires once, and one that fires again and again. Pure; times are system
//! time in nanoseconds.
//!
//! Both are the one virtual interrupt, `VIRQ_TIMER`: a guest that uses both can not tell them apart, on Xen neither.

use abi::xen::errno::Errno;
use abi::xen::vcpu_time::{SSHOTTMR_FUTURE, SetSingleshotTimer};

/// The shortest and the longest period.
const PERIODS: core::ops::RangeInclusive<u64> = 1_000_000..=u64::MAX >> 2;

/// The two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    singleshot: Option<u64>,
    periodic: Option<Periodic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Periodic {
    period: u64,
    next: u64,
}

/// Whether a period is one that Xen takes.
pub fn check_period(period: u64) -> Result<u64, Errno> {
    if PERIODS.contains(&period) { Ok(period) } else { Err(Errno::EINVAL) }
}

impl Timers {
    /// None is set.
    pub const fn new() -> Self {
        Self { singleshot: None, periodic: None }
    }

    /// `VCPUOP_set_singleshot_timer`: when it fires. `ETIME`: its time is over, and the guest wanted to hear that rather than
    /// an event.
    #[inline]
    pub fn set_singleshot(&mut self, set: SetSingleshotTimer, now: u64) -> Result<u64, Errno> {
        if set.flags & SSHOTTMR_FUTURE != 0 && is_before(set.timeout_abs_ns, now) {
            return Err(Errno::ETIME);
        }
        // Xen's times are signed: what is negative is over.
        let at = if (set.timeout_abs_ns as i64) < 0 { 0 } else { set.timeout_abs_ns };
        self.singleshot = Some(at);
        Ok(at)
    }

    /// Whether nothing else can happen than that it fires.
    #[inline]
    pub fn is_singleshot_alone(&self) -> bool {
        self.singleshot.is_some() && self.periodic.is_none()
    }

    /// `set_timer_op`: 0 stops the timer. Times that are negative or a fortnight ahead are taken for an old mistake of
    /// guests', and fire in a tenth of a second, as on Xen.
    pub fn set_by_old_call(&mut self, timeout: u64, now: u64) {
        const SOON: u64 = 100_000_000;
        let is_odd = (timeout as i64) < 0 || timeout > now && (timeout - now) >> 50 != 0;
        self.singleshot = match timeout {
            0 => None,
            _ if is_odd => Some(now + SOON),
            _ => Some(timeout),
        };
    }

    /// `VCPUOP_stop_singleshot_timer`.
    pub fn stop_singleshot(&mut self) {
        self.singleshot = None;
    }

    /// `VCPUOP_set_periodic_timer` with a period that [`check_period`] has passed, and with 0
    /// `VCPUOP_stop_periodic_timer`.
    pub fn set_periodic(&mut self, period: u64, now: u64) {
        self.periodic = (period != 0).then(|| Periodic { period, next: now.saturating_add(period) });
    }

    /// When something is to happen next.
    #[inline]
    pub fn next(&self) -> Option<u64> {
        let periodic = self.periodic.map(|periodic| periodic.next);
        match (self.singleshot, periodic) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Whether something has happened by now: then an event is due. What fires once is over with it; what is periodic
    /// goes on from now, and does not make up for what was missed.
    pub fn expire(&mut self, now: u64) -> bool {
        let once = self.singleshot.take_if(|at| *at <= now).is_some();
        let again = self.periodic.as_mut().filter(|periodic| periodic.next <= now);
        let periodically = again.is_some();
        if let Some(periodic) = again {
            let late = (now - periodic.next) % periodic.period;
            periodic.next = (now - late).saturating_add(periodic.period);
        }
        once || periodically
    }
}

fn is_before(time: u64, now: u64) -> bool {
    (time as i64) < now as i64
}

/// The value to start the VMX-preemption timer with, so that it ends no sooner than after `ticks` of the time-stamp
/// counter, or as late as it can. It counts down whenever bit `rate` of the counter changes.
pub fn countdown(ticks: u64, rate: u8) -> u32 {
    // The first change may come at once: up to a whole step less one is lost. As much is added to round up.
    let rate = rate & 31;
    let lost = (1u64 << rate) - 1;
    let changes = ticks.saturating_add(2 * lost) >> rate;
    u32::try_from(changes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn once(timeout_abs_ns: u64, flags: u32) -> SetSingleshotTimer {
        SetSingleshotTimer { timeout_abs_ns, flags, pad: 0 }
    }

    #[test]
    fn once_is_once() {
        let mut timers = Timers::default();
        assert_eq!((timers.next(), timers.expire(100)), (None, false));
        assert_eq!(timers.set_singleshot(once(200, 0), 100), Ok(200));
        assert_eq!((timers.next(), timers.expire(199)), (Some(200), false));
        assert!(timers.expire(200) && !timers.expire(300));
        assert_eq!(timers.set_singleshot(once(400, 0), 300), Ok(400));
        assert!(timers.is_singleshot_alone());
        timers.stop_singleshot();
        assert!(!timers.expire(500));
    }

    #[test]
    fn the_past() {
        let mut timers = Timers::default();
        assert_eq!(timers.set_singleshot(once(50, SSHOTTMR_FUTURE), 100), Err(Errno::ETIME));
        assert_eq!(timers.next(), None);
        assert_eq!(timers.set_singleshot(once(100, SSHOTTMR_FUTURE), 100), Ok(100));
        assert!(timers.expire(100));
        assert_eq!(timers.set_singleshot(once(50, 0), 100), Ok(50));
        assert!(timers.expire(100), "it fires at once");
        assert_eq!(timers.set_singleshot(once(u64::MAX, 0), 100), Ok(0));
        assert!(timers.expire(100), "so does what is negative");
        assert_eq!(timers.set_singleshot(once(u64::MAX, SSHOTTMR_FUTURE), 100), Err(Errno::ETIME));
    }

    #[test]
    fn again_and_again() {
        assert_eq!((check_period(999_999), check_period(u64::MAX)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
        assert_eq!(check_period(1_000_000), Ok(1_000_000));
        let mut timers = Timers::default();
        timers.set_periodic(10, 100);
        assert!(!timers.is_singleshot_alone());
        assert!(!timers.expire(109) && timers.expire(110) && !timers.expire(119) && timers.expire(120));
        assert!(timers.expire(145), "three are one");
        assert_eq!(timers.next(), Some(150), "and the beat is kept");
        timers.set_periodic(0, 145);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn the_old_call() {
        let mut timers = Timers::default();
        timers.set_by_old_call(500, 100);
        assert_eq!(timers.next(), Some(500));
        timers.set_by_old_call(0, 100);
        assert_eq!(timers.next(), None);
        for odd in [u64::MAX, 1 << 51] {
            timers.set_by_old_call(odd, 100);
            assert_eq!(timers.next(), Some(100_000_100));
        }
    }

    #[test]
    fn counting_down() {
        assert_eq!((countdown(0, 0), countdown(7, 0), countdown(u64::MAX, 0)), (0, 7, u32::MAX));
        assert_eq!((countdown(0, 5), countdown(1, 5), countdown(2, 5), countdown(33, 5)), (1, 1, 2, 2));
        assert_eq!(countdown(u64::MAX, 31), u32::MAX);
    }

    proptest! {
        #[test]
        fn what_is_next_happens_then_and_not_before(
            singleshot in prop::option::of(0u64..1 << 62),
            period in prop::option::of(1u64..1 << 61),
            now in 0u64..1 << 62,
        ) {
            let mut timers = Timers::default();
            if let Some(at) = singleshot {
                prop_assert_eq!(timers.set_singleshot(once(at, 0), now), Ok(at));
            }
            timers.set_periodic(period.unwrap_or(0), now);
            if let Some(next) = timers.next() {
                prop_assert!(next == 0 || !timers.clone().expire(next - 1));
                prop_assert!(timers.expire(next.max(now)));
                prop_assert!(timers.next().is_none_or(|after| after > next));
            } else {
                prop_assert!(!timers.expire(u64::MAX >> 1));
            }
        }

        #[test]
        fn any_words_are_harmless(times: [u64; 4], flags: u32, nows: [u64; 3]) {
            let mut timers = Timers::default();
            let _ = timers.set_singleshot(once(times[0], flags), nows[0] >> 1);
            if let Ok(period) = check_period(times[1]) {
                timers.set_periodic(period, nows[1] >> 1);
            }
            timers.expire(nows[2] >> 1);
            timers.set_by_old_call(times[2], nows[0] >> 1);
            timers.expire(times[3] >> 1);
        }

        #[test]
        fn a_countdown_is_never_short(ticks in 0u64..1 << 31, rate in 0u8..32, start: u32) {
            // The counter at which bit `rate` has changed so many times since `start`.
            let start = u64::from(start);
            let changes = u64::from(countdown(ticks, rate));
            let end = ((start >> rate) + changes) << rate;
            prop_assert!(end >= start + ticks && end < start + ticks + (2 << rate));
        }
    }
}
