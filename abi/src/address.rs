//! Address kinds as types: a host frame never passes for a guest's, nor a virtual address for a physical one.
//!
//! There is no `From` between kinds. Only a page table turns one kind into another, and each place that does so
//! says which table it walked.

use core::fmt;

/// Bytes in the base page of x86 (4 KiB).
pub const PAGE_SIZE: u64 = 4096;

macro_rules! address_kind {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this bit pattern.
            pub const fn new(address: u64) -> Self {
                Self(address)
            }

            /// The bit pattern.
            pub const fn as_u64(self) -> u64 {
                self.0
            }

            /// The address `bytes` further on; `None` past the end of the address space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The distance in bytes from `base` to here; `None` where `base` lies above.
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            /// The start of the `size`-byte page this address lies in. `size` is a power of two.
            pub const fn align_down(self, size: u64) -> Self {
                Self(self.0 & !(size - 1))
            }

            /// Whether the address is a multiple of `size`, a power of two.
            pub const fn is_aligned(self, size: u64) -> bool {
                self.0 & (size - 1) == 0
            }

            /// The bytes between this address and the start of its `size`-byte page.
            pub const fn page_offset(self, size: u64) -> u64 {
                self.0 & (size - 1)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address_kind!(
    /// An address as the guest's page tables produce it: input to EPT.
    GuestPhys
);
address_kind!(
    /// An address as a guest's instruction uses it: input to the guest's own page tables.
    GuestVirt
);
address_kind!(
    /// An address on the machine's bus.
    HostPhys
);
address_kind!(
    /// An address as the hypervisor's own instructions use it.
    HostVirt
);

/// A number of 4 KiB pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct PageCount(u64);

impl PageCount {
    /// This many pages.
    pub const fn new(pages: u64) -> Self {
        Self(pages)
    }

    /// The pages in `mib` mebibytes.
    pub const fn from_mib(mib: u32) -> Self {
        Self(mib as u64 * 256)
    }

    /// The pages that hold `bytes` bytes, the last one perhaps in part.
    pub const fn covering(bytes: u64) -> Self {
        Self(bytes.div_ceil(PAGE_SIZE))
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Their size in bytes; `None` where that does not fit.
    pub const fn checked_bytes(self) -> Option<u64> {
        self.0.checked_mul(PAGE_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_checked() {
        assert_eq!(GuestPhys::new(u64::MAX).checked_add(1), None);
        assert_eq!(GuestPhys::new(5).offset_from(GuestPhys::new(6)), None);
        assert_eq!(PageCount::new(u64::MAX).checked_bytes(), None);
        assert_eq!(PageCount::covering(4097), PageCount::new(2));
    }

    #[test]
    fn alignment() {
        let address = HostPhys::new(0x20_1fff);
        assert_eq!(address.align_down(PAGE_SIZE), HostPhys::new(0x20_1000));
        assert_eq!(address.page_offset(1 << 21), 0x1fff);
        assert!(HostPhys::new(1 << 30).is_aligned(1 << 30));
    }
}
