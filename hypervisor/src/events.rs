//! Delivering events: bits in the receiver's `shared_info`, and an interrupt at its core.
//!
//! The 2-level ABI (`event_channel.h`): the port's pending bit; unless it is masked, its word's bit in the vCPU's
//! selector; unless that was set, the vCPU's upcall byte; unless that was set, the upcall vector as an IPI, which the
//! receiver's core takes straight into the guest, without a VM exit.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use abi::address::HostPhys;
use abi::xen::shared_info::{EVTCHN_MASK, EVTCHN_PENDING, VCPU_INFO, vcpu_info};

use crate::core::Core;
use crate::core::face::FACES;
use crate::memory::physical::pointer;

/// A word of a domain's `shared_info`.
fn word<T>(page: u64, offset: usize) -> &'static T {
    // SAFETY: `page` is a face's `shared_info`: a frame that stays the domain's until no core can send to it any more
    // (see `Core::release`). `T` is an atomic, as the guest changes these words while we do, and offsets are those of
    // `abi`, within the page and aligned.
    unsafe { &*pointer::<u8>(HostPhys::new(page)).add(offset).cast::<T>() }
}

/// Makes `port` of the domain on `core` pending.
#[inline]
pub fn raise(from: &mut Core, core: usize, port: u32) {
    let Some(face) = FACES.get(core) else { return };
    from.face.count_sent(core);
    let page = face.shared_info.load(Ordering::Relaxed);
    if page == 0 {
        return;
    }
    let (index, bit) = (port as usize / 64, 1 << (port % 64));
    let pending: &AtomicU64 = word(page, EVTCHN_PENDING + index * 8);
    let mask: &AtomicU64 = word(page, EVTCHN_MASK + index * 8);
    if pending.fetch_or(bit, Ordering::AcqRel) & bit == 0 && mask.load(Ordering::Acquire) & bit == 0 {
        select(from, core, page, index);
    }
}

/// Takes the mask off `port` of the domain on this core, and delivers what waited behind it.
pub fn unmask(core: &mut Core, port: u32) {
    let own = core.index;
    let page = FACES[own].shared_info.load(Ordering::Relaxed);
    if page == 0 {
        return;
    }
    let (index, bit) = (port as usize / 64, 1 << (port % 64));
    let pending: &AtomicU64 = word(page, EVTCHN_PENDING + index * 8);
    let mask: &AtomicU64 = word(page, EVTCHN_MASK + index * 8);
    if mask.fetch_and(!bit, Ordering::AcqRel) & bit != 0 && pending.load(Ordering::Acquire) & bit != 0 {
        select(core, own, page, index);
    }
}

#[inline]
fn select(from: &mut Core, core: usize, page: u64, index: usize) {
    let selector: &AtomicU64 = word(page, VCPU_INFO + vcpu_info::PENDING_SEL);
    let upcall: &AtomicU8 = word(page, VCPU_INFO + vcpu_info::UPCALL_PENDING);
    let bit = 1 << index;
    if selector.fetch_or(bit, Ordering::AcqRel) & bit == 0 && upcall.swap(1, Ordering::AcqRel) == 0 {
        interrupt(from, core);
    }
}

/// Sends the upcall vector to the domain on `core`.
pub fn interrupt(from: &mut Core, core: usize) {
    let face = &FACES[core];
    let vector = face.vector.load(Ordering::Relaxed) as u8;
    if vector != 0 {
        // SAFETY: a fixed interrupt with a vector of the guest's choice, above 15, to the core that the guest owns. If
        // that core is in the hypervisor it waits until the guest is back, since the hypervisor keeps interrupts off.
        unsafe { from.apic.fixed(vector, face.apic_id.load(Ordering::Relaxed)) };
    }
}

/// Delivers again what is pending: a guest that has just named its upcall vector must not miss earlier events.
pub fn redeliver(core: &mut Core) {
    let own = core.index;
    let page = FACES[own].shared_info.load(Ordering::Relaxed);
    if page != 0 {
        let upcall: &AtomicU8 = word(page, VCPU_INFO + vcpu_info::UPCALL_PENDING);
        if upcall.load(Ordering::Acquire) != 0 {
            interrupt(core, own);
        }
    }
}

/// Domain 0's port for `VIRQ_DOM_EXC`; 0: none.
static CONTROL_PORT: AtomicU32 = AtomicU32::new(0);

/// Notes the port at which domain 0 hears of domains that stopped.
pub fn set_control_port(port: u32) {
    CONTROL_PORT.store(port, Ordering::Release);
}

/// Lets domain 0 know that a domain has stopped.
pub fn tell_control(from: &mut Core) {
    match CONTROL_PORT.load(Ordering::Acquire) {
        0 => {}
        port => raise(from, 0, port),
    }
}
