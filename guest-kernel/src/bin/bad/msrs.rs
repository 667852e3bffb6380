//! Reads and writes every model-specific register there may be.

use guest_kernel::say;

use crate::attempt::{attempt, take_faults};

/// Where processors and hypervisors have registers, and a few places where nobody has.
const RANGES: [core::ops::Range<u32>; 7] = [
    0..0x2000,
    0x1000_0000..0x1000_0010,
    0x4000_0000..0x4000_0200,
    0x4b56_4d00..0x4b56_4d10,
    0x8000_0000..0x8000_0010,
    0xc000_0000..0xc000_2000,
    0xffff_fff0..0xffff_ffff,
];

/// Deadlines, end of interrupt and the like are this guest's own, and harmless to write back.
pub fn sweep() {
    let (mut tried, mut unreadable, mut unwritable) = (0u64, 0u64, 0u64);
    for msr in RANGES.into_iter().flatten() {
        take_faults();
        let value = read(msr);
        let readable = take_faults() == 0;
        write(msr, if readable { value } else { u64::MAX });
        unreadable += u64::from(!readable);
        unwritable += take_faults();
        tried += 1;
    }
    say!("bad: {tried} MSRs tried, {unreadable} not readable, {unwritable} not writable");
}

/// The register's value, or what was left in the registers after a fault.
pub fn read(msr: u32) -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: a read changes nothing of ours; whether it is allowed is for the hypervisor to say.
    unsafe {
        attempt!("rdmsr"; in("ecx") msr, inlateout("rax") 0u64 => low, inlateout("rdx") 0u64 => high, options(nostack));
    }
    low & 0xffff_ffff | high << 32
}

/// Writes the register.
pub fn write(msr: u32, value: u64) {
    // SAFETY: this program writes back what it read, or what no register takes; whether it is allowed is for the
    // hypervisor to say.
    unsafe {
        attempt!("wrmsr"; in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack));
    }
}
