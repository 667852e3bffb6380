//! The kernel's watchdog: the hypervisor ends a guest that has not fed it in time, because it hangs.
//!
//! It is fed four times as often as it has to be, by the loop itself: a program that does not come back from a call does
//! not feed it, and neither does a kernel that has stopped for good with interrupts off.

use serde::{Deserialize, Serialize};

use crate::platform::Platform;

/// Feedings within the time that it gives.
const FEEDINGS: u64 = 4;

/// A watchdog, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    seconds: u32,
    id: u32,
    next: u64,
}

impl Watchdog {
    /// `watchdog=SECONDS`; none without it.
    pub fn from_option(value: Option<&str>) -> Self {
        Self { seconds: value.and_then(|seconds| seconds.parse().ok()).unwrap_or(0), ..Self::default() }
    }

    /// Feeds it if it is time.
    pub fn feed<P: Platform>(&mut self, platform: &P) {
        let now = platform.now();
        if self.seconds == 0 || now < self.next {
            return;
        }
        match platform.watchdog(self.id, self.seconds) {
            Ok(id) if self.id == 0 => self.id = id,
            Ok(_) => {}
            Err(error) => {
                log::error!("there is no watchdog: {error:?}");
                self.seconds = 0;
                return;
            }
        }
        let ticks =
            platform.ticks_per_millisecond().saturating_mul(u64::from(self.seconds) * 1000 / FEEDINGS);
        self.next = now.saturating_add(ticks);
    }

    /// When it is to be fed next.
    pub fn next(&self) -> Option<u64> {
        (self.seconds != 0).then_some(self.next)
    }
}
