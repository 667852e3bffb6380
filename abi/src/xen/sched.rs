//! Scheduler operations (`sched.h`): RDI = operation, RSI = address of its argument where it has one.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `SCHEDOP_yield`
pub const YIELD: u64 = 0;
/// `SCHEDOP_block`
pub const BLOCK: u64 = 1;
/// `SCHEDOP_shutdown`, argument [`Shutdown`].
pub const SHUTDOWN: u64 = 2;

/// `SCHEDOP_poll`, argument [`Poll`].
pub const POLL: u64 = 3;
/// `SCHEDOP_remote_shutdown`, argument [`RemoteShutdown`].
pub const REMOTE_SHUTDOWN: u64 = 4;
/// `SCHEDOP_shutdown_code`, argument [`Shutdown`].
pub const SHUTDOWN_CODE: u64 = 5;
/// `SCHEDOP_watchdog`, argument [`Watchdog`].
pub const WATCHDOG: u64 = 6;
/// `SCHEDOP_pin_override`, argument [`PinOverride`].
pub const PIN_OVERRIDE: u64 = 7;

/// Ports that one [`POLL`] may name.
pub const MAX_POLL_PORTS: u32 = 128;
/// Watchdogs of a domain (`NR_DOMAIN_WATCHDOG_TIMERS`).
pub const WATCHDOGS: usize = 2;

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
    /// Its watchdog was not fed.
    pub const WATCHDOG: u32 = 4;
    /// Start the kernel again, leave the memory.
    pub const SOFT_RESET: u32 = 5;
}

/// `sched_poll`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Poll {
    /// In: address of the ports' numbers, 32 bits each.
    pub ports: u64,
    /// In: how many, at most [`MAX_POLL_PORTS`].
    pub nr_ports: u32,
    /// Padding.
    pub pad: u32,
    /// In: nanoseconds of system time at which to return anyway; 0: never.
    pub timeout: u64,
}

/// `sched_remote_shutdown`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct RemoteShutdown {
    /// In: whom.
    pub domain_id: super::DomId,
    /// Padding.
    pub pad: u16,
    /// In: a [`reason`].
    pub reason: u32,
}

/// `sched_watchdog`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Watchdog {
    /// In: 0 for a new one, else one that the call has returned.
    pub id: u32,
    /// In: seconds from now; 0 ends that watchdog.
    pub timeout: u32,
}

/// `sched_pin_override`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct PinOverride {
    /// In: processor, or -1.
    pub pcpu: i32,
}
