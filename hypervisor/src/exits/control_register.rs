//! Writes to CR0 and CR4 that touch what the hypervisor keeps: NE, CD and NW of CR0, and what a guest may not have of
//! CR4. Reads never exit; they see the shadow.

use vmx::exit::ControlRegister;
use vmx::field;
use vmx::injection::Injection;

use crate::core::Core;
use crate::core::guest_state::CR4_ALLOWED;

const CR0_PE: u64 = 1;
const CR0_TS: u64 = 1 << 3;
const CR0_PG: u64 = 1 << 31;
/// PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
const CR0_DEFINED: u64 = 0xe005_003f;

pub(super) fn handle(core: &mut Core, access: ControlRegister) {
    let done = match access {
        ControlRegister::Write(0, register) => {
            let value = operand(core, register);
            write_cr0(core, value)
        }
        ControlRegister::Write(4, register) => {
            let value = operand(core, register);
            write_cr4(core, value)
        }
        ControlRegister::ClearTaskSwitched => {
            let value = core.vmcs.get(field::GUEST_CR0) & !CR0_TS;
            write_cr0(core, value)
        }
        // LMSW changes PE (it can only set it), MP, EM and TS.
        ControlRegister::LoadMachineStatus(source) => {
            let now = core.vmcs.get(field::GUEST_CR0);
            write_cr0(core, now & !0xe | u64::from(source) & 0xf)
        }
        _ => None,
    };
    match done {
        Some(()) => core.advance(),
        None => core.inject(Injection::GENERAL_PROTECTION),
    }
}

fn operand(core: &Core, register: u8) -> u64 {
    core.frame.registers.by_number(register).unwrap_or_else(|| core.vmcs.get(field::GUEST_RSP))
}

/// What the processor itself would refuse is refused; the caches stay on whatever the guest says.
fn write_cr0(core: &mut Core, value: u64) -> Option<()> {
    let paging_without_protection = value & CR0_PG != 0 && value & CR0_PE == 0;
    let now = core.vmcs.get(field::GUEST_CR0);
    // Turning paging on or off switches modes: the processor does that where only the guest's own bits change.
    if value & !CR0_DEFINED != 0 || paging_without_protection || (value ^ now) & CR0_PG != 0 {
        return switch_paging(core, value, now);
    }
    core.vmcs.write(field::CR0_READ_SHADOW, value);
    let real = core.capabilities.cr0(value & !(1 << 29 | 1 << 30), true);
    core.vmcs.write(field::GUEST_CR0, real);
    Some(())
}

/// A write that changes PG together with bits of ours: first ours are put in the shadow, then the guest does the
/// instruction again, which no longer differs from the shadow there and so does not exit.
fn switch_paging(core: &mut Core, value: u64, now: u64) -> Option<()> {
    if value & !CR0_DEFINED != 0 || value & CR0_PG != 0 && value & CR0_PE == 0 {
        return None;
    }
    const OWNED: u64 = 1 << 5 | 1 << 29 | 1 << 30;
    core.vmcs.write(field::CR0_READ_SHADOW, now & !OWNED | value & OWNED);
    let rip = core.vmcs.get(field::GUEST_RIP);
    let length: u32 = vmx::exit::ReadExit::read(&core.vmcs, field::EXIT_INSTRUCTION_LENGTH);
    // `handle` moves on by the instruction's length: so it is done again.
    core.vmcs.write(field::GUEST_RIP, rip.wrapping_sub(u64::from(length)));
    Some(())
}

fn write_cr4(core: &mut Core, value: u64) -> Option<()> {
    const VMXE: u64 = 1 << 13;
    if value & !CR4_ALLOWED & !(1 << 6) != 0 {
        return None;
    }
    // Machine-check enable is the hypervisor's; the guest sees what it wrote.
    core.vmcs.write(field::CR4_READ_SHADOW, value);
    let allowed = value & CR4_ALLOWED & core.capabilities.cr4_may();
    core.vmcs.write(field::GUEST_CR4, allowed | VMXE);
    Some(())
}
