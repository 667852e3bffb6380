//! Too much of what is allowed, and interrupts that are not.

use guest_kernel::platform::atoll::hypercall;
use guest_kernel::say;
use x86::msr::IA32_X2APIC_ICR;

use crate::attempt::{STRAY, take_faults};
use crate::msrs;

/// Events sent.
const EVENTS: u32 = 50_000;
/// Ports they are sent on.
const PORTS: u32 = 64;

/// Events to whoever is at the other end of any port.
pub fn events() {
    let accepted = (0..EVENTS).filter(|number| hypercall::send(number % PORTS).is_ok()).count();
    say!("bad: {EVENTS} events sent, {accepted} accepted");
}

/// Delivery modes: fixed, lowest priority, SMI, reserved, NMI, INIT, start-up, external.
const MODES: core::ops::Range<u64> = 0..8;
/// Shorthands in bits 18 and 19: as addressed, all including self, all but self. Self is allowed.
const SHORTHANDS: [u64; 3] = [0, 2, 3];
/// Destinations: the first cores, and everybody.
const DESTINATIONS: [u64; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 0xffff_ffff];
/// Vectors: reserved ones, the lowest allowed, which is a start-up page too, an upcall, the highest.
const VECTORS: [u64; 5] = [0, 8, STRAY, 0xe0, 0xfe];

/// Interrupts of every kind to every core, through the local APIC.
pub fn interrupts() {
    let mut tried = 0u64;
    for mode in MODES {
        for shorthand in SHORTHANDS {
            for destination in DESTINATIONS {
                for vector in VECTORS {
                    for level in [0u64, 1 << 14] {
                        let command = vector | mode << 8 | level | shorthand << 18 | destination << 32;
                        msrs::write(IA32_X2APIC_ICR, command);
                        tried += 1;
                    }
                }
            }
        }
    }
    say!("bad: {tried} interrupts tried, {} refused with a fault", take_faults());
}

/// The interrupt that the local APIC calls spurious, to itself, and never ended.
pub fn spurious_vector() {
    const SELF_IPI: u32 = 0x83f;
    msrs::write(SELF_IPI, 0xff);
}

/// Every bit of every entry in the local vector table, the reserved ones too.
pub fn local_vectors() {
    const ENTRIES: core::ops::RangeInclusive<u32> = 0x832..=0x837;
    for entry in ENTRIES {
        for bit in 0..32 {
            msrs::write(entry, 1 << 16 | 1 << bit);
        }
        msrs::write(entry, 0x1_ff00);
    }
    say!("bad: local vectors written, {} refused with a fault", take_faults());
}
