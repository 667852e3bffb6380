//! `sched_op`: a domain's watchdogs.

use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::sched::{WATCHDOGS, Watchdog};

/// The watchdogs of a domain. One that is not fed in time ends the domain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watchdogs {
    /// When each is due.
    due: [Option<u64>; WATCHDOGS],
    /// Since when the domain does not run: that is no time in which it could have fed them.
    held_since: Option<u64>,
}

impl Watchdogs {
    /// A new one, another time for one, or the end of one. `due` tells when a number of seconds will have passed.
    pub fn set(&mut self, order: &Watchdog, due: impl Fn(u32) -> u64) -> HypercallResult {
        if order.id == 0 {
            let Some(free) = self.due.iter().position(Option::is_none) else {
                // Xen computes this one in 32 bits.
                return Ok(Errno::ENOSPC.as_rax() & u64::from(u32::MAX));
            };
            self.due[free] = Some(due(order.timeout));
            return Ok(free as u64 + 1);
        }
        let dog = self.due.get_mut(order.id as usize - 1).filter(|dog| dog.is_some()).ok_or(Errno::EINVAL)?;
        *dog = (order.timeout != 0).then(|| due(order.timeout));
        Ok(0)
    }

    /// The domain runs from now on, or does not.
    pub fn runs(&mut self, runs: bool, now: u64) {
        if !runs {
            self.held_since.get_or_insert(now);
        } else if let Some(since) = self.held_since.take() {
            let held = now.saturating_sub(since);
            self.due.iter_mut().flatten().for_each(|due| *due = due.saturating_add(held));
        }
    }

    /// When the next is due; `None`: there is none.
    pub fn next(&self) -> Option<u64> {
        self.due.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_run_need_not_feed() {
        let mut dogs = Watchdogs::default();
        dogs.set(&Watchdog { id: 0, timeout: 5 }, u64::from).unwrap();
        dogs.runs(true, 1);
        assert_eq!(dogs.next(), Some(5));
        dogs.runs(false, 2);
        dogs.runs(false, 3);
        dogs.runs(true, 102);
        dogs.runs(true, 200);
        assert_eq!(dogs.next(), Some(105));
    }

    #[test]
    fn a_dog_s_life() {
        let mut dogs = Watchdogs::default();
        let mut set = |id, timeout| {
            let result = dogs.set(&Watchdog { id, timeout }, |seconds| 1000 + u64::from(seconds));
            (result, dogs.next())
        };
        assert_eq!(set(1, 5), (Err(Errno::EINVAL), None));
        assert_eq!(set(3, 5), (Err(Errno::EINVAL), None));
        assert_eq!(set(u32::MAX, 5), (Err(Errno::EINVAL), None));
        assert_eq!(set(0, 5), (Ok(1), Some(1005)));
        assert_eq!(set(0, 3), (Ok(2), Some(1003)));
        assert_eq!(set(0, 3), (Ok(0xffff_ffe4), Some(1003)), "no room");
        assert_eq!(set(2, 9), (Ok(0), Some(1005)));
        assert_eq!(set(1, 0), (Ok(0), Some(1009)));
        assert_eq!(set(1, 7), (Err(Errno::EINVAL), Some(1009)));
        assert_eq!(set(2, 0), (Ok(0), None));
        assert_eq!(set(0, 0), (Ok(1), Some(1000)), "due at once");
    }
}
