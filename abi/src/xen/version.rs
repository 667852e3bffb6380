//! What the hypervisor says of itself (`version.h`, `features.h`): RDI = operation, RSI = address of its argument.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `XENVER_version`: RAX = major << 16 | minor; no argument.
pub const VERSION: u64 = 0;
/// `XENVER_extraversion`: argument points to 16 bytes.
pub const EXTRAVERSION: u64 = 1;
/// `XENVER_compile_info`, argument [`CompileInfo`].
pub const COMPILE_INFO: u64 = 2;
/// `XENVER_capabilities`: argument points to [`CAPABILITIES_BYTES`].
pub const CAPABILITIES: u64 = 3;
/// `XENVER_changeset`: argument points to [`CHANGESET_BYTES`].
pub const CHANGESET: u64 = 4;
/// `XENVER_platform_parameters`: argument points to a word, the address from which on a guest without page tables of
/// its own may use nothing.
pub const PLATFORM_PARAMETERS: u64 = 5;
/// `XENVER_get_features`, argument [`FeatureInfo`].
pub const GET_FEATURES: u64 = 6;
/// `XENVER_pagesize`: RAX = bytes; the argument must be 0.
pub const PAGESIZE: u64 = 7;
/// `XENVER_guest_handle`: argument points to the 16 bytes of the domain's UUID.
pub const GUEST_HANDLE: u64 = 8;
/// `XENVER_commandline`: argument points to 1,024 bytes.
pub const COMMANDLINE: u64 = 9;
/// `XENVER_build_id`, argument: 0, or the address of a length and as many bytes.
pub const BUILD_ID: u64 = 10;

/// The version of Xen's interface that Atoll implements: 4.17.
pub const INTERFACE_VERSION: u64 = 4 << 16 | 17;

/// Bytes of [`CAPABILITIES`].
pub const CAPABILITIES_BYTES: usize = 1024;
/// Bytes of [`CHANGESET`].
pub const CHANGESET_BYTES: usize = 64;
/// Bytes of [`COMMANDLINE`].
pub const COMMANDLINE_BYTES: usize = 1024;
/// What the unprivileged read where they may not.
pub const DENIED: &[u8] = b"<denied>\0";

/// `xen_feature_info`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct FeatureInfo {
    /// In: which group of 32 features; there is group 0 alone.
    pub submap_idx: u32,
    /// Out: the features there, a bit each: [`feature`].
    pub submap: u32,
}

/// `xen_compile_info`: texts that end with a zero byte.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CompileInfo {
    /// The compiler.
    pub compiler: [u8; 64],
    /// Who compiled.
    pub compile_by: [u8; 16],
    /// Where.
    pub compile_domain: [u8; 32],
    /// When.
    pub compile_date: [u8; 32],
}

/// `XENFEAT_*`, as bits of [`FeatureInfo::submap`].
pub mod feature {
    /// The guest writes its own page tables.
    pub const WRITABLE_PAGE_TABLES: u32 = 1 << 0;
    /// Its frame numbers are guest-physical.
    pub const AUTO_TRANSLATED_PHYSMAP: u32 = 1 << 2;
    /// Events can come as an interrupt vector.
    pub const HVM_CALLBACK_VECTOR: u32 = 1 << 8;
    /// The clock in `vcpu_time_info` is for such guests too.
    pub const HVM_SAFE_PVCLOCK: u32 = 1 << 9;
    /// The caller is domain 0.
    pub const DOM0: u32 = 1 << 11;
    /// Memory operations take virtual nodes.
    pub const MEMORY_OP_VNODE_SUPPORTED: u32 = 1 << 13;
    /// Guest-physical is not machine-physical.
    pub const NOT_DIRECT_MAPPED: u32 = 1 << 16;
}

/// The UUID of a domain (`xen_domain_handle_t`), of RFC 9562's version 8: from the machine's boot and the domain's
/// number, which is never given twice. Domain 0's is all zeroes, as on Xen.
pub fn guest_handle(domain: super::DomId, boot_tsc: u64) -> [u8; 16] {
    if domain == 0 {
        return [0; 16];
    }
    let mut handle = *b"Atoll\0\x80\0\x80\0\0\0\0\0\0\0";
    let [low, high] = domain.to_be_bytes();
    (handle[5], handle[7]) = (low, high);
    // The lowest bits of the counter are those that differ between boots.
    handle[9..].copy_from_slice(&boot_tsc.to_be_bytes()[1..]);
    handle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_differ_by_domain_and_boot() {
        let handle = guest_handle(0x1234, 0x0102_0304_0506_0708);
        assert_eq!(handle, *b"Atoll\x12\x80\x34\x80\x02\x03\x04\x05\x06\x07\x08");
        assert_eq!((handle[6] >> 4, handle[8] >> 6), (8, 2), "version 8, the RFC's variant");
        assert_ne!(guest_handle(1, 5), guest_handle(2, 5));
        assert_ne!(guest_handle(1, 5), guest_handle(1, 6));
        assert_eq!(guest_handle(0, 5), [0; 16]);
    }

    #[test]
    fn structures_are_xens() {
        assert_eq!((size_of::<CompileInfo>(), size_of::<FeatureInfo>()), (144, 8));
    }
}
