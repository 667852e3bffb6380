//! Events that a VM entry delivers to the guest (SDM 3C, "VM-Entry Controls for Event Injection").

use crate::exit::Interruption;

/// An exception, an NMI or an interrupt to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// VM-entry interruption-information field.
    pub info: u32,
    /// VM-entry exception error code, where the information says that one is delivered.
    pub error_code: u32,
}

const VALID: u32 = 1 << 31;
const DELIVER_ERROR_CODE: u32 = 1 << 11;
const HARDWARE_EXCEPTION: u32 = 3 << 8;
const NON_MASKABLE: u32 = 2 << 8;

impl Injection {
    /// #GP with error code 0: what an access to a forbidden MSR or control bit raises.
    pub const GENERAL_PROTECTION: Self =
        Self { info: VALID | DELIVER_ERROR_CODE | HARDWARE_EXCEPTION | 13, error_code: 0 };

    /// #SS with error code 0: what an access outside of the stack's segment raises.
    pub const STACK_FAULT: Self =
        Self { info: VALID | DELIVER_ERROR_CODE | HARDWARE_EXCEPTION | 12, error_code: 0 };

    /// #PF with this error code.
    pub const fn page_fault(error_code: u32) -> Self {
        Self { info: VALID | DELIVER_ERROR_CODE | HARDWARE_EXCEPTION | 14, error_code }
    }

    /// #DF: what an exception in the delivery of another one may become.
    pub const DOUBLE_FAULT: Self =
        Self { info: VALID | DELIVER_ERROR_CODE | HARDWARE_EXCEPTION | 8, error_code: 0 };

    /// #UD: what an instruction that is not there raises.
    pub const INVALID_OPCODE: Self = Self { info: VALID | HARDWARE_EXCEPTION | 6, error_code: 0 };

    /// An NMI of the guest's own.
    pub const NMI: Self = Self { info: VALID | NON_MASKABLE | 2, error_code: 0 };

    /// An interrupt from outside the processor.
    pub const fn external(vector: u8) -> Self {
        Self { info: VALID | vector as u32, error_code: 0 }
    }

    /// Whether the next VM entry injects something, by its interruption-information field.
    pub const fn is_under_way(info: u32) -> bool {
        info & VALID != 0
    }

    /// An exception that exited, as it was.
    pub const fn again(exception: Interruption, error_code: u32) -> Self {
        // Bit 12 tells of NMI blocking by IRET there, and is reserved here.
        Self { info: exception.0 & 0x8000_0fff, error_code }
    }

    /// The same in real mode, where exceptions have no error code: a VM entry that would deliver one there fails.
    pub const fn without_error_code(self) -> Self {
        Self { info: self.info & !DELIVER_ERROR_CODE, error_code: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        assert_eq!(Injection::GENERAL_PROTECTION.info, 0x8000_0b0d);
        assert_eq!(Injection::STACK_FAULT.info, 0x8000_0b0c);
        assert_eq!(Injection::INVALID_OPCODE.info, 0x8000_0306);
        assert_eq!(Injection::NMI.info, 0x8000_0202);
        assert_eq!(Injection::page_fault(2), Injection { info: 0x8000_0b0e, error_code: 2 });
        assert_eq!(Injection::DOUBLE_FAULT.info, 0x8000_0b08);
        assert_eq!(Injection::external(0x31).info, 0x8000_0031);
        assert!(Injection::is_under_way(Injection::NMI.info) && !Injection::is_under_way(0x0000_00f3));
        assert_eq!(Injection::again(Interruption(0x8000_1b11), 0).info, 0x8000_0b11);
        assert_eq!(Injection::GENERAL_PROTECTION.without_error_code().info, 0x8000_030d);
    }
}
