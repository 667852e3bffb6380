//! PCI configuration space by configuration mechanism #1 (PCI Local Bus Specification, "Configuration Mechanism"), with
//! what an i440FX board has on bus 0: the host bridge, and the PIIX's functions, as far as kernels and firmware look at
//! them (Intel's 82441FX, 82371SB and 82371AB data sheets). There are no base address registers: everything is where ISA has
//! it, but for the power-management block, which has a register of its own.

mod functions;

#[cfg(test)]
mod tests;

use functions::{COUNT, FUNCTIONS, Function, POWER, POWER_BASE, POWER_ENABLE};

/// Configuration address, a register of 32 bits.
pub const ADDRESS: u16 = 0xcf8;
/// Configuration data, four ports.
pub const DATA: u16 = 0xcfc;

const ENABLED: u32 = 1 << 31;
/// Bits of the address that are kept: enable, bus, device, function, register.
const ADDRESS_BITS: u32 = ENABLED | 0x00ff_fffc;
/// Double words of a function's configuration space.
const WORDS: usize = 64;

/// The bus.
#[derive(Clone, Debug)]
pub struct Pci {
    address: u32,
    /// By function, as in [`FUNCTIONS`].
    space: [[u32; WORDS]; COUNT],
}

impl Pci {
    /// As after reset.
    pub const fn new() -> Self {
        let mut space = [[0; WORDS]; COUNT];
        let mut index = 0;
        while index < COUNT {
            let reset = FUNCTIONS[index].reset;
            let mut at = 0;
            while at < reset.len() {
                space[index][reset[at].0 as usize / 4] = reset[at].1;
                at += 1;
            }
            index += 1;
        }
        Self { address: 0, space }
    }

    /// Reads the address register, by 32 bits.
    pub const fn address(&self) -> u32 {
        self.address
    }

    /// Writes the address register, by 32 bits. Narrower accesses to its ports are not for it.
    pub const fn set_address(&mut self, value: u32) {
        self.address = value & ADDRESS_BITS;
    }

    /// The first port of the power-management block. `None`: it has none now.
    pub fn power_base(&self) -> Option<u16> {
        let register = |at: u8| self.space[POWER][usize::from(at) / 4];
        (register(POWER_ENABLE) & 1 != 0).then_some(register(POWER_BASE) as u16 & 0xffc0)
    }

    /// The function that the address names, and the double word in its space.
    fn selected(&self) -> Option<(usize, &'static Function, usize)> {
        let slot = (self.address >> 8) as u16;
        let index = FUNCTIONS.iter().position(|function| function.slot == slot)?;
        let enabled = self.address & ENABLED != 0;
        enabled.then_some((index, &FUNCTIONS[index], (self.address >> 2) as usize % WORDS))
    }

    /// Reads one of the data ports, CFCh to CFFh: all ones where no function is.
    pub fn read(&self, port: u16) -> u8 {
        let byte = usize::from(port & 3);
        self.selected().map_or(0xff, |(index, _, word)| self.space[index][word].to_le_bytes()[byte])
    }

    /// Writes one of the data ports.
    pub fn write(&mut self, port: u16, value: u8) {
        let Some((index, function, word)) = self.selected() else { return };
        let shift = u32::from(port & 3) * 8;
        let writable = function.writable(word as u8 * 4) & 0xff << shift;
        let register = &mut self.space[index][word];
        *register = *register & !writable | u32::from(value) << shift & writable;
    }
}

impl Default for Pci {
    fn default() -> Self {
        Self::new()
    }
}
