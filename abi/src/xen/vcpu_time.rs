//! Time, as a virtual CPU sees it (`xen.h`, `vcpu.h`): pvclock, runstate, timers, and where a guest wants them.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `vcpu_time_info`: nanoseconds of system time = `system_time` + (((tsc - `tsc_timestamp`) << `tsc_shift`) *
/// `tsc_to_system_mul`) >> 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct TimeInfo {
    /// Odd while the hypervisor writes.
    pub version: u32,
    /// Padding.
    pub pad0: u32,
    /// The counter at `system_time`.
    pub tsc_timestamp: u64,
    /// Nanoseconds since the hypervisor's boot.
    pub system_time: u64,
    /// A fraction of 2^32.
    pub tsc_to_system_mul: u32,
    /// To the left; negative: to the right.
    pub tsc_shift: i8,
    /// [`super::shared_info::time_info::TSC_STABLE`].
    pub flags: u8,
    /// Padding.
    pub pad1: [u8; 2],
}

/// `RUNSTATE_*`.
pub mod runstate {
    /// On a processor.
    pub const RUNNING: u32 = 0;
    /// It could run, but another does.
    pub const RUNNABLE: u32 = 1;
    /// It waits for an event.
    pub const BLOCKED: u32 = 2;
    /// Down, or paused.
    pub const OFFLINE: u32 = 3;
}

/// `vcpu_runstate_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct RunstateInfo {
    /// A [`runstate`].
    pub state: u32,
    /// Padding.
    pub pad: u32,
    /// System time since which it is in that state; the upper bit is [`RUNSTATE_UPDATE`].
    pub state_entry_time: u64,
    /// Nanoseconds in each state.
    pub time: [u64; 4],
}

/// Of `state_entry_time`: the rest is being written, for guests that ask for it with `vm_assist`
/// (`XEN_RUNSTATE_UPDATE`).
pub const RUNSTATE_UPDATE: u64 = 1 << 63;

/// Argument of `VCPUOP_set_periodic_timer`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SetPeriodicTimer {
    /// Nanoseconds.
    pub period_ns: u64,
}

/// Argument of `VCPUOP_set_singleshot_timer`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SetSingleshotTimer {
    /// System time.
    pub timeout_abs_ns: u64,
    /// [`SSHOTTMR_FUTURE`].
    pub flags: u32,
    /// Padding.
    pub pad: u32,
}

/// `VCPU_SSHOTTMR_future`: the timeout must be in the future, else `ETIME`.
pub const SSHOTTMR_FUTURE: u32 = 1;

/// Argument of `VCPUOP_register_vcpu_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// Guest frame number.
    pub mfn: u64,
    /// Offset within it.
    pub offset: u32,
    /// Padding.
    pub rsvd: u32,
}

/// Argument of `VCPUOP_register_runstate_memory_area` and `VCPUOP_register_vcpu_time_memory_area`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct RegisterArea {
    /// Linear address of a [`RunstateInfo`] or a [`TimeInfo`].
    pub address: u64,
}

/// Out, of `VCPUOP_get_physid`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct GetPhysid {
    /// Local APIC id in the lower half, ACPI's processor id in the upper.
    pub phys_id: u64,
}

const _: () = assert!(size_of::<TimeInfo>() == 32 && size_of::<RunstateInfo>() == 48);
const _: () = assert!(size_of::<SetSingleshotTimer>() == 16 && size_of::<RegisterVcpuInfo>() == 16);
