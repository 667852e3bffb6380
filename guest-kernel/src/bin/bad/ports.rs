//! Reads and writes every port, and those that reset or stop a machine with the very bytes that do it.

use guest_kernel::say;

use crate::attempt::{attempt, take_faults};

/// Keyboard controller, system control port A, reset control: reset. ACPI of QEMU and Bochs: power off. Bochs's own:
/// power off. QEMU's debug exit. Interrupt controllers: everything masked.
const DEADLY: [(u16, u32); 9] = [
    (0x64, 0xfe),
    (0x92, 0x01),
    (0xcf9, 0x06),
    (0x604, 0x2000),
    (0xb004, 0x2000),
    (0xf4, 0x21),
    (0x501, 0x21),
    (0x21, 0xff),
    (0xa1, 0xff),
];

/// All of them, a byte each way, then the deadly ones.
pub fn sweep() {
    for port in 0..=u16::MAX {
        input(port);
        output(port, 0xff);
    }
    for (port, value) in DEADLY {
        output(port, value);
        // SAFETY: as in `output`.
        unsafe {
            attempt!("out dx, ax"; in("dx") port, in("ax") value as u16, options(nostack));
            attempt!("out dx, eax"; in("dx") port, in("eax") value, options(nostack));
        }
    }
    for byte in *b"Shutdown" {
        output(0x8900, byte.into());
    }
    // SAFETY: a string of bytes of this program's own, to a port that the hypervisor guards.
    unsafe {
        let text = b"Shutdown";
        attempt!("rep outsb"; in("dx") 0x8900u16, inout("rsi") text.as_ptr() => _, inout("rcx") text.len() => _,
                 options(nostack));
    }
    say!("bad: 65536 ports tried, {} faults", take_faults());
}

fn input(port: u16) {
    // SAFETY: a read, and the hypervisor guards the ports.
    unsafe { attempt!("in al, dx"; in("dx") port, out("al") _, options(nostack)) }
}

fn output(port: u16, value: u32) {
    // SAFETY: the hypervisor guards the ports; that is what is tried.
    unsafe { attempt!("out dx, al"; in("dx") port, in("al") value as u8, options(nostack)) }
}
