//! What EPT and VPID can do on this processor, from the MSR IA32_VMX_EPT_VPID_CAP.

use bitflags::bitflags;

use crate::level::PageSize;
use crate::table::Settings;

bitflags! {
    /// The MSR IA32_VMX_EPT_VPID_CAP, number 0x48c (SDM 3D, "VPID and EPT Capabilities"). Bits without a name here are
    /// kept. The MSR exists only where the secondary controls allow EPT or VPID; without either, use `empty()`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Capabilities: u64 {
        /// Pages may be executable without being readable.
        const EXECUTE_ONLY = 1 << 0;
        /// The walk may have four levels.
        const WALK_LENGTH_4 = 1 << 6;
        /// Tables may be read uncached.
        const TABLES_UNCACHEABLE = 1 << 8;
        /// Tables may be read write-back.
        const TABLES_WRITE_BACK = 1 << 14;
        /// An EPT PDE may map 2 MiB.
        const PAGES_2_MIB = 1 << 16;
        /// An EPT PDPTE may map 1 GiB.
        const PAGES_1_GIB = 1 << 17;
        /// The instruction INVEPT exists.
        const INVEPT = 1 << 20;
        /// The processor can keep accessed and dirty flags.
        const ACCESSED_DIRTY = 1 << 21;
        /// EPT violations report more of the linear address.
        const ADVANCED_VIOLATION_INFORMATION = 1 << 22;
        /// INVEPT can drop one EPTP's translations.
        const INVEPT_SINGLE_CONTEXT = 1 << 25;
        /// INVEPT can drop those of all EPTPs.
        const INVEPT_ALL_CONTEXT = 1 << 26;
        /// The instruction INVVPID exists.
        const INVVPID = 1 << 32;
        /// INVVPID can drop one linear address.
        const INVVPID_INDIVIDUAL_ADDRESS = 1 << 40;
        /// INVVPID can drop one VPID's translations.
        const INVVPID_SINGLE_CONTEXT = 1 << 41;
        /// INVVPID can drop those of all VPIDs but 0.
        const INVVPID_ALL_CONTEXT = 1 << 42;
        /// INVVPID can drop one VPID's translations except global ones.
        const INVVPID_SINGLE_CONTEXT_RETAINING_GLOBALS = 1 << 43;
    }
}

impl Capabilities {
    /// The capabilities that this value of the MSR stands for.
    pub const fn from_msr(value: u64) -> Self {
        Self::from_bits_retain(value)
    }

    /// The first thing Atoll cannot do without and this processor lacks, in words for a person; `None` if it has all.
    pub fn missing(self) -> Option<&'static str> {
        let required = [
            (Self::WALK_LENGTH_4, "EPT with a page walk of four levels"),
            (Self::TABLES_WRITE_BACK, "EPT tables in write-back memory"),
            (Self::INVEPT, "the instruction INVEPT"),
        ];
        let lacking = required.into_iter().find(|(flag, _)| !self.contains(*flag)).map(|(_, words)| words);
        let invept = self.intersects(Self::INVEPT_SINGLE_CONTEXT | Self::INVEPT_ALL_CONTEXT);
        lacking.or((!invept).then_some("an INVEPT that drops one or all contexts"))
    }

    /// The largest page that may be mapped.
    pub const fn largest_page(self) -> PageSize {
        match (self.contains(Self::PAGES_2_MIB), self.contains(Self::PAGES_1_GIB)) {
            (true, true) => PageSize::Size1GiB,
            (true, false) => PageSize::Size2MiB,
            // 1 GiB pages alone would be of no use: they could not be split.
            (false, _) => PageSize::Size4KiB,
        }
    }

    /// The INVEPT type to use after a change of one table set: single-context (1) where there is one, else
    /// all-context (2).
    pub const fn invept_type(self) -> u64 {
        if self.contains(Self::INVEPT_SINGLE_CONTEXT) { 1 } else { 2 }
    }

    /// The INVVPID type to use for one virtual CPU: single-context (1) where there is one, else all-context (2);
    /// `None` where neither exists and VPIDs had better stay off.
    pub const fn invvpid_type(self) -> Option<u64> {
        if !self.contains(Self::INVVPID) {
            None
        } else if self.contains(Self::INVVPID_SINGLE_CONTEXT) {
            Some(1)
        } else if self.contains(Self::INVVPID_ALL_CONTEXT) {
            Some(2)
        } else {
            None
        }
    }

    /// Whether INVVPID can drop the translations of one linear address (type 0, individual-address).
    pub const fn invvpid_addresses(self) -> bool {
        self.contains(Self::INVVPID.union(Self::INVVPID_INDIVIDUAL_ADDRESS))
    }

    /// The best settings for tables on this processor, whose physical addresses have `host_address_bits` bits.
    /// Accessed and dirty flags are left off: they cost the guest's page walks a write each, and nothing reads them
    /// yet unless the caller turns them on.
    pub const fn settings(self, host_address_bits: u8) -> Settings {
        Settings {
            largest_page: self.largest_page(),
            execute_only: self.contains(Self::EXECUTE_ONLY),
            accessed_dirty: false,
            host_address_bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Bochs 2.7 reports.
    const BOCHS: Capabilities = Capabilities::from_msr(0xf01_0633_4141);

    #[test]
    fn bochs_has_everything_but_the_advanced_information() {
        assert_eq!(BOCHS, Capabilities::all().difference(Capabilities::ADVANCED_VIOLATION_INFORMATION));
        assert_eq!(BOCHS.missing(), None);
        assert_eq!((BOCHS.invept_type(), BOCHS.invvpid_type()), (1, Some(1)));
        let settings = BOCHS.settings(40);
        assert_eq!(settings.largest_page, PageSize::Size1GiB);
        assert!(settings.execute_only && !settings.accessed_dirty);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Capabilities::empty().missing(), Some("EPT with a page walk of four levels"));
        let lacking = |flags| BOCHS.difference(flags).missing();
        assert_eq!(lacking(Capabilities::TABLES_WRITE_BACK), Some("EPT tables in write-back memory"));
        assert_eq!(lacking(Capabilities::INVEPT), Some("the instruction INVEPT"));
        assert_eq!(lacking(Capabilities::INVEPT_SINGLE_CONTEXT), None);
        let both = Capabilities::INVEPT_SINGLE_CONTEXT | Capabilities::INVEPT_ALL_CONTEXT;
        assert_eq!(lacking(both), Some("an INVEPT that drops one or all contexts"));
    }

    #[test]
    fn lesser_processors_get_lesser_choices() {
        let lesser = BOCHS.difference(Capabilities::PAGES_2_MIB | Capabilities::INVVPID_SINGLE_CONTEXT);
        assert_eq!(lesser.largest_page(), PageSize::Size4KiB);
        assert_eq!(lesser.invvpid_type(), Some(2));
        assert_eq!(BOCHS.difference(Capabilities::PAGES_1_GIB).largest_page(), PageSize::Size2MiB);
        assert_eq!(BOCHS.difference(Capabilities::INVEPT_SINGLE_CONTEXT).invept_type(), 2);
        assert_eq!(BOCHS.difference(Capabilities::INVVPID).invvpid_type(), None);
        assert_eq!(Capabilities::empty().invvpid_type(), None);
    }
}
