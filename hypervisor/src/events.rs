//! Delivering events: bits in the receiver's `shared_info`, and an interrupt at the core of the virtual CPU that the port
//! is bound to. The sender does all of it, by looking at the receiver's port; nobody is asked.
//!
//! The 2-level ABI (`event_channel.h`): the port's pending bit; unless it is masked, its word's bit in the vCPU's
//! selector; unless that was set, the vCPU's upcall byte; unless that was set, the upcall vector as an IPI, which the
//! receiver's core takes straight into the guest, without a VM exit. Domains that use FIFO events have no page for the
//! 2-level ABI in their face: so they are told apart by a look that the 2-level path has anyway ([`fifo`]).

pub mod fifo;

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use abi::address::HostPhys;
use abi::xen::errno::Errno;
use abi::xen::event_channel::virq;
use abi::xen::shared_info::{EVTCHN_MASK, EVTCHN_PENDING, vcpu_info};

use crate::core::Core;
use crate::core::face::FACES;
use crate::domain::Domain;
use crate::memory::physical::pointer;
use crate::ports::{COUNT, End, Port, Target};

/// A word of a domain's `shared_info`, or of a `vcpu_info`.
fn word<T>(start: u64, offset: usize) -> &'static T {
    // SAFETY: `start` is what a face says: memory of the domain's that stays so until no core can be about to send to it
    // any more (see `Core::recall_domain`). `T` is an atomic, as the guest changes these words while we do, and offsets
    // are those of `abi`, within what is there and aligned.
    unsafe { &*pointer::<u8>(HostPhys::new(start)).add(offset).cast::<T>() }
}

/// Makes `port` of the domain whose home is `home` pending. `target`: the virtual CPU it is bound to.
#[inline]
pub fn raise(from: &mut Core, home: usize, port: u32, target: Target) {
    let Some(face) = FACES.get(home) else { return };
    from.face.count_sent(target.core.into());
    let page = face.shared_info.load(Ordering::Relaxed);
    if page == 0 {
        return raise_fifo(from, home, port, target);
    }
    let (index, bit) = (port as usize / 64, 1 << (port % 64));
    let pending: &AtomicU64 = word(page, EVTCHN_PENDING + index * 8);
    let mask: &AtomicU64 = word(page, EVTCHN_MASK + index * 8);
    if pending.fetch_or(bit, Ordering::AcqRel) & bit == 0 && mask.load(Ordering::Acquire) & bit == 0 {
        select(from, target.core.into(), index);
    }
}

/// The same where there is no page of 2-level events: the domain uses FIFO events, or is at its end.
#[inline(never)]
fn raise_fifo(from: &mut Core, home: usize, port: u32, target: Target) {
    let Some(place) = from.machine.places.get(home) else { return };
    if place.fifo.is_on() && place.fifo.raise(port, target.vcpu.into(), target.priority) {
        tell(from, target.core.into());
    }
}

/// Raises again, as FIFO events, what waits in a domain's `shared_info` page: it has just switched.
pub fn carry_over(core: &mut Core, domain: &Domain) {
    for port in 1..COUNT {
        let pending: &AtomicU64 = word(domain.shared_info.as_u64(), EVTCHN_PENDING + port as usize / 64 * 8);
        if pending.load(Ordering::Acquire) & 1 << (port % 64) != 0
            && let Ok(binding) = domain.ports().get(port)
            && binding.port != Port::Closed
        {
            raise_fifo(core, domain.home(), port, binding.target);
        }
    }
}

/// Sends an event through a port of the domain on this core. `EINVAL`: not a port that can.
#[inline]
pub fn send(core: &mut Core, number: u32) -> Result<(), Errno> {
    let domain = core.domain()?;
    let binding = domain.ports().get(number)?;
    match binding.port {
        Port::Interdomain(end) => {
            let Some(place) = core.machine.places.get(usize::from(end.home)) else { return Ok(()) };
            // Where the other end does not point back, it is being closed, or bound: nobody is there.
            if let Ok(there) = place.ports.get(end.port.into())
                && let Port::Interdomain(back) = there.port
                && back.domain == domain.id
                && u32::from(back.port) == number
            {
                raise(core, end.home.into(), end.port.into(), there.target);
            }
        }
        Port::Ipi => raise(core, domain.home(), number, binding.target),
        // As in Xen: nobody is there yet, and that is not the sender's fault.
        Port::Unbound(_) => {}
        Port::Closed | Port::Virq(_) => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Raises a virtual interrupt of the domain whose home is `home`: of this virtual CPU, or, where it is global, of virtual
/// CPU 0. Nothing happens where it is not bound.
pub fn raise_virq(from: &mut Core, home: usize, number: u32, vcpu: usize) {
    let Some(place) = from.machine.places.get(home) else { return };
    if let Some(port) = place.ports.virq(number, vcpu)
        && let Ok(binding) = place.ports.get(port)
    {
        raise(from, home, port, binding.target);
    }
}

/// Takes the mask off `port` of the domain on this core, and delivers what waited behind it.
pub fn unmask(core: &mut Core, port: u32) -> Result<(), Errno> {
    let domain = core.domain()?;
    let binding = domain.ports().get(port)?;
    if domain.place.fifo.is_on() {
        if domain.place.fifo.unmask(port, binding.target.vcpu.into(), binding.target.priority) {
            tell(core, binding.target.core.into());
        }
        return Ok(());
    }
    let page = domain.shared_info.as_u64();
    let (index, bit) = (port as usize / 64, 1 << (port % 64));
    let pending: &AtomicU64 = word(page, EVTCHN_PENDING + index * 8);
    let mask: &AtomicU64 = word(page, EVTCHN_MASK + index * 8);
    if mask.fetch_and(!bit, Ordering::AcqRel) & bit != 0 && pending.load(Ordering::Acquire) & bit != 0 {
        select(core, binding.target.core.into(), index);
    }
    Ok(())
}

/// Whether an event of `port` waits, masked or not. `EINVAL`: no such port, or it is closed.
pub fn is_pending(core: &Core, port: u32) -> Result<bool, Errno> {
    let domain = core.domain()?;
    if domain.ports().get(port)?.port == Port::Closed {
        return Err(Errno::EINVAL);
    }
    if domain.place.fifo.is_on() {
        return Ok(domain.place.fifo.is_pending(port));
    }
    let pending: &AtomicU64 = word(domain.shared_info.as_u64(), EVTCHN_PENDING + port as usize / 64 * 8);
    Ok(pending.load(Ordering::Acquire) & 1 << (port % 64) != 0)
}

/// Whether the virtual CPU on this core has been told of events, and has not taken them yet.
pub fn is_upcall_pending(core: &Core) -> bool {
    let info = core.face.vcpu_info.load(Ordering::Relaxed);
    info != 0 && word::<AtomicU8>(info, vcpu_info::UPCALL_PENDING).load(Ordering::Acquire) != 0
}

/// Takes what waits at `port` of the domain on this core, whose home it is, as its guest would. `false`: nothing did.
pub fn take(core: &Core, domain: &Domain, port: u32) -> bool {
    if !is_upcall_pending(core) {
        return false;
    }
    let info = core.face.vcpu_info.load(Ordering::Relaxed);
    word::<AtomicU8>(info, vcpu_info::UPCALL_PENDING).store(0, Ordering::Release);
    word::<AtomicU64>(info, vcpu_info::PENDING_SEL).swap(0, Ordering::AcqRel);
    let pending: &AtomicU64 = word(domain.shared_info.as_u64(), EVTCHN_PENDING + port as usize / 64 * 8);
    let bit = 1 << (port % 64);
    pending.fetch_and(!bit, Ordering::AcqRel) & bit != 0
}

/// The port is not pending any more: it is closed, and may be bound to something else next.
fn forget(domain: &Domain, port: u32) {
    if domain.place.fifo.is_on() {
        domain.place.fifo.clear(port);
    }
    let pending: &AtomicU64 = word(domain.shared_info.as_u64(), EVTCHN_PENDING + port as usize / 64 * 8);
    pending.fetch_and(!(1 << (port % 64)), Ordering::AcqRel);
}

/// Closes a port of `domain`, and parts from the peer. `EINVAL`: it was closed.
pub fn close(core: &Core, domain: &Domain, port: u32) -> Result<(), Errno> {
    if domain.ports().get(port)?.port == Port::Closed {
        return Err(Errno::EINVAL);
    }
    // While the number is still ours: once it is closed a sibling may have it, and events of its own.
    forget(domain, port);
    let was = domain.ports().close(port)?;
    if let Port::Interdomain(end) = was
        && let Some(place) = core.machine.places.get(usize::from(end.home))
    {
        let own = End { domain: domain.id, home: domain.home() as u8, port: port as u16 };
        place.ports.part(end.port.into(), own);
    }
    Ok(())
}

/// Closes every port of `domain`.
pub fn close_all(core: &Core, domain: &Domain) {
    let mut from = 1;
    while let Some(port) = domain.ports().next_open(from) {
        // It was open just now; if it is not any more that is as well.
        let _ = close(core, domain, port);
        from = port + 1;
    }
}

#[inline]
fn select(from: &mut Core, core: usize, index: usize) {
    let Some(face) = FACES.get(core) else { return };
    let info = face.vcpu_info.load(Ordering::Relaxed);
    if info == 0 {
        return;
    }
    let selector: &AtomicU64 = word(info, vcpu_info::PENDING_SEL);
    let upcall: &AtomicU8 = word(info, vcpu_info::UPCALL_PENDING);
    let bit = 1 << index;
    if selector.fetch_or(bit, Ordering::AcqRel) & bit == 0 && upcall.swap(1, Ordering::AcqRel) == 0 {
        interrupt(from, core);
    }
}

/// Tells a virtual CPU that it has FIFO events, unless it was told.
fn tell(from: &mut Core, core: usize) {
    let info = FACES.get(core).map_or(0, |face| face.vcpu_info.load(Ordering::Relaxed));
    if info != 0 && word::<AtomicU8>(info, vcpu_info::UPCALL_PENDING).swap(1, Ordering::AcqRel) == 0 {
        interrupt(from, core);
    }
}

/// The upcall vector of a full guest's home: the hypervisor itself takes its events, at the next kick.
pub const NMI: u8 = 2;

/// Sends the upcall vector to the virtual CPU on `core`, or kicks it where it has a callback vector instead.
pub fn interrupt(from: &mut Core, core: usize) {
    let Some(face) = FACES.get(core) else { return };
    let apic_id = face.apic_id.load(Ordering::Relaxed);
    match face.vector.load(Ordering::Relaxed) as u8 {
        0 if face.callback.load(Ordering::Relaxed) == 0 => {}
        // SAFETY: a kick to a core of ours, this one too: it takes note, and looks before it enters its guest again.
        0 | NMI => unsafe { from.apic.nmi(apic_id) },
        // SAFETY: a fixed interrupt with a vector of the guest's choice, above 15, to the core that the guest owns. If
        // that core is in the hypervisor it waits until the guest is back, since the hypervisor keeps interrupts off.
        vector => unsafe { from.apic.fixed(vector, apic_id) },
    }
}

/// Raises each port of a domain that does not run, whatever its words say: somebody may have taken events that were another's.
/// An event without a reason harms nobody, as on Xen.
pub fn raise_all(from: &mut Core, domain: &Domain) {
    let (page, home) = (domain.shared_info.as_u64(), domain.home());
    let mut next = domain.ports().next_open(1);
    while let Some(port) = next {
        let (index, bit) = (port as usize / 64, 1 << (port % 64));
        word::<AtomicU64>(page, EVTCHN_PENDING + index * 8).fetch_or(bit, Ordering::AcqRel);
        let info = FACES.get(home).map_or(0, |face| face.vcpu_info.load(Ordering::Relaxed));
        if info != 0 && word::<AtomicU64>(page, EVTCHN_MASK + index * 8).load(Ordering::Acquire) & bit == 0 {
            word::<AtomicU64>(info, vcpu_info::PENDING_SEL).fetch_or(1 << index, Ordering::AcqRel);
            word::<AtomicU8>(info, vcpu_info::UPCALL_PENDING).store(1, Ordering::Release);
        }
        next = domain.ports().next_open(port + 1);
    }
    redeliver(from, home);
}

/// Delivers again what is pending at the virtual CPU on `core`: a guest that has just named its upcall vector must not
/// miss earlier events.
pub fn redeliver(from: &mut Core, core: usize) {
    let info = FACES.get(core).map_or(0, |face| face.vcpu_info.load(Ordering::Relaxed));
    if info != 0 {
        let upcall: &AtomicU8 = word(info, vcpu_info::UPCALL_PENDING);
        if upcall.load(Ordering::Acquire) != 0 {
            interrupt(from, core);
        }
    }
}

/// Lets domain 0 know that a domain has stopped.
pub fn tell_control(from: &mut Core) {
    raise_virq(from, 0, virq::DOM_EXC, 0);
}
