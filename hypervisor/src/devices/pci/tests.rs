use super::*;
use proptest::prelude::*;

fn read(pci: &mut Pci, device: u32, function: u32, register: u32) -> u32 {
    pci.set_address(ENABLED | device << 11 | function << 8 | register);
    (0..4).rev().fold(0, |value, byte| value << 8 | u32::from(pci.read(DATA + byte)))
}

fn write(pci: &mut Pci, device: u32, function: u32, register: u32, value: u32) {
    pci.set_address(ENABLED | device << 11 | function << 8 | register);
    for (port, byte) in (DATA..).zip(value.to_le_bytes()) {
        pci.write(port, byte);
    }
}

/// What kernels do to find out that there is mechanism #1.
#[test]
fn the_address_is_a_register() {
    let mut pci = Pci::new();
    pci.set_address(0x8000_0000);
    assert_eq!(pci.address(), 0x8000_0000);
    pci.set_address(u32::MAX);
    assert_eq!(pci.address(), 0x80ff_fffc);
}

#[test]
fn who_is_there() {
    let mut pci = Pci::new();
    let ids = [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (31, 7)]
        .map(|(device, function)| read(&mut pci, device, function, 0));
    assert_eq!(ids, [0x1237_8086, 0x7000_8086, 0x7010_8086, u32::MAX, 0x7113_8086, u32::MAX, u32::MAX]);
    pci.set_address(ENABLED | 1 << 16);
    assert_eq!(pci.read(DATA), 0xff, "no other bus");
    pci.set_address(0);
    assert_eq!(pci.read(DATA), 0xff, "not enabled");
    assert_eq!(read(&mut pci, 0, 0, 0x2c), 0x1100_1af4);
    assert_eq!(read(&mut pci, 1, 0, 0x0c) >> 16 & 0xff, 0x80, "more than one function");
    assert_eq!(read(&mut pci, 1, 3, 0x40), 0x601);
}

#[test]
fn what_can_be_written() {
    let mut pci = Pci::new();
    for register in (0x10..0x28).step_by(4).chain([0x30, 0x00, 0x08]) {
        for (device, function) in [(0, 0), (1, 0), (1, 1), (1, 3)] {
            let before = read(&mut pci, device, function, register);
            write(&mut pci, device, function, register, u32::MAX);
            assert_eq!(read(&mut pci, device, function, register), before, "no base addresses");
        }
    }
    write(&mut pci, 0, 0, 0x58, 0x1122_3344);
    assert_eq!(read(&mut pci, 0, 0, 0x58), 0x1122_3300);
    pci.set_address(ENABLED | 0x58);
    pci.write(DATA + 1, 0x30);
    assert_eq!(read(&mut pci, 0, 0, 0x58), 0x1122_3000, "a byte");
}

proptest! {
    #[test]
    fn only_what_can_be_written_changes(writes: [(u8, u32, u32); 40]) {
        let mut pci = Pci::new();
        for (place, address, value) in writes {
            let device = u32::from(place) % 3;
            pci.set_address(if place & 0x80 != 0 { address } else { ENABLED | device << 11 | address & 0x3ff });
            pci.write(DATA + (value >> 8) as u16 % 4, value as u8);
            pci.read(address as u16);
        }
        let reset = Pci::new();
        for (index, function) in FUNCTIONS.iter().enumerate() {
            for word in 0..WORDS {
                let changed = pci.space[index][word] ^ reset.space[index][word];
                prop_assert_eq!(changed & !function.writable(word as u8 * 4), 0);
            }
        }
    }
}

#[test]
fn the_power_management_block_moves() {
    let mut pci = Pci::new();
    assert_eq!(pci.power_base(), Some(0x600));
    write(&mut pci, 1, 3, 0x40, 0xffff_b001);
    assert_eq!((read(&mut pci, 1, 3, 0x40), pci.power_base()), (0xb001, Some(0xb000)));
    write(&mut pci, 1, 3, 0x80, 0);
    assert_eq!(pci.power_base(), None);
}
