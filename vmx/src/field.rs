//! VMCS fields as types: what is too wide, or only for reading, does not compile (SDM 3D, "Field Encoding in VMCS").

use core::marker::PhantomData;

use x86::vmx::vmcs;

/// A type that is as wide as a VMCS field.
pub trait Width: Copy {
    /// Widened to what VMWRITE takes.
    fn widen(self) -> u64;
    /// Cut from what VMREAD gives; the processor zeroes the upper bits of narrow fields.
    fn narrow(value: u64) -> Self;
}

macro_rules! widths {
    ($($type:ty),*) => {
        $(impl Width for $type {
            #[inline(always)]
            fn widen(self) -> u64 {
                self as u64
            }

            #[inline(always)]
            fn narrow(value: u64) -> Self {
                value as Self
            }
        })*
    };
}

widths!(u16, u32, u64);

/// A field of width `W` that may be read, and written too.
#[derive(Clone, Copy, Debug)]
pub struct Field<W> {
    /// The encoding that VMREAD and VMWRITE take.
    pub encoding: u32,
    width: PhantomData<W>,
}

/// A field that may only be read: exit information.
#[derive(Clone, Copy, Debug)]
pub struct ReadOnly<W> {
    /// The encoding that VMREAD takes.
    pub encoding: u32,
    width: PhantomData<W>,
}

/// Width of an encoding, bits 14:13: 0 = 16 bits, 1 = 64, 2 = 32, 3 = natural.
const fn width_of(encoding: u32) -> u32 {
    encoding >> 13 & 3
}

const fn field<W>(encoding: u32) -> Field<W> {
    assert!(encoding >> 10 & 3 != 1, "an exit-information field is read-only");
    check_width::<W>(encoding);
    Field { encoding, width: PhantomData }
}

const fn read_only<W>(encoding: u32) -> ReadOnly<W> {
    assert!(encoding >> 10 & 3 == 1, "only exit-information fields are read-only");
    check_width::<W>(encoding);
    ReadOnly { encoding, width: PhantomData }
}

const fn check_width<W>(encoding: u32) {
    let bytes = match width_of(encoding) {
        0 => 2,
        2 => 4,
        _ => 8,
    };
    assert!(size_of::<W>() == bytes, "the type is not as wide as the field");
}

macro_rules! fields {
    ($($name:ident: $kind:ident<$width:ty> = $encoding:expr;)*) => {
        $(#[doc = concat!("`", stringify!($encoding), "`")]
        pub const $name: $kind<$width> = fields!(@$kind $encoding);)*
    };
    (@Field $encoding:expr) => { field($encoding) };
    (@ReadOnly $encoding:expr) => { read_only($encoding) };
}

fields! {
    VPID: Field<u16> = vmcs::control::VPID;
    IO_BITMAP_A: Field<u64> = vmcs::control::IO_BITMAP_A_ADDR_FULL;
    IO_BITMAP_B: Field<u64> = vmcs::control::IO_BITMAP_B_ADDR_FULL;
    MSR_BITMAPS: Field<u64> = vmcs::control::MSR_BITMAPS_ADDR_FULL;
    VIRTUAL_APIC_ADDRESS: Field<u64> = vmcs::control::VIRT_APIC_ADDR_FULL;
    APIC_ACCESS_ADDRESS: Field<u64> = vmcs::control::APIC_ACCESS_ADDR_FULL;
    EOI_EXIT_BITMAP_0: Field<u64> = vmcs::control::EOI_EXIT0_FULL;
    EOI_EXIT_BITMAP_1: Field<u64> = vmcs::control::EOI_EXIT1_FULL;
    EOI_EXIT_BITMAP_2: Field<u64> = vmcs::control::EOI_EXIT2_FULL;
    EOI_EXIT_BITMAP_3: Field<u64> = vmcs::control::EOI_EXIT3_FULL;
    TPR_THRESHOLD: Field<u32> = vmcs::control::TPR_THRESHOLD;
    EPT_POINTER: Field<u64> = vmcs::control::EPTP_FULL;
    PIN_BASED_CONTROLS: Field<u32> = vmcs::control::PINBASED_EXEC_CONTROLS;
    PRIMARY_CONTROLS: Field<u32> = vmcs::control::PRIMARY_PROCBASED_EXEC_CONTROLS;
    SECONDARY_CONTROLS: Field<u32> = vmcs::control::SECONDARY_PROCBASED_EXEC_CONTROLS;
    EXCEPTION_BITMAP: Field<u32> = vmcs::control::EXCEPTION_BITMAP;
    PAGE_FAULT_MASK: Field<u32> = vmcs::control::PAGE_FAULT_ERR_CODE_MASK;
    PAGE_FAULT_MATCH: Field<u32> = vmcs::control::PAGE_FAULT_ERR_CODE_MATCH;
    CR3_TARGET_COUNT: Field<u32> = vmcs::control::CR3_TARGET_COUNT;
    EXIT_CONTROLS: Field<u32> = vmcs::control::VMEXIT_CONTROLS;
    EXIT_MSR_STORE_COUNT: Field<u32> = vmcs::control::VMEXIT_MSR_STORE_COUNT;
    EXIT_MSR_LOAD_COUNT: Field<u32> = vmcs::control::VMEXIT_MSR_LOAD_COUNT;
    ENTRY_CONTROLS: Field<u32> = vmcs::control::VMENTRY_CONTROLS;
    ENTRY_MSR_LOAD_COUNT: Field<u32> = vmcs::control::VMENTRY_MSR_LOAD_COUNT;
    ENTRY_INTERRUPTION_INFO: Field<u32> = vmcs::control::VMENTRY_INTERRUPTION_INFO_FIELD;
    ENTRY_EXCEPTION_ERROR_CODE: Field<u32> = vmcs::control::VMENTRY_EXCEPTION_ERR_CODE;
    ENTRY_INSTRUCTION_LENGTH: Field<u32> = vmcs::control::VMENTRY_INSTRUCTION_LEN;
    CR0_GUEST_HOST_MASK: Field<u64> = vmcs::control::CR0_GUEST_HOST_MASK;
    CR4_GUEST_HOST_MASK: Field<u64> = vmcs::control::CR4_GUEST_HOST_MASK;
    CR0_READ_SHADOW: Field<u64> = vmcs::control::CR0_READ_SHADOW;
    CR4_READ_SHADOW: Field<u64> = vmcs::control::CR4_READ_SHADOW;

    GUEST_INTERRUPT_STATUS: Field<u16> = vmcs::guest::INTERRUPT_STATUS;
    GUEST_ES_SELECTOR: Field<u16> = vmcs::guest::ES_SELECTOR;
    GUEST_CS_SELECTOR: Field<u16> = vmcs::guest::CS_SELECTOR;
    GUEST_SS_SELECTOR: Field<u16> = vmcs::guest::SS_SELECTOR;
    GUEST_DS_SELECTOR: Field<u16> = vmcs::guest::DS_SELECTOR;
    GUEST_FS_SELECTOR: Field<u16> = vmcs::guest::FS_SELECTOR;
    GUEST_GS_SELECTOR: Field<u16> = vmcs::guest::GS_SELECTOR;
    GUEST_LDTR_SELECTOR: Field<u16> = vmcs::guest::LDTR_SELECTOR;
    GUEST_TR_SELECTOR: Field<u16> = vmcs::guest::TR_SELECTOR;
    GUEST_ES_LIMIT: Field<u32> = vmcs::guest::ES_LIMIT;
    GUEST_CS_LIMIT: Field<u32> = vmcs::guest::CS_LIMIT;
    GUEST_SS_LIMIT: Field<u32> = vmcs::guest::SS_LIMIT;
    GUEST_DS_LIMIT: Field<u32> = vmcs::guest::DS_LIMIT;
    GUEST_FS_LIMIT: Field<u32> = vmcs::guest::FS_LIMIT;
    GUEST_GS_LIMIT: Field<u32> = vmcs::guest::GS_LIMIT;
    GUEST_LDTR_LIMIT: Field<u32> = vmcs::guest::LDTR_LIMIT;
    GUEST_TR_LIMIT: Field<u32> = vmcs::guest::TR_LIMIT;
    GUEST_GDTR_LIMIT: Field<u32> = vmcs::guest::GDTR_LIMIT;
    GUEST_IDTR_LIMIT: Field<u32> = vmcs::guest::IDTR_LIMIT;
    GUEST_ES_ACCESS_RIGHTS: Field<u32> = vmcs::guest::ES_ACCESS_RIGHTS;
    GUEST_CS_ACCESS_RIGHTS: Field<u32> = vmcs::guest::CS_ACCESS_RIGHTS;
    GUEST_SS_ACCESS_RIGHTS: Field<u32> = vmcs::guest::SS_ACCESS_RIGHTS;
    GUEST_DS_ACCESS_RIGHTS: Field<u32> = vmcs::guest::DS_ACCESS_RIGHTS;
    GUEST_FS_ACCESS_RIGHTS: Field<u32> = vmcs::guest::FS_ACCESS_RIGHTS;
    GUEST_GS_ACCESS_RIGHTS: Field<u32> = vmcs::guest::GS_ACCESS_RIGHTS;
    GUEST_LDTR_ACCESS_RIGHTS: Field<u32> = vmcs::guest::LDTR_ACCESS_RIGHTS;
    GUEST_TR_ACCESS_RIGHTS: Field<u32> = vmcs::guest::TR_ACCESS_RIGHTS;
    GUEST_ES_BASE: Field<u64> = vmcs::guest::ES_BASE;
    GUEST_CS_BASE: Field<u64> = vmcs::guest::CS_BASE;
    GUEST_SS_BASE: Field<u64> = vmcs::guest::SS_BASE;
    GUEST_DS_BASE: Field<u64> = vmcs::guest::DS_BASE;
    GUEST_FS_BASE: Field<u64> = vmcs::guest::FS_BASE;
    GUEST_GS_BASE: Field<u64> = vmcs::guest::GS_BASE;
    GUEST_LDTR_BASE: Field<u64> = vmcs::guest::LDTR_BASE;
    GUEST_TR_BASE: Field<u64> = vmcs::guest::TR_BASE;
    GUEST_GDTR_BASE: Field<u64> = vmcs::guest::GDTR_BASE;
    GUEST_IDTR_BASE: Field<u64> = vmcs::guest::IDTR_BASE;
    GUEST_INTERRUPTIBILITY: Field<u32> = vmcs::guest::INTERRUPTIBILITY_STATE;
    GUEST_ACTIVITY: Field<u32> = vmcs::guest::ACTIVITY_STATE;
    GUEST_VMCS_LINK: Field<u64> = vmcs::guest::LINK_PTR_FULL;
    PREEMPTION_TIMER_VALUE: Field<u32> = vmcs::guest::VMX_PREEMPTION_TIMER_VALUE;
    GUEST_DEBUGCTL: Field<u64> = vmcs::guest::IA32_DEBUGCTL_FULL;
    GUEST_PDPTE0: Field<u64> = vmcs::guest::PDPTE0_FULL;
    GUEST_PDPTE1: Field<u64> = vmcs::guest::PDPTE1_FULL;
    GUEST_PDPTE2: Field<u64> = vmcs::guest::PDPTE2_FULL;
    GUEST_PDPTE3: Field<u64> = vmcs::guest::PDPTE3_FULL;
    GUEST_EFER: Field<u64> = vmcs::guest::IA32_EFER_FULL;
    GUEST_SYSENTER_CS: Field<u32> = vmcs::guest::IA32_SYSENTER_CS;
    GUEST_SYSENTER_ESP: Field<u64> = vmcs::guest::IA32_SYSENTER_ESP;
    GUEST_SYSENTER_EIP: Field<u64> = vmcs::guest::IA32_SYSENTER_EIP;
    GUEST_CR0: Field<u64> = vmcs::guest::CR0;
    GUEST_CR3: Field<u64> = vmcs::guest::CR3;
    GUEST_CR4: Field<u64> = vmcs::guest::CR4;
    GUEST_DR7: Field<u64> = vmcs::guest::DR7;
    GUEST_RSP: Field<u64> = vmcs::guest::RSP;
    GUEST_RIP: Field<u64> = vmcs::guest::RIP;
    GUEST_RFLAGS: Field<u64> = vmcs::guest::RFLAGS;
    GUEST_PENDING_DEBUG: Field<u64> = vmcs::guest::PENDING_DBG_EXCEPTIONS;

    HOST_CS_SELECTOR: Field<u16> = vmcs::host::CS_SELECTOR;
    HOST_SS_SELECTOR: Field<u16> = vmcs::host::SS_SELECTOR;
    HOST_DS_SELECTOR: Field<u16> = vmcs::host::DS_SELECTOR;
    HOST_ES_SELECTOR: Field<u16> = vmcs::host::ES_SELECTOR;
    HOST_FS_SELECTOR: Field<u16> = vmcs::host::FS_SELECTOR;
    HOST_GS_SELECTOR: Field<u16> = vmcs::host::GS_SELECTOR;
    HOST_TR_SELECTOR: Field<u16> = vmcs::host::TR_SELECTOR;
    HOST_EFER: Field<u64> = vmcs::host::IA32_EFER_FULL;
    HOST_SYSENTER_CS: Field<u32> = vmcs::host::IA32_SYSENTER_CS;
    HOST_SYSENTER_ESP: Field<u64> = vmcs::host::IA32_SYSENTER_ESP;
    HOST_SYSENTER_EIP: Field<u64> = vmcs::host::IA32_SYSENTER_EIP;
    HOST_CR0: Field<u64> = vmcs::host::CR0;
    HOST_CR3: Field<u64> = vmcs::host::CR3;
    HOST_CR4: Field<u64> = vmcs::host::CR4;
    HOST_FS_BASE: Field<u64> = vmcs::host::FS_BASE;
    HOST_GS_BASE: Field<u64> = vmcs::host::GS_BASE;
    HOST_TR_BASE: Field<u64> = vmcs::host::TR_BASE;
    HOST_GDTR_BASE: Field<u64> = vmcs::host::GDTR_BASE;
    HOST_IDTR_BASE: Field<u64> = vmcs::host::IDTR_BASE;
    HOST_RSP: Field<u64> = vmcs::host::RSP;
    HOST_RIP: Field<u64> = vmcs::host::RIP;

    GUEST_PHYSICAL_ADDRESS: ReadOnly<u64> = vmcs::ro::GUEST_PHYSICAL_ADDR_FULL;
    INSTRUCTION_ERROR: ReadOnly<u32> = vmcs::ro::VM_INSTRUCTION_ERROR;
    EXIT_REASON: ReadOnly<u32> = vmcs::ro::EXIT_REASON;
    EXIT_INTERRUPTION_INFO: ReadOnly<u32> = vmcs::ro::VMEXIT_INTERRUPTION_INFO;
    EXIT_INTERRUPTION_ERROR_CODE: ReadOnly<u32> = vmcs::ro::VMEXIT_INTERRUPTION_ERR_CODE;
    EXIT_INSTRUCTION_LENGTH: ReadOnly<u32> = vmcs::ro::VMEXIT_INSTRUCTION_LEN;
    IDT_VECTORING_INFO: ReadOnly<u32> = vmcs::ro::IDT_VECTORING_INFO;
    IDT_VECTORING_ERROR_CODE: ReadOnly<u32> = vmcs::ro::IDT_VECTORING_ERR_CODE;
    INSTRUCTION_INFO: ReadOnly<u32> = vmcs::ro::VMEXIT_INSTRUCTION_INFO;
    GUEST_LINEAR_ADDRESS: ReadOnly<u64> = vmcs::ro::GUEST_LINEAR_ADDR;
    EXIT_QUALIFICATION: ReadOnly<u64> = vmcs::ro::EXIT_QUALIFICATION;
}
