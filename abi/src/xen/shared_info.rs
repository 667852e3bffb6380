//! The page a domain shares with the hypervisor (`xen.h`, `arch-x86/xen.h`), 64-bit layout, 2-level events.
//!
//! Both sides change these words while the other looks, so the layout is given as offsets, never as a struct that a
//! reference could be taken to.

/// vCPUs whose `vcpu_info` lies in the page itself (`XEN_LEGACY_MAX_VCPUS`).
pub const LEGACY_MAX_VCPUS: usize = 32;
/// Bytes of one `vcpu_info`.
pub const VCPU_INFO_SIZE: usize = 64;
/// Ports of the 2-level ABI: 64 words of 64 bits.
pub const EVTCHN_2L_PORTS: u32 = 4096;

/// Offsets within one `vcpu_info`.
pub mod vcpu_info {
    /// `evtchn_upcall_pending`, a byte: events wait.
    pub const UPCALL_PENDING: usize = 0;
    /// `evtchn_upcall_mask`, a byte: not used by HVM and PVH guests with an upcall vector.
    pub const UPCALL_MASK: usize = 1;
    /// `evtchn_pending_sel`, a word: which of the 64 pending words have news.
    pub const PENDING_SEL: usize = 8;
    /// `time`, a `vcpu_time_info`.
    pub const TIME: usize = 32;
}

/// Offsets within one `vcpu_time_info` (pvclock).
pub mod time_info {
    /// `version`: odd while the hypervisor writes.
    pub const VERSION: usize = 0;
    /// `tsc_timestamp`, 64 bits.
    pub const TSC_TIMESTAMP: usize = 8;
    /// `system_time` at that timestamp, nanoseconds.
    pub const SYSTEM_TIME: usize = 16;
    /// `tsc_to_system_mul`: nanoseconds = ((tsc << shift) * mul) >> 32.
    pub const TSC_TO_SYSTEM_MUL: usize = 24;
    /// `tsc_shift`, signed byte.
    pub const TSC_SHIFT: usize = 28;
    /// `flags`, a byte.
    pub const FLAGS: usize = 29;
    /// Of the flags: the counter is the same and steady on all cores (`XEN_PVCLOCK_TSC_STABLE_BIT`).
    pub const TSC_STABLE: u8 = 1;
}

/// Offset of the `vcpu_info` array.
pub const VCPU_INFO: usize = 0;
/// Offset of `evtchn_pending`, 64 words.
pub const EVTCHN_PENDING: usize = LEGACY_MAX_VCPUS * VCPU_INFO_SIZE;
/// Offset of `evtchn_mask`, 64 words.
pub const EVTCHN_MASK: usize = EVTCHN_PENDING + 512;
/// Offset of `wc_version`, `wc_sec`, `wc_nsec`, `wc_sec_hi`: four 32-bit words of wall clock, which is that time at system
/// time 0.
pub const WALL_CLOCK: usize = EVTCHN_MASK + 512;
