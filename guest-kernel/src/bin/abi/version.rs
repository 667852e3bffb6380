//! `xen_version`.

use abi::xen::hypercall::XEN_VERSION;
use abi::xen::version::{self as op, FeatureInfo, feature};

use crate::call::{NOWHERE, call, with};
use crate::tally::{Error, Tally};

fn features(group: u32) -> (u64, u32) {
    let mut info = FeatureInfo { submap_idx: group, submap: 0 };
    let answer = with(XEN_VERSION, op::GET_FEATURES, &mut info);
    (answer, info.submap)
}

/// By the features it is offered.
pub fn is_control_domain() -> bool {
    features(0).1 & feature::DOM0 != 0
}

pub fn check(tally: &mut Tally) {
    let version = call(XEN_VERSION, [op::VERSION, 0, 0, 0, 0]);
    tally.that("xen_version version", version, (op::INTERFACE_VERSION..5 << 16).contains(&version));
    let truncated = call(XEN_VERSION, [1 << 32 | op::VERSION, NOWHERE, 0, 0, 0]);
    tally.equal("xen_version, operation of 32 bits", truncated, version);

    let texts = [
        ("xen_version extraversion", op::EXTRAVERSION),
        ("xen_version compile_info", op::COMPILE_INFO),
        ("xen_version capabilities", op::CAPABILITIES),
        ("xen_version changeset", op::CHANGESET),
        ("xen_version platform_parameters", op::PLATFORM_PARAMETERS),
        ("xen_version guest_handle", op::GUEST_HANDLE),
        ("xen_version commandline", op::COMMANDLINE),
    ];
    for (what, operation) in texts {
        let mut text = [0xaau8; 2048];
        tally.check(what, with(XEN_VERSION, operation, &mut text), Ok(0));
        let bytes = text.iter().rposition(|&byte| byte != 0xaa).map_or(0, |last| last + 1);
        let wanted = match operation {
            op::EXTRAVERSION | op::GUEST_HANDLE => 16,
            op::COMPILE_INFO => size_of::<op::CompileInfo>(),
            op::CAPABILITIES => op::CAPABILITIES_BYTES,
            op::CHANGESET => op::CHANGESET_BYTES,
            op::PLATFORM_PARAMETERS => 8,
            _ if tally.privileged => op::COMMANDLINE_BYTES,
            _ => op::DENIED.len(),
        };
        tally.equal("bytes written", bytes as u64, wanted as u64);
        tally.check(what, call(XEN_VERSION, [operation, NOWHERE, 0, 0, 0]), Err(Error::EFAULT));
    }

    let (answer, offered) = features(0);
    tally.check("xen_version get_features", answer, Ok(0));
    let needed = feature::WRITABLE_PAGE_TABLES
        | feature::AUTO_TRANSLATED_PHYSMAP
        | feature::HVM_CALLBACK_VECTOR
        | feature::HVM_SAFE_PVCLOCK
        | feature::MEMORY_OP_VNODE_SUPPORTED
        | feature::NOT_DIRECT_MAPPED;
    tally.equal("features", (offered & !feature::DOM0).into(), needed.into());
    tally.check("xen_version get_features, no such group", features(1).0, Err(Error::EINVAL));
    let nowhere = call(XEN_VERSION, [op::GET_FEATURES, NOWHERE, 0, 0, 0]);
    tally.check("xen_version get_features", nowhere, Err(Error::EFAULT));

    tally.check("xen_version pagesize", call(XEN_VERSION, [op::PAGESIZE, 0, 0, 0, 0]), Ok(4096));
    let pagesize = call(XEN_VERSION, [op::PAGESIZE, 1, 0, 0, 0]);
    tally.check("xen_version pagesize", pagesize, Err(Error::EINVAL));
    tally.refused("xen_version build_id", || call(XEN_VERSION, [op::BUILD_ID, 0, 0, 0, 0]), Error::EPERM);
    for operation in [11, 0xffff_ffff] {
        let answer = call(XEN_VERSION, [operation, NOWHERE, 0, 0, 0]);
        tally.check("xen_version, no such operation", answer, Err(Error::ENOSYS));
    }
}
