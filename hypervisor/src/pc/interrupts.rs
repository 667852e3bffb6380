//! What interrupts a full guest, and when: the local APIC's word, the VM entry's rules.

use core::sync::atomic::Ordering::Relaxed;

use abi::xen::errno::Errno;
use vmx::capabilities::Capabilities;
use vmx::field;
use vmx::injection::Injection;

use super::posted::POSTED;
use super::{at_board, attend, virtual_apic};
use crate::core::Core;
use crate::core::face::FACES;
use crate::core::message::Request;
use crate::cpuid_policy::apic_id;
use crate::devices::message::{Delivery, Message};
use crate::machine;

/// The activity states of the VMCS.
pub(super) const ACTIVE: u32 = 0;
const HALTED: u32 = 1;
/// RFLAGS.IF.
const INTERRUPTS_ON: u64 = 1 << 9;

/// Sees to all that the guest is to be interrupted by, before it is entered.
#[inline(always)]
pub(super) fn prepare(core: &mut Core) {
    let posted = POSTED[core.index].take();
    let Some(local) = core.local() else { return };
    if let Some((requests, levels)) = posted {
        local.attention = true;
        for word in 0..4 {
            let mut left = requests[word];
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                local.apic.request((word as u32 * 64 + bit) as u8, levels[word] & 1 << bit != 0);
            }
        }
    }
    if local.attention {
        see_to(core);
    }
}

#[inline(never)]
fn see_to(core: &mut Core) {
    let now = machine::now();
    let Some(local) = core.local() else { return };
    if local.board_due <= now {
        // A virtual CPU that is not at home has none.
        local.board_due = u64::MAX;
        at_board(core, |board, now| board.advance(now));
        // With what the board has posted to this very core.
        return prepare(core);
    }
    local.attention = false;
    local.apic.advance(now);
    deliver(core);
    arm(core, now);
}

/// Delivers an interrupt if one is pending: now, or as soon as the guest can take it.
fn deliver(core: &mut Core) {
    let Some(local) = core.local() else { return };
    if let Some(state) = &local.virtual_apic
        && state.is_behind(&local.apic)
    {
        virtual_apic::hand_over(core);
    }
    let Some(local) = core.local() else { return };
    let vector = local.apic.pending();
    let external = local.is_offered_external && local.apic.passes_external();
    if vector.is_none() && !external {
        return;
    }
    if !core.takes_interrupts() {
        return watch_for_window(core, true);
    }
    let vector = if external {
        at_board(core, |board, _| board.acknowledge_external())
    } else {
        vector.inspect(|&vector| {
            if let Some(local) = core.local() {
                local.apic.accept(vector);
            }
        })
    };
    let Some(vector) = vector else { return };
    core.inject(Injection::external(vector));
    core.vmcs.write(field::GUEST_ACTIVITY, ACTIVE);
    let more = core.local().is_some_and(|local| {
        local.attention = false;
        local.apic.pending().is_some()
    });
    if more {
        watch_for_window(core, true);
    }
}

/// Whether an interrupt waits that the guest would take now.
pub(super) fn is_due(core: &mut Core) -> bool {
    let Some(local) = core.local() else { return false };
    let external = local.is_offered_external && local.apic.passes_external();
    (external || local.apic.pending().is_some()) && core.takes_interrupts()
}

/// The guest can take an interrupt now.
pub(super) fn window_opened(core: &mut Core) {
    watch_for_window(core, false);
    attend(core);
}

/// The guest halts, with an interrupt waiting that it could not take before: with STI just before the HLT, it can now.
pub(super) fn halted(core: &mut Core) {
    core.advance();
    core.vmcs.write(field::GUEST_ACTIVITY, HALTED);
    if core.vmcs.get(field::GUEST_RFLAGS) & INTERRUPTS_ON != 0 {
        window_opened(core);
    }
    if core.local().is_some_and(|local| local.virtual_apic.is_some()) {
        virtual_apic::wake(core);
    }
}

/// Exits as soon as the guest takes interrupts, or does not. One that halts with interrupts on takes them: where that does
/// not end the halt, as under Bochs, the halt itself exits.
fn watch_for_window(core: &mut Core, open: bool) {
    // With a virtual local APIC that the processor keeps up it always does.
    let halts = open || core.local().is_some_and(|local| local.virtual_apic.is_some());
    let primary = core.vmcs.get(field::PRIMARY_CONTROLS);
    let watching = Capabilities::with_interrupt_window(primary, open);
    core.vmcs.write(field::PRIMARY_CONTROLS, Capabilities::with_halts(watching, halts));
}

/// Lets the guest's turn end when its next timer is due.
fn arm(core: &mut Core, now: u64) {
    let watchdog = core.watchdog_due().unwrap_or(u64::MAX);
    let Some(local) = core.local() else { return };
    let due = local.apic.deadline().unwrap_or(u64::MAX).min(local.board_due).min(watchdog);
    if due != local.armed {
        local.armed = due;
        core.count_down((due != u64::MAX).then(|| due.saturating_sub(now)));
    }
}

fn post(core: &mut Core, on: usize, vector: u8, is_level: bool) {
    if POSTED[on].post(vector, is_level) && on != core.index {
        // SAFETY: a kick to a core of ours.
        unsafe { core.apic.nmi(FACES[on].apic_id.load(Relaxed)) };
    }
}

/// Sends what the I/O APIC has to say, or this core's own virtual local APIC.
pub(super) fn send(core: &mut Core, message: Message, is_own: bool) {
    let Some(own) = core.vcpu.as_ref() else { return };
    let (domain, own) = (own.domain, own.id);
    for (vcpu, &on) in domain.cores.iter().enumerate() {
        let on = usize::from(on);
        let address = POSTED[on].address(apic_id(vcpu as u32));
        if !address.is_named_by(message.to, is_own && vcpu == own) {
            continue;
        }
        match message.delivery {
            Delivery::Fixed(vector) => post(core, on, vector, message.is_level),
            // Whoever comes first is as good as any.
            Delivery::LowestPriority(vector) => return post(core, on, vector, message.is_level),
            Delivery::Nmi => ask(core, on, Request::Nmi),
            // INIT and start-up to oneself are for nobody.
            Delivery::Init if vcpu != own => ask(core, on, Request::Init),
            Delivery::StartUp(page) if vcpu != own => ask(core, on, Request::StartUp { page }),
            Delivery::Init | Delivery::StartUp(_) | Delivery::Smi | Delivery::External => {}
        }
    }
}

/// The sibling is there, since its domain is; so its answer has nothing to say.
fn ask(core: &mut Core, on: usize, request: Request) {
    let _: Result<u64, Errno> = core.ask(on, request);
}
