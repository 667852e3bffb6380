//! `hvm_op`: which parameters a guest may read and set, and to what.

use abi::xen::errno::Errno;
use abi::xen::hvm::{Trace, param};

/// Upcalls come by vectors that are no exceptions'.
pub const FIRST_VECTOR: u8 = 16;

/// Size of a 32-bit task-state segment, and of the largest that has a use: with bitmaps for interrupts and ports.
const TSS_BYTES: u64 = 104;
const MAX_TSS_BYTES: u64 = TSS_BYTES + 0x100 / 8 + 0x1_0000 / 8 + 1;

/// Whether the parameter may be read: by its own domain, or by domain 0.
#[inline]
pub fn may_get(index: u32, own: bool) -> Result<(), Errno> {
    match index {
        param::CALLBACK_IRQ
        | param::VM86_TSS
        | param::VM86_TSS_SIZED
        | param::ACPI_IOPORTS_LOCATION
        | param::VM_GENERATION_ID_ADDR
        | param::STORE_PFN
        | param::STORE_EVTCHN
        | param::CONSOLE_PFN
        | param::CONSOLE_EVTCHN
        | param::ALTP2M
        | param::X87_FIP_WIDTH => Ok(()),
        _ => others(index, own),
    }
}

/// Whether it may be set.
pub fn may_set(index: u32, own: bool) -> Result<(), Errno> {
    match index {
        param::CALLBACK_IRQ
        | param::VM86_TSS
        | param::VM86_TSS_SIZED
        | param::ACPI_IOPORTS_LOCATION
        | param::VM_GENERATION_ID_ADDR
        | param::STORE_EVTCHN
        | param::CONSOLE_EVTCHN
        | param::X87_FIP_WIDTH => Ok(()),
        _ => others(index, own),
    }
}

fn others(index: u32, own: bool) -> Result<(), Errno> {
    match index {
        param::PAE_ENABLED
        | param::DM_DOMAIN
        | param::MEMORY_EVENT_CR0..=param::BUFIOREQ_EVTCHN
        | param::MEMORY_EVENT_MSR => Err(Errno::EINVAL),
        _ if own => Err(Errno::EPERM),
        _ => Ok(()),
    }
}

/// What becomes of a parameter that may be set: the one that takes the value, and the value it takes.
pub fn taken(index: u32, value: u64) -> Result<(u32, u64), Errno> {
    match index {
        // There is no ACPI timer.
        param::ACPI_IOPORTS_LOCATION => Err(Errno::ENODEV),
        param::X87_FIP_WIDTH if ![0, 4, 8].contains(&value) => Err(Errno::EINVAL),
        param::VM86_TSS if value > u32::MAX.into() => Err(Errno::EINVAL),
        // What has no size has 128 bytes.
        param::VM86_TSS => Ok((param::VM86_TSS_SIZED, if value == 0 { 0 } else { value | 128 << 32 })),
        param::VM86_TSS_SIZED if value >> 32 < TSS_BYTES => Err(Errno::EINVAL),
        param::VM86_TSS_SIZED => {
            let bytes = (value >> 32).min(MAX_TSS_BYTES);
            Ok((index, value & u64::from(u32::MAX) | bytes << 32))
        }
        _ => Ok((index, value)),
    }
}

/// Which parameter holds the value that is read as this one, and which of its bits.
#[inline]
pub fn held(index: u32) -> (u32, u64) {
    match index {
        param::VM86_TSS => (param::VM86_TSS_SIZED, u32::MAX as u64),
        _ => (index, u64::MAX),
    }
}

/// `xentrace`: a guest's event for a trace that nobody takes.
pub fn trace(trace: &Trace) -> Result<(), Errno> {
    if usize::from(trace.extra_bytes) > trace.extra.len() || trace.event >= Trace::EVENTS {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_and_its_parameters() {
        let readable = (0..param::COUNT).filter(|&index| may_get(index, true).is_ok());
        assert!(readable.eq([0, 1, 2, 15, 17, 18, 19, 34, 35, 36, 37]));
        let settable = (0..param::COUNT).filter(|&index| may_set(index, true).is_ok());
        assert!(settable.eq([0, 2, 15, 18, 19, 34, 36, 37]));
        let deprecated = |own| {
            (0..param::COUNT).filter(move |&index| {
                may_get(index, own) == Err(Errno::EINVAL) && may_set(index, own) == Err(Errno::EINVAL)
            })
        };
        let list = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];
        assert!(deprecated(true).eq(list) && deprecated(false).eq(list));
        assert_eq!(
            (may_set(param::STORE_PFN, true), may_get(3, true)),
            (Err(Errno::EPERM), Err(Errno::EPERM))
        );
        assert!(may_set(param::STORE_PFN, false).is_ok() && may_get(3, false).is_ok());
    }

    #[test]
    fn values() {
        assert_eq!(taken(param::CALLBACK_IRQ, 1), Ok((0, 1)));
        assert_eq!(taken(param::ACPI_IOPORTS_LOCATION, 1), Err(Errno::ENODEV));
        assert_eq!(taken(param::X87_FIP_WIDTH, 4), Ok((36, 4)));
        assert_eq!(taken(param::X87_FIP_WIDTH, 5), Err(Errno::EINVAL));
        assert_eq!(taken(param::VM86_TSS, 1 << 32), Err(Errno::EINVAL));
        assert_eq!(taken(param::VM86_TSS, 0x5000), Ok((37, 0x5000 | 128 << 32)));
        assert_eq!(taken(param::VM86_TSS, 0), Ok((37, 0)));
        assert_eq!(taken(param::VM86_TSS_SIZED, 103 << 32), Err(Errno::EINVAL));
        assert_eq!(taken(param::VM86_TSS_SIZED, u64::MAX), Ok((37, 8329 << 32 | 0xffff_ffff)));
        assert_eq!((held(15), held(1)), ((37, 0xffff_ffff), (1, u64::MAX)));
    }

    #[test]
    fn traces() {
        let of = |event, extra_bytes| trace(&Trace { event, extra_bytes, extra: [0; 28] });
        assert_eq!(of(0xfff, 28), Ok(()));
        assert_eq!((of(0, 29), of(0x1000, 0)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
    }
}
