//! How a run of the whole machine ends, as the hypervisor says it and as toolstack and tests read it.
//!
//! The last line on the first serial port is always `atoll: exit N NAME`. Where the machine has a device for it the
//! number reaches the emulator's exit status too; Bochs has none that carries a value, so the line is what counts.

/// What precedes the number in the line that ends a run.
pub const EXIT_LINE: &str = "atoll: exit ";

macro_rules! exit_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $label:literal, $remedy:literal;)*) => {
        /// Why the machine stopped.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum ExitCode { $($(#[$doc])* $name = $code,)* }

        impl ExitCode {
            /// Every code, in ascending order.
            pub const ALL: &'static [ExitCode] = &[$(ExitCode::$name,)*];

            /// The code with this number.
            pub const fn from_u8(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The name used on the serial line and in JSON.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What a person can do about it; empty where nothing is wrong.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

exit_codes! {
    /// Domain 0 asked for power-off.
    Success = 0x10, "success", "";
    /// A test inside the machine failed.
    TestFailed = 0x11, "test-failed", "read the serial log above the exit line";
    /// The hypervisor met a bug of its own.
    Panic = 0x20, "panic", "this is a bug in Atoll: report it with the serial log";
    /// The loader handed over something unusable: no memory map, no module, no ACPI tables.
    BadBoot = 0x21, "bad-boot", "boot through GRUB's multiboot2 or QEMU's -kernel, with the boot archive as module";
    /// The processor has no VMX.
    NoVmx = 0x30, "no-vmx", "use a machine with Intel VT-x: --machine bochs needs nothing of the host; under KVM load kvm_intel with nested=1 and give QEMU -cpu host";
    /// Firmware locked VMX off (IA32_FEATURE_CONTROL).
    VmxLocked = 0x31, "vmx-locked", "turn on Intel Virtualization Technology (VT-x) in the firmware's set-up, then power-cycle";
    /// VMX without EPT, or EPT without what Atoll needs of it.
    NoEpt = 0x32, "no-ept", "Atoll needs extended page tables: Intel Nehalem or later; under KVM load kvm_intel with ept=1";
    /// VMX without unrestricted guest.
    NoUnrestrictedGuest = 0x33, "no-unrestricted-guest", "Atoll needs unrestricted guest: Intel Westmere or later; under KVM load kvm_intel with unrestricted_guest=1";
    /// VMX lacks some other control that Atoll cannot do without; the serial line above names it.
    MissingControl = 0x34, "missing-control", "the serial log names the VMX control this processor or outer hypervisor lacks";
    /// Domain 0 died, and with it the control of the machine.
    ControlDomainLost = 0x40, "control-domain-lost", "this is a bug in Atoll's control domain: report it with the serial log";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_agree() {
        for &code in ExitCode::ALL {
            assert_eq!(ExitCode::from_u8(code as u8), Some(code));
        }
        assert_eq!(ExitCode::from_u8(0), None);
    }
}
