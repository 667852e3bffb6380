//! What the processor reports when a guest touches what its tables do not allow.

use core::fmt;

use bitflags::bitflags;

use crate::entry::Permissions;

bitflags! {
    /// The exit qualification of an EPT violation (SDM 3C, "Exit Qualification for EPT Violations"). Bits without a
    /// name here are kept.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Violation: u64 {
        /// The access was a data read.
        const READ = 1 << 0;
        /// The access was a data write, or, with accessed and dirty flags on, a walk of the guest's page tables.
        const WRITE = 1 << 1;
        /// The access was an instruction fetch.
        const FETCH = 1 << 2;
        /// The tables allow reads there.
        const READABLE = 1 << 3;
        /// The tables allow writes there.
        const WRITABLE = 1 << 4;
        /// The tables allow fetches there.
        const EXECUTABLE = 1 << 5;
        /// The tables allow fetches there in user mode (with mode-based execute control).
        const USER_EXECUTABLE = 1 << 6;
        /// The VMCS field "guest-linear address" holds the address that the guest used.
        const LINEAR_ADDRESS_VALID = 1 << 7;
        /// The linear address was translated and the access was to what it means; clear: the guest's page tables were
        /// being walked. Means something with `LINEAR_ADDRESS_VALID` only.
        const TRANSLATED = 1 << 8;
        /// The linear address is a user-mode one (with advanced information).
        const LINEAR_USER = 1 << 9;
        /// The linear address is writable by the guest's page tables (with advanced information).
        const LINEAR_WRITABLE = 1 << 10;
        /// The linear address is execute-disabled by the guest's page tables (with advanced information).
        const LINEAR_EXECUTE_DISABLED = 1 << 11;
        /// The exit came from an IRET that had ended the blocking of NMIs: re-entry must restore it.
        const NMI_UNBLOCKED_BY_IRET = 1 << 12;
        /// The access was to a shadow stack.
        const SHADOW_STACK = 1 << 13;
        /// The tables allow supervisor shadow-stack accesses there.
        const SUPERVISOR_SHADOW_STACK = 1 << 14;
        /// Guest-paging verification failed.
        const GUEST_PAGING_VERIFICATION = 1 << 15;
        /// The access did not belong to an instruction (trace output, for example).
        const ASYNCHRONOUS = 1 << 16;
    }
}

impl Violation {
    /// The violation that this exit qualification describes.
    pub const fn from_qualification(qualification: u64) -> Self {
        Self::from_bits_retain(qualification)
    }

    /// What the guest tried: one bit as a rule, more where one access both reads and writes.
    pub const fn attempted(self) -> Permissions {
        Permissions::from_bits_truncate(self.bits() as u8)
    }

    /// What the tables allow at that address; empty where nothing is mapped.
    pub const fn allowed(self) -> Permissions {
        Permissions::from_bits_truncate((self.bits() >> 3) as u8)
    }

    /// Whether the address is mapped at all.
    pub const fn is_mapped(self) -> bool {
        !self.allowed().is_empty()
    }

    /// Whether the guest's page tables, not the data, are what could not be reached.
    pub const fn in_page_walk(self) -> bool {
        self.contains(Self::LINEAR_ADDRESS_VALID) && !self.contains(Self::TRANSLATED)
    }
}

/// One line for a crash record, such as `write, mapped r-x` or `fetch, not mapped, in page walk`.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (flag, word) in [(Self::READ, "read"), (Self::WRITE, "write"), (Self::FETCH, "fetch")] {
            if self.contains(flag) {
                write!(f, "{separator}{word}")?;
                separator = "+";
            }
        }
        if separator.is_empty() {
            f.write_str("access")?;
        }
        if self.is_mapped() {
            let letter = |flag, letter| if self.contains(flag) { letter } else { '-' };
            let (r, w, x) =
                (letter(Self::READABLE, 'r'), letter(Self::WRITABLE, 'w'), letter(Self::EXECUTABLE, 'x'));
            write!(f, ", mapped {r}{w}{x}")?;
        } else {
            f.write_str(", not mapped")?;
        }
        f.write_str(if self.in_page_walk() { ", in page walk" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;

    #[test]
    fn a_write_to_a_read_only_page() {
        let violation = Violation::from_qualification(0b1_1010_1010);
        assert_eq!(violation.attempted(), Permissions::WRITE);
        assert_eq!(violation.allowed(), Permissions::READ_EXECUTE);
        assert!(violation.is_mapped() && !violation.in_page_walk());
        assert_eq!(violation.to_string(), "write, mapped r-x");
    }

    #[test]
    fn a_walk_through_a_hole() {
        let violation = Violation::from_qualification(0x83);
        assert!(!violation.is_mapped() && violation.in_page_walk());
        assert_eq!(violation.to_string(), "read+write, not mapped, in page walk");
    }

    #[test]
    fn any_bits_can_be_shown() {
        assert_eq!(Violation::from_qualification(0).to_string(), "access, not mapped");
        let all = Violation::from_qualification(u64::MAX);
        assert_eq!(all.to_string(), "read+write+fetch, mapped rwx");
        assert_eq!(all.bits(), u64::MAX);
    }
}
