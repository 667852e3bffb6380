//! The calls of Xen's own tools: what a guest hears that makes them. Atoll's control calls are others, so nobody hears
//! anything better.

use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::{DOMID_INVALID, DOMID_IO, DOMID_SELF, DOMID_XEN, DomId};

use super::Caller;

/// The version of `sysctl` and `domctl` in Xen 4.17, and that of `platform_op`.
const SYSCTL_VERSION: u32 = 0x15;
const DOMCTL_VERSION: u32 = 0x15;
const PLATFORM_VERSION: u32 = 0x0300_0001;

/// These two need no domain that is there; the next two take [`DOMID_INVALID`] for none.
const CREATE_DOMAIN: u32 = 1;
const GET_DOMAIN_INFO: u32 = 5;
const TEST_ASSIGN_DEVICE: u32 = 45;
const VM_EVENT: u32 = 56;
/// The one operation that goes on as another call.
const SHADOW_OP: u32 = 10;

/// `sysctl`: its second word is the version.
pub fn sysctl(caller: Caller, version: u32) -> HypercallResult {
    about_the_machine(caller, version == SYSCTL_VERSION)
}

/// `platform_op`.
pub fn platform_op(caller: Caller, version: u32) -> HypercallResult {
    about_the_machine(caller, version == PLATFORM_VERSION)
}

fn about_the_machine(caller: Caller, right_version: bool) -> HypercallResult {
    match (right_version, caller.is_privileged) {
        (false, _) => Err(Errno::EACCES),
        (true, false) => Err(Errno::EPERM),
        (true, true) => Err(Errno::ENOSYS),
    }
}

/// `domctl`. "Myself" is no number there.
pub fn domctl(
    caller: Caller,
    operation: u32,
    version: u32,
    domain: DomId,
    exists: impl Fn(DomId) -> bool,
) -> HypercallResult {
    if version != DOMCTL_VERSION {
        return Err(Errno::EACCES);
    }
    let needs_none = match operation {
        CREATE_DOMAIN | GET_DOMAIN_INFO => true,
        TEST_ASSIGN_DEVICE | VM_EVENT => domain == DOMID_INVALID,
        _ => false,
    };
    if !needs_none && !exists(domain) {
        return Err(Errno::ESRCH);
    }
    about_the_machine(caller, true)
}

/// `paging_domctl_cont`.
pub fn domctl_goes_on(
    caller: Caller,
    operation: u32,
    version: u32,
    domain: DomId,
    exists: impl Fn(DomId) -> bool,
) -> HypercallResult {
    if version != DOMCTL_VERSION || operation != SHADOW_OP {
        return Err(Errno::EOPNOTSUPP);
    }
    domctl(caller, operation, version, domain, exists)
}

/// `mmuext_op`: for domains without page tables of their own, which there are none of.
pub fn mmuext(caller: Caller, foreign: DomId, exists: impl Fn(DomId) -> bool) -> HypercallResult {
    Err(match foreign {
        DOMID_SELF => Errno::EINVAL,
        DOMID_IO | DOMID_XEN => Errno::EPERM,
        _ if foreign == caller.id || !exists(foreign) => Errno::ESRCH,
        _ => Errno::EINVAL,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CONTROL, GUEST, exists};
    use super::*;

    #[test]
    fn nobody_gets_anywhere() {
        assert_eq!(sysctl(GUEST, 0x14), Err(Errno::EACCES));
        assert_eq!(sysctl(GUEST, 0x15), Err(Errno::EPERM));
        assert_eq!(sysctl(CONTROL, 0x15), Err(Errno::ENOSYS));
        assert_eq!(platform_op(GUEST, 0x15), Err(Errno::EACCES));
        assert_eq!(platform_op(GUEST, 0x0300_0001), Err(Errno::EPERM));
        assert_eq!(domctl(GUEST, 5, 0x14, 99, exists), Err(Errno::EACCES));
        assert_eq!(domctl(GUEST, 3, 0x15, 99, exists), Err(Errno::ESRCH));
        assert_eq!(domctl(GUEST, 3, 0x15, DOMID_SELF, exists), Err(Errno::ESRCH));
        assert_eq!(domctl(GUEST, GET_DOMAIN_INFO, 0x15, 99, exists), Err(Errno::EPERM));
        assert_eq!(domctl(GUEST, VM_EVENT, 0x15, 99, exists), Err(Errno::ESRCH));
        assert_eq!(domctl(GUEST, VM_EVENT, 0x15, DOMID_INVALID, exists), Err(Errno::EPERM));
        assert_eq!(domctl(GUEST, CREATE_DOMAIN, 0x15, 99, exists), Err(Errno::EPERM));
        assert_eq!(domctl(GUEST, 5, 0x15, 5, exists), Err(Errno::EPERM));
        assert_eq!(domctl_goes_on(GUEST, 5, 0x15, 5, exists), Err(Errno::EOPNOTSUPP));
        assert_eq!(domctl_goes_on(GUEST, SHADOW_OP, 0x14, 5, exists), Err(Errno::EOPNOTSUPP));
        assert_eq!(domctl_goes_on(GUEST, SHADOW_OP, 0x15, 99, exists), Err(Errno::ESRCH));
        assert_eq!(domctl_goes_on(GUEST, SHADOW_OP, 0x15, 5, exists), Err(Errno::EPERM));
    }

    #[test]
    fn no_page_tables_of_others() {
        let of = |foreign| mmuext(GUEST, foreign, exists).unwrap_err();
        assert_eq!((of(DOMID_SELF), of(7)), (Errno::EINVAL, Errno::EINVAL));
        assert_eq!((of(5), of(99)), (Errno::ESRCH, Errno::ESRCH));
        assert_eq!((of(DOMID_IO), of(DOMID_XEN)), (Errno::EPERM, Errno::EPERM));
    }
}
