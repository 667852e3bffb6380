//! What the guest believes its control registers to be, and the mode of paging that follows.

use super::memory::EntryWidth;

/// CR0.PG.
const PG: u64 = 1 << 31;
/// CR0.WP.
const WP: u64 = 1 << 16;
/// CR4.PSE.
const PSE: u64 = 1 << 4;
/// CR4.PAE.
const PAE: u64 = 1 << 5;
/// CR4.SMEP.
const SMEP: u64 = 1 << 20;
/// CR4.SMAP.
const SMAP: u64 = 1 << 21;
/// CR4.PKE.
const PKE: u64 = 1 << 22;
/// IA32_EFER.LMA.
const LMA: u64 = 1 << 10;
/// IA32_EFER.NXE.
const NXE: u64 = 1 << 11;

/// What CPUID tells the guest of paging.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// MAXPHYADDR: the width of a guest-physical address, 32 to 52. Bits of entries above it are reserved.
    pub address_bits: u8,
    /// 1 GiB pages. Without them bit 7 of a PDPTE is reserved.
    pub gigabyte_pages: bool,
    /// PSE-36: 4 MiB pages may lie above 4 GiB.
    pub pse36: bool,
}

impl Features {
    /// The bits that an address can have.
    pub(crate) const fn address_mask(self) -> u64 {
        let bits = if self.address_bits > 52 { 52 } else { self.address_bits };
        (1u64 << bits) - 1
    }
}

/// A mode of paging.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Mode {
    /// Linear addresses are physical ones.
    Off = 0,
    /// 32-bit paging: 2 levels of 32-bit entries.
    TwoLevel = 1,
    /// PAE paging: four PDPTE registers, then 2 levels.
    Pae = 2,
    /// 4-level paging.
    FourLevel = 3,
}

impl Mode {
    /// How wide this mode's entries are.
    pub const fn width(self) -> EntryWidth {
        match self {
            Self::TwoLevel => EntryWidth::Four,
            _ => EntryWidth::Eight,
        }
    }
}

/// All that a walk depends on besides memory: the registers as the guest sees them, not as it really runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// The PDPTE registers; used by PAE paging alone.
    pub pdptes: [u64; 4],
    /// PKRU.
    pub pkru: u32,
    /// What CPUID says.
    pub features: Features,
}

impl Paging {
    /// The mode that the registers choose.
    pub const fn mode(&self) -> Mode {
        if self.cr0 & PG == 0 {
            Mode::Off
        } else if self.efer & LMA != 0 {
            Mode::FourLevel
        } else if self.cr4 & PAE != 0 {
            Mode::Pae
        } else {
            Mode::TwoLevel
        }
    }

    /// Whether supervisor writes obey the R/W flags.
    pub const fn write_protect(&self) -> bool {
        self.cr0 & WP != 0
    }

    /// The same with CR0.WP set.
    pub(crate) const fn with_write_protect(&self) -> Self {
        Self { cr0: self.cr0 | WP, ..*self }
    }

    pub(crate) const fn page_size_extensions(&self) -> bool {
        self.cr4 & PSE != 0
    }

    pub(crate) const fn smep(&self) -> bool {
        self.cr4 & SMEP != 0
    }

    pub(crate) const fn smap(&self) -> bool {
        self.cr4 & SMAP != 0
    }

    /// Protection keys exist in 4-level paging only.
    pub(crate) const fn protection_keys(&self) -> bool {
        self.cr4 & PKE != 0 && matches!(self.mode(), Mode::FourLevel)
    }

    pub(crate) const fn execute_disable(&self) -> bool {
        self.efer & NXE != 0
    }

    /// Whether page faults on fetches say so in their error codes (SDM 3A, "Page-Fault Exceptions").
    pub(crate) const fn faults_tell_fetches(&self) -> bool {
        self.smep() || self.cr4 & PAE != 0 && self.execute_disable()
    }
}
