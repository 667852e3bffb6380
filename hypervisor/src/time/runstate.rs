//! How long a virtual CPU has been in which state (`vcpu.h`, `vcpu_runstate_info`).
//!
//! On Atoll a virtual CPU has its core for itself, so it is never runnable without running. It is offline while it is
//! down or its domain paused, which is what Xen says of a paused one too. Its own HLT does not exit, so that nobody sees
//! it sleep: that time counts as running.

use abi::xen::vcpu_time::{RunstateInfo, runstate};

/// Offset of [`RunstateInfo::state_entry_time`].
pub const ENTRY_TIME: u64 = core::mem::offset_of!(RunstateInfo, state_entry_time) as u64;

/// The account of one virtual CPU. Times are system time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runstate {
    state: u32,
    since: u64,
    spent: [u64; 4],
}

impl Runstate {
    /// Of a virtual CPU that is made now: offline.
    pub const fn new(now: u64) -> Self {
        Self { state: runstate::OFFLINE, since: now, spent: [0; 4] }
    }

    /// From now on it runs, or it does not. `false`: that is nothing new.
    pub fn change(&mut self, runs: bool, now: u64) -> bool {
        let state = if runs { runstate::RUNNING } else { runstate::OFFLINE };
        if state == self.state {
            return false;
        }
        self.spent[self.state as usize & 3] += now.saturating_sub(self.since);
        (self.state, self.since) = (state, now);
        true
    }

    /// As it was at the last change: what a guest's own area holds.
    pub const fn at_last_change(&self) -> RunstateInfo {
        RunstateInfo { state: self.state, pad: 0, state_entry_time: self.since, time: self.spent }
    }

    /// As it is now: what `VCPUOP_get_runstate_info` answers.
    pub fn at(&self, now: u64) -> RunstateInfo {
        let mut info = self.at_last_change();
        info.time[self.state as usize & 3] += now.saturating_sub(self.since);
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_life() {
        let mut account = Runstate::new(100);
        assert_eq!(account.at(150).time, [0, 0, 0, 50]);
        assert!(account.change(true, 200) && !account.change(true, 250));
        assert_eq!(account.at_last_change().time, [0, 0, 0, 100]);
        assert_eq!((account.at(260).time, account.at(260).state_entry_time), ([60, 0, 0, 100], 200));
        assert!(account.change(false, 300));
        assert_eq!((account.at(300).state, account.at(300).time), (runstate::OFFLINE, [100, 0, 0, 100]));
    }

    proptest! {
        #[test]
        fn no_time_is_lost(start in 0u64..1 << 60, steps in prop::collection::vec((any::<bool>(), 0u64..1 << 40), 0..50)) {
            let (mut now, mut account) = (start, Runstate::new(start));
            for (runs, passed) in steps {
                now += passed;
                account.change(runs, now);
                prop_assert_eq!(account.at(now).time.iter().sum::<u64>(), now - start);
            }
        }
    }
}
