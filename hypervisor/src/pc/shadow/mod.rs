//! A full guest without EPT: what exits because the hypervisor keeps shadow page tables for it. Which exit calls what is
//! in the table of [`ept::shadow`]; this is the calling side of it.
//!
//! A reader's path: [`page_fault`], by far the most of it; then [`registers`], where the guest loads its page tables and
//! changes its mode of paging. The memory behind it is [`crate::domain::shadows`].

mod access;
pub mod registers;

use abi::address::{GuestPhys, GuestVirt};
use ept::guest_walk::{PageFaultCode, Request};
use ept::shadow::{Flush, Outcome};
use vmx::exit::{Exit, Interruption, ReadExit};
use vmx::field;
use vmx::injection::Injection;

use super::mmio::{self, Place, Refused};
use super::power;
use crate::core::{Core, guest_state};
use crate::domain::shadows::{Shadows, Stuck};
pub(super) use access::{find, read_physical, write_physical};

/// The vector of #PF.
pub const PAGE_FAULT: u8 = 14;
/// The vector of #DF.
const DOUBLE_FAULT: u8 = 8;
/// RFLAGS.AC.
const ALIGNMENT_CHECK: u64 = 1 << 18;
/// How often in a row an instruction may write to the same table without being carried out.
const MOST_STUCK: u32 = 64;

/// The shadows of the guest on this core.
#[inline(always)]
pub fn shadows(core: &mut Core) -> Option<&mut Shadows> {
    core.home.as_mut()?.shadows.as_mut()
}

/// Whether the guest runs at CPL 3.
pub(super) fn is_user(core: &Core) -> bool {
    core.vmcs.get(field::GUEST_SS_ACCESS_RIGHTS) >> 5 & 3 == 3
}

/// A page fault of the processor's.
pub(super) fn page_fault(core: &mut Core, exception: Interruption) {
    let address = GuestVirt::new(core.vmcs.read(field::EXIT_QUALIFICATION));
    let code = PageFaultCode::from_bits_truncate(core.vmcs.read(field::EXIT_INTERRUPTION_ERROR_CODE));
    let request = if code.contains(PageFaultCode::USER) {
        Request::from_fault(code, true, false)
    } else {
        let alignment_check = core.vmcs.get(field::GUEST_RFLAGS) & ALIGNMENT_CHECK != 0;
        Request::from_fault(code, is_user(core), alignment_check)
    };
    let Some(Shadows { tables, space, .. }) = shadows(core) else { return };
    let answer = tables.fault(space, address, request, 0);
    flush(core, answer.flush);
    match answer.outcome {
        Outcome::Fixed => resume(core, exception),
        Outcome::Inject(code) => inject(core, address, code),
        other => rare(core, exception, other, code.contains(PageFaultCode::WRITE)),
    }
}

#[cold]
#[inline(never)]
fn rare(core: &mut Core, exception: Interruption, outcome: Outcome, is_write: bool) {
    // What touched this memory in the delivery of an event is no instruction.
    let by_instruction = !Interruption(core.vmcs.read(field::IDT_VECTORING_INFO)).is_valid();
    let (gpa, place) = match outcome {
        Outcome::Mmio(gpa) => (gpa, Place::Device),
        Outcome::WriteToTable(gpa) | Outcome::Emulate(gpa) => (gpa, Place::Memory),
        other => {
            log::warn!("core {}: {other:x?}", core.index);
            return core.crash(Exit::Exception(exception));
        }
    };
    let done = if by_instruction { mmio::emulate(core, gpa, is_write, place) } else { Err(Refused::Unknown) };
    match done {
        Ok(()) => {}
        Err(Refused::Fault(address, code)) => inject(core, address, code),
        Err(Refused::Raise(event)) => core.inject(event),
        Err(Refused::Unknown) if matches!(outcome, Outcome::WriteToTable(_)) => {
            give_way(core, exception, gpa)
        }
        Err(Refused::Unknown) => {
            log::warn!("core {}: {outcome:x?} by what is not emulated", core.index);
            core.crash(Exit::Exception(exception));
        }
    }
}

/// An instruction that is not known writes to a table: that is none for now, and the guest does it again. Where this does
/// not help the table is one of those that the instruction itself needs.
fn give_way(core: &mut Core, exception: Interruption, gpa: GuestPhys) {
    let at = (core.vmcs.get(field::GUEST_RIP), gpa.as_u64());
    let Some(Shadows { tables, space, stuck, .. }) = shadows(core) else { return };
    let times = if stuck.at == at { stuck.times + 1 } else { 1 };
    *stuck = Stuck { at, times };
    if times > MOST_STUCK {
        return core.crash(Exit::Exception(exception));
    }
    let dropped = tables.unshadow(space, gpa);
    flush(core, dropped);
    resume(core, exception);
}

/// The guest does what faulted again; what the fault interrupted comes first.
#[inline]
fn resume(core: &mut Core, exception: Interruption) {
    let interrupted = Interruption(core.vmcs.read(field::IDT_VECTORING_INFO));
    if interrupted.is_valid() {
        deliver_again(core, interrupted);
    } else if exception.by_iret() {
        let blocking = core.vmcs.get(field::GUEST_INTERRUPTIBILITY);
        core.vmcs.write(field::GUEST_INTERRUPTIBILITY, blocking | BLOCKED_BY_NMI);
    }
}

/// Interruptibility: no NMI until an IRET.
const BLOCKED_BY_NMI: u32 = 1 << 3;

/// Delivers an event whose delivery exited (SDM 3C, "Resuming Guest Software after Handling an Exception").
#[cold]
#[inline(never)]
fn deliver_again(core: &mut Core, interrupted: Interruption) {
    if interrupted.is_nmi() {
        // It is what an NMI's delivery itself begins with.
        let blocking = core.vmcs.get(field::GUEST_INTERRUPTIBILITY);
        core.vmcs.write(field::GUEST_INTERRUPTIBILITY, blocking & !BLOCKED_BY_NMI);
    }
    let error_code = core.vmcs.read(field::IDT_VECTORING_ERROR_CODE);
    // Of those that an instruction raised.
    let length = core.vmcs.read(field::EXIT_INSTRUCTION_LENGTH);
    core.vmcs.write(field::ENTRY_INSTRUCTION_LENGTH, length);
    core.inject(Injection::again(interrupted, error_code));
}

/// The fault is the guest's own. Where it came in the delivery of an exception the two may make a third (SDM 3A,
/// "Interrupt 8: Double Fault Exception"); otherwise it comes first, and what it interrupted is raised again or was
/// an interrupt that is lost, as with a processor.
pub(super) fn inject(core: &mut Core, address: GuestVirt, code: PageFaultCode) {
    match Interruption(core.vmcs.read(field::IDT_VECTORING_INFO)).hardware_exception() {
        Some(DOUBLE_FAULT) => return power(core, super::Power::Reset),
        Some(PAGE_FAULT) => return core.inject(Injection::DOUBLE_FAULT),
        _ => {}
    }
    // SAFETY: CR2 is the guest's; the hypervisor takes no page faults.
    unsafe {
        core::arch::asm!("mov cr2, {0}", in(reg) address.as_u64(), options(nostack, nomem, preserves_flags));
    }
    core.inject(Injection::page_fault(code.bits()));
}

/// INVLPG.
pub(super) fn invalidate(core: &mut Core, linear: u64) {
    let Some(Shadows { tables, space, .. }) = shadows(core) else { return };
    let dropped = tables.invalidate(space, GuestVirt::new(linear));
    flush(core, dropped);
    core.advance();
}

/// Lets the processor forget what the shadows say no more.
#[inline]
fn flush(core: &mut Core, what: Flush) {
    match what {
        Flush::None => {}
        Flush::Address(address) => guest_state::forget_linear(core, Some(address)),
        Flush::All => guest_state::forget_linear(core, None),
    }
}
