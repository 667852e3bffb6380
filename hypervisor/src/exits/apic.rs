//! Interrupts that a virtual CPU sends: to itself, to its siblings, and to nobody else.
//!
//! Destinations are virtual APIC ids, as on a machine that has no other processors. A fixed interrupt is a real one to the
//! sibling's core, which takes it without an exit. What starts, stops or interrupts a sibling as no guest may interrupt a
//! real core (INIT, start-up, NMI) is a request to the sibling's hypervisor.

use core::sync::atomic::Ordering::Relaxed;

use crate::core::Core;
use crate::core::face::FACES;
use crate::core::message::Request;
use crate::cpuid_policy::apic_id;

/// Delivery modes (SDM 3A, "Interrupt Command Register (ICR)").
mod mode {
    pub const FIXED: u64 = 0;
    pub const LOWEST_PRIORITY: u64 = 1;
    pub const NMI: u64 = 4;
    pub const INIT: u64 = 5;
    pub const START_UP: u64 = 6;
}

/// The logical id that follows from an APIC id in x2APIC mode: cluster, and a bit in it.
pub(super) const fn logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}

/// A write of the interrupt command register. The faults of reserved bits are left out: such bits are ignored.
pub(super) fn command(core: &mut Core, command: u64) -> Option<()> {
    const LEVEL: u64 = 1 << 14;
    const LEVEL_TRIGGERED: u64 = 1 << 15;
    let (vector, mode) = (command as u8, command >> 8 & 7);
    let (domain, own) = core.vcpu.as_ref().map(|vcpu| (vcpu.domain, vcpu.id))?;
    for (vcpu, &on) in domain.cores.iter().enumerate() {
        if !is_meant(command, own, vcpu) {
            continue;
        }
        let on = usize::from(on);
        match mode {
            mode::FIXED => fixed(core, vector, on),
            mode::LOWEST_PRIORITY => {
                fixed(core, vector, on);
                break;
            }
            // INIT, NMI and start-up to oneself are for nobody.
            _ if vcpu == own => {}
            mode::NMI => request(core, on, Request::Nmi),
            // An INIT that is level-triggered and not asserted is one that processors of today ignore.
            mode::INIT if command & (LEVEL | LEVEL_TRIGGERED) != LEVEL_TRIGGERED => {
                request(core, on, Request::Init);
            }
            mode::START_UP => request(core, on, Request::StartUp { page: vector }),
            _ => {}
        }
    }
    Some(())
}

/// Whether a command of virtual CPU `own` is for virtual CPU `vcpu`.
fn is_meant(command: u64, own: usize, vcpu: usize) -> bool {
    const LOGICAL: u64 = 1 << 11;
    const EVERYBODY: u32 = u32::MAX;
    let destination = (command >> 32) as u32;
    match command >> 18 & 3 {
        0 if destination == EVERYBODY => true,
        0 if command & LOGICAL != 0 => {
            let id = logical_id(apic_id(vcpu as u32));
            destination >> 16 == id >> 16 && destination & id & 0xffff != 0
        }
        0 => destination == apic_id(vcpu as u32),
        1 => vcpu == own,
        2 => true,
        _ => vcpu != own,
    }
}

/// An interrupt to this core alone.
pub(super) fn self_ipi(core: &mut Core, vector: u8) -> Option<()> {
    fixed(core, vector, core.index);
    Some(())
}

fn fixed(core: &mut Core, vector: u8, on: usize) {
    if vector >= 16 {
        // SAFETY: interrupts a core of this core's own domain, whose guest takes it whenever it is in the guest.
        unsafe { core.apic.fixed(vector, FACES[on].apic_id.load(Relaxed)) };
    }
}

/// The sibling is there, since its domain is; so its answer has nothing to say.
fn request(core: &mut Core, on: usize, request: Request) {
    let _ = core.ask(on, request);
}
