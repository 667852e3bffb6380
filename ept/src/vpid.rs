//! The tag that keeps a guest's linear translations apart in the processor.

use core::num::NonZeroU16;

use abi::xen::DomId;

/// A virtual-processor identifier (SDM 3C, "Virtual Processor Identifiers (VPIDs)"); 0 is the hypervisor's own.
///
/// A domain has one virtual CPU, pinned to one core, so its VPID follows from its number and there is nothing to
/// allocate. When a number is used again, or a virtual CPU moves to a core where it has run before, INVVPID comes
/// first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vpid(NonZeroU16);

impl Vpid {
    /// The VPID of this domain's virtual CPU; `None` for the one number too large to have any.
    pub const fn for_domain(domain: DomId) -> Option<Self> {
        match domain.checked_add(1) {
            Some(number) => match NonZeroU16::new(number) {
                Some(number) => Some(Self(number)),
                None => None,
            },
            None => None,
        }
    }

    /// The value of the VMCS field.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_have_distinct_nonzero_numbers() {
        assert_eq!(Vpid::for_domain(0).map(Vpid::get), Some(1));
        assert_eq!(Vpid::for_domain(0xfffe).map(Vpid::get), Some(0xffff));
        assert_eq!(Vpid::for_domain(0xffff), None);
    }
}
