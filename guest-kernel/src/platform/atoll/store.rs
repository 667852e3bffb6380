//! Where the ring with xenstore is, where there is one.

use abi::address::PAGE_SIZE;
use abi::xen::event_channel::Port;
use abi::xen::hvm::param;
use io_rings::bytes::XenstorePage;

use super::{hypercall, memory};

/// The page and its port, mapped. `None` where nobody keeps a store for this domain, or none yet.
pub(super) fn find() -> Option<(&'static XenstorePage, Port)> {
    let frame = hypercall::get_param(param::STORE_PFN).unwrap_or(0);
    let port = hypercall::get_param(param::STORE_EVTCHN).unwrap_or(0);
    if frame == 0 || port == 0 {
        return None;
    }
    // All ones is Xen's way to say that there will be one later.
    let address = frame.checked_mul(PAGE_SIZE)?;
    let port = u32::try_from(port).ok()?;
    // Already there where the page lies in RAM.
    let _ = memory::map_window(address..address.checked_add(PAGE_SIZE)?);
    // SAFETY: the hypervisor named the page, it is mapped, and every byte pattern is a valid page of atomics.
    Some((unsafe { &*(address as *const XenstorePage) }, port))
}
