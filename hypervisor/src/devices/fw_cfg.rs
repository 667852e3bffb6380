//! fw_cfg, by which firmware asks an emulated board what it is (QEMU's specification "QEMU Firmware Configuration
//! (fw_cfg) Device"): a selector of 16 bits, a port that gives one byte after the other of what is selected, and a
//! directory of named files. No DMA, and nothing can be written.
//!
//! All bytes lie in one store of a fixed size; what is offered is put there before the guest starts.

#[cfg(test)]
mod tests;

use heapless::Vec;

/// Selects, by 16 bits.
pub const SELECTOR: u16 = 0x510;
/// Gives the next byte.
pub const DATA: u16 = 0x511;

/// Items that have a number and no name.
pub mod key {
    /// "QEMU".
    pub const SIGNATURE: u16 = 0x00;
    /// What the interface can do: bit 0, this; bit 1, DMA.
    pub const ID: u16 = 0x01;
    /// Bytes of memory.
    pub const RAM_SIZE: u16 = 0x03;
    /// Processors at the start.
    pub const NB_CPUS: u16 = 0x05;
    /// Processors there may ever be: the numbers that their APIC ids are below of.
    pub const MAX_CPUS: u16 = 0x0f;
    /// The directory of files.
    pub const FILE_DIRECTORY: u16 = 0x19;
    /// The first file.
    pub const FIRST_FILE: u16 = 0x20;
    /// x86: whether the timer's interrupt is at the I/O APIC's input 2.
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
}

/// Bytes of a file's name, its end included.
const NAME: usize = 56;
/// Bytes of a directory entry: size and selector with their highest bytes first, two that are reserved, the name.
const ENTRY: usize = 8 + NAME;
/// How many items there may be.
const ITEMS: usize = 16;
/// Bytes of all items.
const STORE: usize = 4 << 10;

/// Something that can be selected.
#[derive(Clone, Copy, Debug)]
struct Item {
    key: u16,
    /// All zeroes: none.
    name: [u8; NAME],
    start: u16,
    bytes: u16,
}

/// There is no room for it, or its name is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The device.
#[derive(Clone, Debug)]
pub struct FwCfg {
    items: Vec<Item, ITEMS>,
    store: Vec<u8, STORE>,
    selected: u16,
    offset: usize,
}

impl FwCfg {
    /// Nothing to tell.
    pub const fn new() -> Self {
        Self { items: Vec::new(), store: Vec::new(), selected: 0, offset: 0 }
    }

    /// Says who it is, and what all firmware asks for.
    /// `apic_ids`: above the highest that a processor has.
    pub fn describe(&mut self, memory_bytes: u64, processors: u16, apic_ids: u16) -> Result<(), Full> {
        self.add(key::SIGNATURE, b"QEMU")?;
        self.add(key::ID, &1u32.to_le_bytes())?;
        self.add(key::RAM_SIZE, &memory_bytes.to_le_bytes())?;
        self.add(key::NB_CPUS, &processors.to_le_bytes())?;
        self.add(key::MAX_CPUS, &apic_ids.to_le_bytes())?;
        self.add(key::IRQ0_OVERRIDE, &[1])
    }

    /// Offers an item.
    pub fn add(&mut self, key: u16, bytes: &[u8]) -> Result<(), Full> {
        self.put(key, [0; NAME], bytes)
    }

    /// Offers a file, such as `etc/e820`. Its name is of 55 bytes at most, and not empty.
    pub fn add_file(&mut self, file: &str, bytes: &[u8]) -> Result<(), Full> {
        let mut name = [0; NAME];
        if file.is_empty() || file.len() >= NAME {
            return Err(Full);
        }
        name[..file.len()].copy_from_slice(file.as_bytes());
        self.put(key::FIRST_FILE + self.files().count() as u16, name, bytes)
    }

    /// Offers `etc/e820`: address, length and type of each range of memory; type 1 is memory, 2 is reserved.
    pub fn add_memory_map(&mut self, ranges: &[(u64, u64, u32)]) -> Result<(), Full> {
        const RANGES: usize = 16;
        let mut bytes: Vec<u8, { RANGES * 20 }> = Vec::new();
        for (address, length, kind) in ranges {
            for part in [&address.to_le_bytes()[..], &length.to_le_bytes(), &kind.to_le_bytes()] {
                bytes.extend_from_slice(part).map_err(|_| Full)?;
            }
        }
        self.add_file("etc/e820", &bytes)
    }

    fn put(&mut self, key: u16, name: [u8; NAME], bytes: &[u8]) -> Result<(), Full> {
        let start = self.store.len();
        if self.items.is_full() || bytes.len() > STORE - start {
            return Err(Full);
        }
        // There is room, by the lines above.
        let _ = self.store.extend_from_slice(bytes);
        let _ = self.items.push(Item { key, name, start: start as u16, bytes: bytes.len() as u16 });
        Ok(())
    }

    fn files(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.name[0] != 0)
    }

    /// Writes the selector; the first byte of what it selects is next.
    pub const fn select(&mut self, key: u16) {
        self.selected = key;
        self.offset = 0;
    }

    /// Reads the data port. What is not there reads as zeroes, and so does the end of what is.
    pub fn read(&mut self) -> u8 {
        let byte = if self.selected == key::FILE_DIRECTORY {
            self.directory(self.offset)
        } else {
            let item = self.items.iter().find(|item| item.key == self.selected);
            item.filter(|item| self.offset < usize::from(item.bytes))
                .and_then(|item| self.store.get(usize::from(item.start) + self.offset).copied())
        };
        self.offset = self.offset.saturating_add(1);
        byte.unwrap_or(0)
    }

    /// A byte of the directory: how many files, with the highest byte first, then an entry for each.
    fn directory(&self, offset: usize) -> Option<u8> {
        const COUNT: usize = 4;
        let Some(offset) = offset.checked_sub(COUNT) else {
            return (self.files().count() as u32).to_be_bytes().get(offset).copied();
        };
        let item = self.files().nth(offset / ENTRY)?;
        match offset % ENTRY {
            at @ 0..4 => u32::from(item.bytes).to_be_bytes().get(at).copied(),
            at @ 4..6 => item.key.to_be_bytes().get(at - 4).copied(),
            6 | 7 => None,
            at => item.name.get(at - 8).copied(),
        }
    }
}

impl Default for FwCfg {
    fn default() -> Self {
        Self::new()
    }
}
