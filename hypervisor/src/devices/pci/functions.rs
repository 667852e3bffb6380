//! The functions of bus 0: what their registers are after reset, and what of them can be written.

/// A function.
#[derive(Debug)]
pub struct Function {
    /// Bus, device and function, as the address has them.
    pub slot: u16,
    /// Registers that are not 0 after reset.
    pub reset: &'static [(u8, u32)],
    /// Bits that can be written, by register.
    writable: &'static [(u8, u32)],
}

impl Function {
    /// The bits of this register that can be written.
    pub fn writable(&self, register: u8) -> u32 {
        self.writable.iter().find(|(at, _)| *at == register).map_or(0, |(_, bits)| *bits)
    }
}

const fn slot(device: u16, function: u16) -> u16 {
    device << 3 | function
}

/// Identification.
const ID: u8 = 0x00;
/// Command, and status above it.
const COMMAND: u8 = 0x04;
/// Revision, and class above it.
const CLASS: u8 = 0x08;
/// Header type in bits 16 to 23.
const HEADER: u8 = 0x0c;
const SUBSYSTEM: u8 = 0x2c;
/// Interrupt line and pin.
const INTERRUPT: u8 = 0x3c;
const LATENCY_TIMER: u32 = 0xff00;
const MULTIFUNCTION: u32 = 1 << 23;
/// Subsystem by which firmware and kernels know an emulated board, where they look for fw_cfg.
const EMULATED: u32 = 0x1100_1af4;

/// The power-management function, its block's base address, and whether that is decoded.
pub const POWER: usize = 3;
pub const POWER_BASE: u8 = 0x40;
pub const POWER_ENABLE: u8 = 0x80;

pub const COUNT: usize = 4;

pub const FUNCTIONS: [Function; COUNT] = [
    // 82441FX, the host bridge. Its programmable attribute map is kept and has no effect: memory below 1 MiB is memory.
    // After reset the map says that it is not, and so firmware copies itself there, whole, from the end of 4 GiB.
    Function {
        slot: slot(0, 0),
        reset: &[
            (ID, 0x1237_8086),
            (COMMAND, 0x0280_0006),
            (CLASS, 0x0600_0002),
            (SUBSYSTEM, EMULATED),
            (0x70, 0x0002_0000),
        ],
        writable: &[
            (COMMAND, 0x0100),
            (HEADER, LATENCY_TIMER),
            (0x58, 0xffff_ff00),
            (0x5c, 0xffff_ffff),
            (0x70, 0x0070_0000),
        ],
    },
    // 82371SB function 0, the ISA bridge. What it would route are interrupts of PCI slots, which are empty.
    Function {
        slot: slot(1, 0),
        reset: &[
            (ID, 0x7000_8086),
            (COMMAND, 0x0200_0007),
            (CLASS, 0x0601_0000),
            (HEADER, MULTIFUNCTION),
            (SUBSYSTEM, EMULATED),
            (0x4c, 0x0003_004d),
            (0x60, 0x8080_8080),
        ],
        writable: &[(0x4c, 0x00ff_00ff), (0x60, 0x8f8f_8f8f), (0x80, 0x00ff_0000)],
    },
    // 82371SB function 1, IDE: both channels where ISA has them, and no bus master, so no base address for one.
    Function {
        slot: slot(1, 1),
        reset: &[
            (ID, 0x7010_8086),
            (COMMAND, 0x0280_0001),
            (CLASS, 0x0101_0000),
            (SUBSYSTEM, EMULATED),
            (0x40, 0x8000_8000),
        ],
        writable: &[(COMMAND, 0x0005), (HEADER, LATENCY_TIMER), (INTERRUPT, 0xff), (0x40, 0xf3ff_f3ff)],
    },
    // 82371AB function 3, power management: the block of `pm`, where firmware may move it, and system management interrupts
    // set up already, so that firmware leaves them alone.
    Function {
        slot: slot(1, 3),
        reset: &[
            (ID, 0x7113_8086),
            (COMMAND, 0x0280_0001),
            (CLASS, 0x0680_0003),
            (SUBSYSTEM, EMULATED),
            (INTERRUPT, 0x0109),
            (POWER_BASE, super::super::pm::EVENT as u32 | 1),
            (0x58, 1 << 25),
            (POWER_ENABLE, 1),
        ],
        writable: &[(COMMAND, 0x0001), (INTERRUPT, 0xff), (POWER_BASE, 0xffc0), (POWER_ENABLE, 1)],
    },
];
