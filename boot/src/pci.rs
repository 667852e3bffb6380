//! PCI functions: what is on the machine's buses, found by asking each place for its name.
//!
//! By configuration mechanism #1 (PCI Local Bus Specification 3.0, "Configuration Space Access Mechanism"), which every PC has: an
//! address is written to one port, and the word it names read from the other.

use abi::control::topology::{MAX_PCI, PciFunction};
use arrayvec::ArrayVec;

/// The port that an address is written to; the next one, four further on, has the word.
pub const CONFIG_ADDRESS: u16 = 0xcf8;

/// Vendor and device.
const ID: u8 = 0x00;
/// Class code, subclass, interface, revision.
const CLASS: u8 = 0x08;
/// Cache line, timer, kind of header, self test.
const HEADER: u8 = 0x0c;
/// Of a bridge: the buses it is between.
const BUSES: u8 = 0x18;

/// Nobody answers.
const NONE: u32 = u32::MAX;
const MANY_FUNCTIONS: u32 = 1 << 23;
const BRIDGE_HEADER: u32 = 1;

/// The address of a word.
const fn address(bus: u8, device: u8, function: u8, register: u8) -> u32 {
    1 << 31 | (bus as u32) << 16 | (device as u32) << 11 | (function as u32) << 8 | register as u32
}

/// Finds what is on bus 0 and behind the bridges that the firmware has set up. `read` gives the word at an address.
pub fn scan(mut read: impl FnMut(u32) -> u32) -> ArrayVec<PciFunction, MAX_PCI> {
    let mut found = ArrayVec::new();
    // No bus is looked at twice, whatever bridges say.
    let mut seen = [false; 256];
    let mut buses = ArrayVec::<u8, 256>::new();
    (seen[0], _) = (true, buses.try_push(0));
    while let Some(bus) = buses.pop() {
        for device in 0..32 {
            for function in 0..8 {
                let mut word = |register| read(address(bus, device, function, register));
                let id = word(ID);
                if id == NONE {
                    if function == 0 {
                        break;
                    }
                    continue;
                }
                let (class, header) = (word(CLASS), word(HEADER));
                let told = PciFunction {
                    bus,
                    device,
                    function,
                    interface: (class >> 8) as u8,
                    vendor: id as u16,
                    model: (id >> 16) as u16,
                    class: (class >> 16) as u16,
                    reserved: 0,
                };
                if found.try_push(told).is_err() {
                    return found;
                }
                if header >> 16 & 0x7f == BRIDGE_HEADER {
                    let behind = (word(BUSES) >> 8) as u8;
                    if !core::mem::replace(&mut seen[usize::from(behind)], true) {
                        // There is room for each bus once.
                        let _ = buses.try_push(behind);
                    }
                }
                if function == 0 && header & MANY_FUNCTIONS == 0 {
                    break;
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// A host bridge, a chip of two functions, and a bridge with a network card behind it, and a loop.
    fn machine(address: u32) -> u32 {
        let [register, at @ ..] = address.to_le_bytes();
        let place = (at[1] & 0x7f, at[0] >> 3, at[0] & 7);
        assert_eq!(at[2], 0x80);
        match (place, register) {
            ((0, 0, 0), ID) => 0x29c0_8086,
            ((0, 0, 0), CLASS) => 0x0600_0002,
            ((0, 1, 0), ID) => 0x7000_8086,
            ((0, 1, 0), CLASS) => 0x0601_0000,
            ((0, 1, 0), HEADER) => MANY_FUNCTIONS,
            ((0, 1, 3), ID) => 0x7113_8086,
            ((0, 1, 3), CLASS) => 0x0680_0003,
            ((0, 31, 0) | (5, 0, 0), ID) => 0x244e_8086,
            ((0, 31, 0) | (5, 0, 0), CLASS) => 0x0604_0000,
            ((0, 31, 0) | (5, 0, 0), HEADER) => BRIDGE_HEADER << 16,
            ((0, 31, 0), BUSES) => 0x0006_0500,
            // It says that the first bus is behind it.
            ((5, 0, 0), BUSES) => 0x0000_0005,
            ((5, 4, 0), ID) => 0x1000_1af4,
            ((5, 4, 0), CLASS) => 0x0200_0100,
            (_, ID) => NONE,
            _ => 0,
        }
    }

    #[test]
    fn functions_and_what_is_behind_bridges() {
        let found = scan(machine);
        let told: Vec<_> = found.iter().map(|f| (f.bus, f.device, f.function, f.class, f.model)).collect();
        assert_eq!(
            told,
            [
                (0, 0, 0, 0x0600, 0x29c0),
                (0, 1, 0, 0x0601, 0x7000),
                (0, 1, 3, 0x0680, 0x7113),
                (0, 31, 0, 0x0604, 0x244e),
                (5, 0, 0, 0x0604, 0x244e),
                (5, 4, 0, 0x0200, 0x1000),
            ]
        );
        assert_eq!((found[5].vendor, found[5].interface), (0x1af4, 1));
    }

    #[test]
    fn any_answers_come_to_an_end() {
        for seed in 1..200_u32 {
            let mut state = seed;
            let found = scan(|address| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                let bridge = seed % 2 == 0 && address & 0xff == u32::from(HEADER);
                if bridge { BRIDGE_HEADER << 16 } else { state }
            });
            assert!(found.len() <= MAX_PCI);
        }
        assert!(scan(|_| NONE).is_empty());
    }
}
