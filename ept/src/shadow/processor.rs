//! With which registers a guest runs on its shadow.
//!
//! Without EPT the processor uses the guest's own CR0, CR4 and IA32_EFER to read the tables at CR3, and these are the
//! shadow. So the guest really runs with the following, while its reads see what it wrote (read shadows for CR0 and
//! CR4, an exit for IA32_EFER).
//!
//! | the guest believes in  | it runs with                                | root                       |
//! |------------------------|---------------------------------------------|----------------------------|
//! | 4-level paging         | 4-level paging, "IA-32e mode guest" set     | a PML4, one for each CR3   |
//! | PAE paging             | PAE paging                                  | the low root: four entries |
//! | 32-bit paging          | PAE paging; one table becomes two or four   | the low root               |
//! | protected mode, no paging | PAE paging of identity                   | the low root               |
//! | real mode              | *cannot*: see below                         |                            |
//!
//! In all of them CR0.WP is set, whatever the guest says: read-only entries are how tables are protected and dirty flags
//! found. IA32_EFER.NXE is set. CR4.PSE is of no effect. Without paging SMEP, SMAP and protection keys are off, since
//! identity entries are user ones.
//!
//! VMX without EPT demands CR0.PE and CR0.PG ("unrestricted guest" demands EPT: SDM 3C, "Checks on VMX Controls"), so
//! real mode would have to be emulated, or run as virtual-8086 mode. Neither is done here. A guest with shadow paging
//! therefore starts in protected or long mode: Linux by its 64-bit boot protocol at `startup_64`, on identity tables
//! that the builder makes. And since a further processor starts in real mode (SIPI), it has one virtual CPU.

use crate::guest_walk::{Mode, Paging};

/// CR0.PE, WP and PG.
const CR0_SET: u64 = 1 | 1 << 16 | 1 << 31;
/// CR4.PAE.
const CR4_SET: u64 = 1 << 5;
/// CR4.LA57, PCIDE, CET and PKS: hidden from such a guest.
const CR4_HIDDEN: u64 = 1 << 12 | 1 << 17 | 1 << 23 | 1 << 24;
/// CR4.SMEP, SMAP and PKE.
const CR4_WITH_PAGING: u64 = 1 << 20 | 1 << 21 | 1 << 22;
/// IA32_EFER.LME and LMA.
const EFER_LONG: u64 = 1 << 8 | 1 << 10;
/// IA32_EFER.NXE.
const EFER_SET: u64 = 1 << 11;

/// What the guest's registers really hold. Bits that VMX fixes besides (CR0.NE, CR4.VMXE) are the caller's to add.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Processor {
    /// Guest CR0.
    pub cr0: u64,
    /// Guest CR4.
    pub cr4: u64,
    /// Guest IA32_EFER.
    pub efer: u64,
    /// The VM-entry control "IA-32e mode guest".
    pub long_mode: bool,
}

impl Processor {
    /// Bits of CR0 to own (guest/host mask): writes exit, reads see the read shadow. PE, WP, PG.
    pub const CR0_OWNED: u64 = CR0_SET;
    /// Bits of CR4 to own: all that paging depends on. PSE, PAE, PGE, LA57, PCIDE, SMEP, SMAP, PKE, CET, PKS.
    pub const CR4_OWNED: u64 = CR4_SET | CR4_HIDDEN | CR4_WITH_PAGING | 1 << 4 | 1 << 7;

    /// How to run a guest that believes in `paging`. `None`: in real mode, which has no shadow.
    pub const fn for_guest(paging: &Paging) -> Option<Self> {
        if paging.cr0 & 1 == 0 {
            return None;
        }
        let mode = paging.mode();
        let hidden = if matches!(mode, Mode::Off) { CR4_HIDDEN | CR4_WITH_PAGING } else { CR4_HIDDEN };
        let long_mode = matches!(mode, Mode::FourLevel);
        let long = if long_mode { EFER_LONG } else { 0 };
        Some(Self {
            cr0: paging.cr0 | CR0_SET,
            cr4: paging.cr4 & !hidden | CR4_SET,
            efer: paging.efer & !EFER_LONG | long | EFER_SET,
            long_mode,
        })
    }
}
