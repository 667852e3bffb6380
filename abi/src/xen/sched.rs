//! Scheduler operations (`sched.h`): RDI = operation, RSI = address of its argument where it has one.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `SCHEDOP_yield`
pub const YIELD: u64 = 0;
/// `SCHEDOP_block`
pub const BLOCK: u64 = 1;
/// `SCHEDOP_shutdown`, argument [`Shutdown`].
pub const SHUTDOWN: u64 = 2;

/// `sched_shutdown`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Shutdown {
    /// A [`reason`].
    pub reason: u32,
}

/// `SHUTDOWN_*`.
pub mod reason {
    /// Clean end.
    pub const POWEROFF: u32 = 0;
    /// Start again.
    pub const REBOOT: u32 = 1;
    /// Suspended.
    pub const SUSPEND: u32 = 2;
    /// The guest says it crashed.
    pub const CRASH: u32 = 3;
}
