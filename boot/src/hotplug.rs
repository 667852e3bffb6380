//! Processors that come while the machine runs: QEMU's register block for CPU hot-plug.
//!
//! ACPI describes such a block in AML, which Atoll does not interpret. The one that QEMU has is documented, at fixed ports
//! (QEMU's specifications, "QEMU<->ACPI BIOS CPU hotplug interface"). Which chipset it is, and so which port, the FADT
//! tells by where its general-purpose events are; that it is QEMU at all, QEMU's own configuration device does ("QEMU
//! Firmware Configuration (fw_cfg) Device": key 0 reads as `QEMU`). A machine that says otherwise is asked nothing, and
//! cores that its MADT lists as disabled stay unused.

/// Access to I/O ports.
pub trait Ports {
    /// Reads a byte.
    fn read8(&mut self, port: u16) -> u8;
    /// Reads a double word.
    fn read32(&mut self, port: u16) -> u32;
    /// Writes a byte.
    fn write8(&mut self, port: u16, value: u8);
    /// Writes a word.
    fn write16(&mut self, port: u16, value: u16);
    /// Writes a double word.
    fn write32(&mut self, port: u16, value: u32);
}

/// Where each chipset has its general-purpose events (FADT, `GPE0_BLK`), and where QEMU has put the register block.
const CHIPSETS: [(u64, u16); 2] = [
    // PIIX4, of the machine `pc`.
    (0xafe0, 0xaf00),
    // ICH9, of the machine `q35`.
    (0x620, 0xcd8),
];

/// The configuration device.
mod fw_cfg {
    pub(super) const SELECTOR: u16 = 0x510;
    pub(super) const DATA: u16 = 0x511;
    pub(super) const SIGNATURE: u16 = 0;
}

/// Offsets of the block's registers.
mod register {
    /// Written: which processor the others are about. Read: the upper half of what a command answers.
    pub(super) const SELECTOR: u16 = 0;
    pub(super) const STATUS: u16 = 4;
    pub(super) const COMMAND: u16 = 5;
    pub(super) const DATA: u16 = 8;
}

/// Status: the processor is there.
const ENABLED: u8 = 1 << 0;
/// Status: nobody has taken note yet that it has come. Writing it takes note.
const INSERTED: u8 = 1 << 1;
/// Command: select a processor that has come or is to go, if there is one.
const NEXT_EVENT: u8 = 0;
/// Command: tell the selected processor's APIC id.
const APIC_ID: u8 = 3;
/// The most processors that are looked through.
const MOST: u32 = 1024;

/// The register block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    base: u16,
}

impl Block {
    /// The block of a machine whose FADT has its general-purpose events there, if it is QEMU and has one that works.
    pub fn find(ports: &mut impl Ports, gpe0: u64) -> Option<Self> {
        let (_, base) = *CHIPSETS.iter().find(|(events, _)| *events == gpe0)?;
        ports.write16(fw_cfg::SELECTOR, fw_cfg::SIGNATURE);
        let signature = [(); 4].map(|()| ports.read8(fw_cfg::DATA));
        if signature != *b"QEMU" {
            return None;
        }
        let block = Self { base };
        // This switches older ones from their first form to the one that has these registers.
        ports.write32(base + register::SELECTOR, 0);
        ports.write8(base + register::COMMAND, NEXT_EVENT);
        if ports.read32(base + register::SELECTOR) != 0 {
            return None;
        }
        // The first processor is there always. Where no device answers, all bits are ones.
        let first = block.select(ports, 0);
        (first != u8::MAX && first & ENABLED != 0).then_some(block)
    }

    /// Whether the processor with this APIC id is there.
    pub fn has(self, ports: &mut impl Ports, apic_id: u32) -> bool {
        self.status_of(ports, apic_id).is_some_and(|status| status & ENABLED != 0)
    }

    /// Whether the block knows of such a processor, now or to come.
    pub fn knows(self, ports: &mut impl Ports, apic_id: u32) -> bool {
        self.status_of(ports, apic_id).is_some()
    }

    /// Takes note that the processor with this APIC id has come.
    pub fn greet(self, ports: &mut impl Ports, apic_id: u32) {
        if self.status_of(ports, apic_id).is_some_and(|status| status & INSERTED != 0) {
            ports.write8(self.base + register::STATUS, INSERTED);
        }
    }

    /// Selects a processor by its place in the block. Its status.
    fn select(self, ports: &mut impl Ports, place: u32) -> u8 {
        ports.write32(self.base + register::SELECTOR, place);
        ports.write8(self.base + register::COMMAND, APIC_ID);
        ports.read8(self.base + register::STATUS)
    }

    /// Selects the processor with this APIC id. Its status; `None`: there is no place for it.
    fn status_of(self, ports: &mut impl Ports, apic_id: u32) -> Option<u8> {
        for place in 0..MOST {
            let status = self.select(ports, place);
            let id = ports.read32(self.base + register::DATA);
            if id == apic_id {
                // Behind the last place everything reads as 0.
                return (place == 0 || id != 0).then_some(status);
            }
            if place > 0 && id == 0 {
                break;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// QEMU's device, as its specification has it.
    struct Device {
        base: u16,
        /// By place: APIC id, and status.
        places: Vec<(u32, u8)>,
        selector: u32,
        command: u8,
        is_legacy: bool,
        signature: &'static [u8],
        read: usize,
    }

    impl Device {
        fn new(base: u16, places: &[(u32, u8)]) -> Self {
            Self {
                base,
                places: places.to_vec(),
                selector: 0,
                command: 0,
                is_legacy: true,
                signature: b"QEMU",
                read: 0,
            }
        }

        fn selected(&mut self) -> Option<&mut (u32, u8)> {
            self.places.get_mut(self.selector as usize)
        }
    }

    impl Ports for Device {
        fn read8(&mut self, port: u16) -> u8 {
            if port == fw_cfg::DATA {
                self.read += 1;
                return self.signature.get(self.read - 1).copied().unwrap_or(0);
            }
            match port.checked_sub(self.base) {
                Some(register::STATUS) if !self.is_legacy => self.selected().map_or(0, |(_, status)| *status),
                _ => u8::MAX,
            }
        }

        fn read32(&mut self, port: u16) -> u32 {
            let command = self.command;
            match port.checked_sub(self.base) {
                // A bit for each processor.
                Some(register::SELECTOR) if self.is_legacy => 3,
                Some(register::SELECTOR) => 0,
                Some(register::DATA) if command == APIC_ID => self.selected().map_or(0, |(id, _)| *id),
                Some(register::DATA) => self.selector,
                _ => u32::MAX,
            }
        }

        fn write8(&mut self, port: u16, value: u8) {
            match port.checked_sub(self.base) {
                Some(register::COMMAND) if self.selected().is_some() => self.command = value,
                Some(register::STATUS) => {
                    if let Some((_, status)) = self.selected() {
                        *status &= !(value & INSERTED);
                    }
                }
                _ => {}
            }
            if port.checked_sub(self.base) == Some(register::COMMAND)
                && value == NEXT_EVENT
                && let Some(place) = self.places.iter().position(|(_, status)| status & INSERTED != 0)
            {
                self.selector = place as u32;
            }
        }

        fn write16(&mut self, port: u16, value: u16) {
            assert_eq!((port, value), (fw_cfg::SELECTOR, fw_cfg::SIGNATURE));
            self.read = 0;
        }

        fn write32(&mut self, port: u16, value: u32) {
            if port == self.base {
                (self.selector, self.is_legacy) = (value, false);
            }
        }
    }

    #[test]
    fn a_processor_comes() {
        for (gpe0, base) in [(0xafe0, 0xaf00), (0x620, 0xcd8)] {
            let mut device = Device::new(base, &[(0, 1), (1, 1), (4, 0)]);
            let block = Block::find(&mut device, gpe0).unwrap();
            assert!(block.has(&mut device, 0) && block.has(&mut device, 1));
            assert!(block.knows(&mut device, 4) && !block.has(&mut device, 4));
            assert!(!block.knows(&mut device, 2) && !block.has(&mut device, 5));
            block.greet(&mut device, 4);
            assert_eq!(device.places[2].1, 0, "there is nobody to greet");
            device.places[2].1 = ENABLED | INSERTED;
            assert!(block.has(&mut device, 4));
            block.greet(&mut device, 4);
            assert_eq!(device.places, [(0, 1), (1, 1), (4, ENABLED)]);
        }
    }

    #[test]
    fn one_that_has_come_before_it_was_looked_for_does_not_hide_the_first() {
        let mut device = Device::new(0xaf00, &[(0, 1), (1, ENABLED | INSERTED)]);
        let block = Block::find(&mut device, 0xafe0).unwrap();
        assert!(block.has(&mut device, 0) && block.has(&mut device, 1));
    }

    #[test]
    fn a_machine_that_is_not_qemu_has_none() {
        let mut device = Device::new(0xaf00, &[(0, 1)]);
        assert_eq!(Block::find(&mut device, 0x420), None, "another chipset");
        assert_eq!(Block::find(&mut device, 0x620), None, "nothing at the other chipset's port");
        device.signature = b"BXVM";
        assert_eq!(Block::find(&mut device, 0xafe0), None);
        let mut silent = Device { signature: b"QEMU", ..Device::new(0x100, &[]) };
        assert_eq!(Block::find(&mut silent, 0xafe0), None, "no block");
    }

    #[test]
    fn a_block_without_numbers_has_nobody() {
        /// It knows the first commands alone.
        struct Old(Device);
        impl Ports for Old {
            fn read8(&mut self, port: u16) -> u8 {
                self.0.read8(port)
            }
            fn read32(&mut self, port: u16) -> u32 {
                if port == 0xaf08 { 0 } else { self.0.read32(port) }
            }
            fn write8(&mut self, port: u16, value: u8) {
                self.0.write8(port, value);
            }
            fn write16(&mut self, port: u16, value: u16) {
                self.0.write16(port, value);
            }
            fn write32(&mut self, port: u16, value: u32) {
                self.0.write32(port, value);
            }
        }
        let mut old = Old(Device::new(0xaf00, &[(0, 1), (1, 1), (2, 0)]));
        let block = Block::find(&mut old, 0xafe0).unwrap();
        assert!(!block.knows(&mut old, 2) && !block.has(&mut old, 1));
    }
}
