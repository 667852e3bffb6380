//! Xen's CPUID leaves (`arch-x86/cpuid.h`).

/// First leaf: highest leaf in EAX, signature in EBX, ECX, EDX.
pub const BASE: u32 = 0x4000_0000;
/// "XenVMMXenVMM" as EBX, ECX, EDX.
pub const SIGNATURE: [u32; 3] =
    [u32::from_le_bytes(*b"XenV"), u32::from_le_bytes(*b"MMXe"), u32::from_le_bytes(*b"nVMM")];
/// EAX = version, major << 16 | minor.
pub const VERSION: u32 = BASE + 1;
/// EAX = hypercall pages, EBX = base MSR.
pub const HYPERCALL_PAGE: u32 = BASE + 2;
/// Time: sub-leaf 0: EAX features, ECX = TSC rate in kHz.
pub const TIME: u32 = BASE + 3;
/// HVM features: EAX flags ([`features`]), EBX = vCPU id, ECX = domain id.
pub const HVM: u32 = BASE + 4;
/// Highest leaf.
pub const MAX: u32 = HVM;

/// EAX of [`HVM`].
pub mod features {
    /// `XEN_HVM_CPUID_VCPU_ID_PRESENT`: EBX is valid.
    pub const VCPU_ID_PRESENT: u32 = 1 << 3;
    /// `XEN_HVM_CPUID_DOMID_PRESENT`: ECX is valid.
    pub const DOMID_PRESENT: u32 = 1 << 4;
    /// `XEN_HVM_CPUID_UPCALL_VECTOR`: a per-vCPU upcall vector can be set.
    pub const UPCALL_VECTOR: u32 = 1 << 6;
}

/// The MSR that takes the hypercall page's frame.
pub const HYPERCALL_PAGE_MSR: u32 = 0x4000_0000;
