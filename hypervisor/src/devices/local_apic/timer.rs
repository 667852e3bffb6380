//! The local APIC's timer (SDM 3A, "APIC Timer"): one-shot, periodic, and by TSC deadline.
//!
//! It counts at the rate of the time-stamp counter, divided: what a guest would call the bus clock is the time-stamp
//! counter itself. Nothing ticks; it knows when it expires.

/// How it counts; the local vector table's bits 17 and 18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    OneShot,
    Periodic,
    Deadline,
    /// Reserved: it stands still.
    Reserved,
}

/// A local APIC's timer.
#[derive(Clone, Debug)]
pub struct Timer {
    mode: Mode,
    initial: u32,
    /// Divide configuration register.
    divide: u32,
    /// When the count is 0, or the deadline.
    expires: Option<u64>,
}

impl Timer {
    /// As after reset: one-shot, and not started.
    pub const fn new() -> Self {
        Self { mode: Mode::OneShot, initial: 0, divide: 0, expires: None }
    }

    /// How far the counter is shifted: 1 for every other tick, up to 7; all three bits set is every tick.
    const fn shift(&self) -> u32 {
        ((self.divide >> 1 & 4 | self.divide & 3) + 1) & 7
    }

    /// Ticks of the time-stamp counter from the initial count to 0.
    const fn period(&self) -> u64 {
        (self.initial as u64) << self.shift()
    }

    /// The local vector table's timer mode has been written.
    pub fn set_mode(&mut self, mode: u32) {
        let mode = match mode & 3 {
            0 => Mode::OneShot,
            1 => Mode::Periodic,
            2 => Mode::Deadline,
            _ => Mode::Reserved,
        };
        let counts = |mode: Mode| matches!(mode, Mode::OneShot | Mode::Periodic);
        if mode != self.mode && !(counts(mode) && counts(self.mode)) {
            self.expires = None;
        }
        self.mode = mode;
    }

    /// Initial count register.
    pub const fn initial_count(&self) -> u32 {
        self.initial
    }

    /// Writes it, which starts the timer; 0 stops it. Ignored in the other modes.
    pub fn start(&mut self, count: u32, now: u64) {
        if matches!(self.mode, Mode::OneShot | Mode::Periodic) {
            self.initial = count;
            self.expires = (count != 0).then(|| now.saturating_add(self.period()));
        }
    }

    /// Current count register.
    pub fn current_count(&self, now: u64) -> u32 {
        if self.mode == Mode::Deadline {
            return 0;
        }
        let left = self.expires.map_or(0, |expires| expires.saturating_sub(now));
        // Whoever looks at a periodic timer that is due sees a count that has begun anew.
        let left = if left == 0 && self.mode == Mode::Periodic { self.next_period(now) } else { left };
        left.div_ceil(1 << self.shift()).min(self.initial.into()) as u32
    }

    fn next_period(&self, now: u64) -> u64 {
        self.following(now).map_or(0, |expires| expires - now)
    }

    /// When a periodic timer expires after `now`.
    fn following(&self, now: u64) -> Option<u64> {
        let (expires, period) = (self.expires?, self.period().max(1));
        let over = now.saturating_sub(expires);
        Some(expires.saturating_add((over / period + 1).saturating_mul(period)).max(now))
    }

    /// Divide configuration register.
    pub const fn divide(&self) -> u32 {
        self.divide
    }

    /// Writes it; what is left of the count is counted at the new rate.
    pub fn set_divide(&mut self, value: u32, now: u64) {
        let left = self.current_count(now);
        self.divide = value & 0b1011;
        let counts = matches!(self.mode, Mode::OneShot | Mode::Periodic);
        if counts && self.expires.is_some_and(|expires| expires > now) {
            self.expires = Some(now.saturating_add(u64::from(left) << self.shift()));
        }
    }

    /// IA32_TSC_DEADLINE: 0 when it is disarmed, and in the other modes.
    pub fn tsc_deadline(&self) -> u64 {
        if self.mode == Mode::Deadline { self.expires.unwrap_or(0) } else { 0 }
    }

    /// Writes IA32_TSC_DEADLINE: 0 disarms. Ignored in the other modes.
    pub fn set_tsc_deadline(&mut self, value: u64) {
        if self.mode == Mode::Deadline {
            self.expires = (value != 0).then_some(value);
        }
    }

    /// When it expires, by the time-stamp counter.
    #[inline]
    pub const fn deadline(&self) -> Option<u64> {
        self.expires
    }

    /// Whether it has expired, which is told once.
    #[inline]
    pub fn expire(&mut self, now: u64) -> bool {
        if self.expires.is_none_or(|expires| expires > now) {
            return false;
        }
        self.expires = if self.mode == Mode::Periodic { self.following(now) } else { None };
        true
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Divide by 1.
    const ONE: u32 = 0b1011;

    #[test]
    fn divisors() {
        let shift = |divide| {
            let mut timer = Timer::new();
            timer.set_divide(divide, 0);
            timer.shift()
        };
        assert_eq!([0, 1, 2, 3, 8, 9, 10, 11].map(shift), [1, 2, 3, 4, 5, 6, 7, 0]);
    }

    #[test]
    fn one_shot() {
        let mut timer = Timer::new();
        timer.start(100, 1_000);
        assert_eq!((timer.current_count(1_000), timer.current_count(1_002)), (100, 99));
        assert_eq!(timer.deadline(), Some(1_200));
        assert!(!timer.expire(1_199) && timer.expire(1_200) && !timer.expire(1_300));
        assert_eq!((timer.current_count(1_300), timer.initial_count(), timer.deadline()), (0, 100, None));
        timer.start(5, 1_300);
        timer.start(0, 1_301);
        assert_eq!(timer.deadline(), None, "0 stops it");
    }

    #[test]
    fn periodic() {
        let mut timer = Timer::new();
        timer.set_mode(1);
        timer.set_divide(ONE, 0);
        timer.start(10, 0);
        assert!(!timer.expire(9) && timer.expire(10));
        assert_eq!((timer.deadline(), timer.current_count(13)), (Some(20), 7));
        assert!(timer.expire(47), "periods that nobody saw are one interrupt");
        assert_eq!((timer.deadline(), timer.current_count(48)), (Some(50), 2));
        assert_eq!(timer.current_count(53), 7, "also before it is told");
        timer.set_mode(0);
        assert!(timer.expire(50) && timer.deadline().is_none(), "the last one");
    }

    #[test]
    fn the_divisor_changes_on_the_way() {
        let mut timer = Timer::new();
        timer.set_divide(ONE, 0);
        timer.start(100, 0);
        timer.set_divide(0b0000, 40);
        assert_eq!((timer.current_count(40), timer.deadline()), (60, Some(160)));
    }

    /// SDM 3A, "TSC-Deadline Mode".
    #[test]
    fn by_deadline() {
        let mut timer = Timer::new();
        timer.set_tsc_deadline(5);
        assert_eq!((timer.deadline(), timer.tsc_deadline()), (None, 0), "in other modes it is ignored");
        timer.start(100, 0);
        timer.set_mode(2);
        assert_eq!(timer.deadline(), None, "changing to it disarms");
        timer.start(7, 0);
        assert_eq!(timer.current_count(0), 0, "it does not count");
        timer.set_tsc_deadline(500);
        assert_eq!((timer.tsc_deadline(), timer.deadline()), (500, Some(500)));
        assert!(!timer.expire(499) && timer.expire(500));
        assert_eq!(timer.tsc_deadline(), 0, "it disarms itself");
        timer.set_tsc_deadline(3);
        assert!(timer.expire(600), "a deadline that is over");
        timer.set_tsc_deadline(700);
        timer.set_tsc_deadline(0);
        assert_eq!(timer.deadline(), None);
        timer.set_tsc_deadline(800);
        timer.set_mode(0);
        assert_eq!(timer.deadline(), None, "changing from it disarms");
    }

    proptest! {
        #[test]
        fn it_expires_when_it_says(mode in 0u32..4, divide: u32, count: u32, start in 0u64..1 << 60, waits: [u32; 8]) {
            let mut timer = Timer::new();
            timer.set_mode(mode);
            timer.set_divide(divide, start);
            timer.start(count, start);
            timer.set_tsc_deadline(u64::from(count));
            let mut now = start;
            for wait in waits {
                now += u64::from(wait);
                let due = timer.deadline();
                prop_assert_eq!(timer.expire(now), due.is_some_and(|due| due <= now));
                prop_assert!(timer.deadline().is_none_or(|next| next > now));
                prop_assert!(timer.current_count(now) <= timer.initial_count());
            }
        }

        #[test]
        fn any_time_is_harmless(mode in 0u32..4, count: u32, divides: [u32; 4], times: [u64; 4]) {
            let mut timer = Timer::new();
            timer.set_mode(mode);
            for (divide, time) in divides.into_iter().zip(times) {
                timer.start(count, time);
                timer.set_divide(divide, time.wrapping_add(u64::from(count)));
                timer.current_count(time.wrapping_mul(3));
                timer.expire(time.wrapping_mul(5));
            }
        }
    }
}
