//! Events that a VM entry delivers to the guest (SDM 3C, "VM-Entry Controls for Event Injection").

/// An exception to inject.
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

impl Injection {
    /// #GP with error code 0: what an access to a forbidden MSR or control bit raises.
    pub const GENERAL_PROTECTION: Self =
        Self { info: VALID | DELIVER_ERROR_CODE | HARDWARE_EXCEPTION | 13, error_code: 0 };

    /// #UD: what an instruction that is not there raises.
    pub const INVALID_OPCODE: Self = Self { info: VALID | HARDWARE_EXCEPTION | 6, error_code: 0 };
}

/// The event whose delivery a VM exit interrupted, made ready to be delivered again (SDM 3C, "Information for VM Exits
/// That Occur During Event Delivery"). `None` where no delivery was under way.
pub const fn redeliver(vectoring_info: u32, vectoring_error_code: u32) -> Option<Injection> {
    if vectoring_info & VALID == 0 {
        return None;
    }
    // Bit 12 is undefined there and reserved here.
    Some(Injection { info: vectoring_info & !(1 << 12) & 0x8000_0fff, error_code: vectoring_error_code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        assert_eq!(Injection::GENERAL_PROTECTION.info, 0x8000_0b0d);
        assert_eq!(Injection::INVALID_OPCODE.info, 0x8000_0306);
        assert_eq!(redeliver(0x30e, 0), None);
        assert_eq!(redeliver(0x8000_1b0e, 2).unwrap(), Injection { info: 0x8000_0b0e, error_code: 2 });
    }
}
