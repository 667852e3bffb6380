//! Hypercall numbers (`xen.h`). Calling convention on x86-64: number in RAX, arguments in RDI, RSI, RDX, R10, R8,
//! result in RAX (negative: an [`super::errno`]), all other registers kept.

/// `__HYPERVISOR_memory_op`
pub const MEMORY_OP: u64 = 12;
/// `__HYPERVISOR_xen_version`
pub const XEN_VERSION: u64 = 17;
/// `__HYPERVISOR_console_io`
pub const CONSOLE_IO: u64 = 18;
/// `__HYPERVISOR_vcpu_op`
pub const VCPU_OP: u64 = 24;
/// `__HYPERVISOR_sched_op`
pub const SCHED_OP: u64 = 29;
/// `__HYPERVISOR_event_channel_op`
pub const EVENT_CHANNEL_OP: u64 = 32;
/// `__HYPERVISOR_hvm_op`
pub const HVM_OP: u64 = 34;
/// Atoll's control hypercalls, domain 0 only: `__HYPERVISOR_arch_7`, in the range Xen reserves for the
/// architecture. Operations are in [`crate::control::hypercall`].
pub const ATOLL_CONTROL: u64 = 55;

/// Sub-operations of [`XEN_VERSION`] (`version.h`).
pub mod version {
    /// `XENVER_version`: RAX = major << 16 | minor; no argument.
    pub const VERSION: u64 = 0;
    /// `XENVER_extraversion`: argument points to 16 bytes.
    pub const EXTRAVERSION: u64 = 1;
    /// `XENVER_get_features`: argument points to [`FeatureInfo`].
    pub const GET_FEATURES: u64 = 6;

    /// The version of Xen's interface that Atoll implements: 4.17.
    pub const INTERFACE_VERSION: u64 = 4 << 16 | 17;

    /// `xen_feature_info`.
    #[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
    #[repr(C)]
    pub struct FeatureInfo {
        /// In: which group of 32 features.
        pub submap_idx: u32,
        /// Out: the features there, a bit each.
        pub submap: u32,
    }
}

/// Sub-operations of [`CONSOLE_IO`]: RDI = operation, RSI = count of bytes, RDX = their address.
pub mod console_io {
    /// `CONSOLEIO_write`
    pub const WRITE: u64 = 0;
    /// `CONSOLEIO_read`
    pub const READ: u64 = 1;
}

/// Sub-operations of [`VCPU_OP`] (`vcpu.h`): RDI = operation, RSI = vCPU, RDX = argument's address.
pub mod vcpu {
    /// `VCPUOP_is_up`: 1, 0, or an error.
    pub const IS_UP: u64 = 3;
}
