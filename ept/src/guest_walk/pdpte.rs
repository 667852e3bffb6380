//! The four PDPTE registers of PAE paging.

use core::fmt;

use abi::address::GuestPhys;

use super::entry::PRESENT;
use super::memory::{EntryWidth, GuestTables};
use super::registers::Features;

/// Why a load of CR3 (or of CR0 and CR4, where it turns PAE paging on) faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PdpteError {
    /// A present entry has a reserved bit set: #GP(0), and no register changes.
    Reserved,
    /// There is no memory at this address.
    OutsideMemory(GuestPhys),
}

impl fmt::Display for PdpteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved => f.write_str("a reserved bit is set in a PDPTE"),
            Self::OutsideMemory(at) => write!(f, "the PDPTEs at {at} are outside of memory"),
        }
    }
}

impl core::error::Error for PdpteError {}

/// What the PDPTE registers become by a load of `cr3` under PAE paging (SDM 3A, "PDPTE Registers").
pub fn load_pdptes<T: GuestTables>(tables: &T, cr3: u64, features: Features) -> Result<[u64; 4], PdpteError> {
    /// Bits 2:1 and 8:5.
    const ALWAYS_RESERVED: u64 = 0x1e6;
    let beyond = u64::MAX << features.address_bits.min(52);
    let base = cr3 & 0xffff_ffe0;
    let mut loaded = [0; 4];
    for (index, register) in (0..).zip(&mut loaded) {
        let at = GuestPhys::new(base + index * 8);
        let entry = tables.read(at, EntryWidth::Eight).ok_or(PdpteError::OutsideMemory(at))?;
        if entry & PRESENT != 0 && entry & (ALWAYS_RESERVED | beyond) != 0 {
            return Err(PdpteError::Reserved);
        }
        *register = entry;
    }
    Ok(loaded)
}
