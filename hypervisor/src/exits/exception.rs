//! Exceptions that are intercepted, though they are the guest's own: #AC and #DB.
//!
//! A guest can arrange that delivering one of them raises it again, without end and without an instruction boundary at
//! which an NMI would be taken (Xen's advisory XSA-156). As an exit each round has such a boundary, so that core stays
//! within reach. The exception then goes to the guest, as it would have.

use vmx::exit::{Interruption, ReadExit};
use vmx::field;
use vmx::injection::Injection;

use crate::core::Core;

/// The exception bitmap: #DB, #AC, #MC.
pub const INTERCEPTED: u32 = 1 << DEBUG | 1 << ALIGNMENT_CHECK | 1 << MACHINE_CHECK;

const DEBUG: u8 = 1;
const ALIGNMENT_CHECK: u8 = 17;
const MACHINE_CHECK: u8 = 18;

pub(super) fn handle(core: &mut Core, exception: Interruption) {
    match exception.vector() {
        MACHINE_CHECK => panic!("machine check on core {}", core.index),
        DEBUG => add_to_dr6(core.vmcs.read(field::EXIT_QUALIFICATION)),
        _ => {}
    }
    let error_code = core.vmcs.read(field::EXIT_INTERRUPTION_ERROR_CODE);
    // INT1 is redelivered as an instruction, and those have a length.
    let length = core.vmcs.read(field::EXIT_INSTRUCTION_LENGTH);
    core.vmcs.write(field::ENTRY_INSTRUCTION_LENGTH, length);
    core.inject(Injection::again(exception, error_code));
}

/// What a debug exception was for: the exit has it in the qualification instead of DR6, in the same bits (SDM 3C, "Exit
/// Qualification for Debug Exceptions"). DR6 is the guest's while it has the core.
fn add_to_dr6(qualification: u64) {
    const CAUSES: u64 = 0xf | 1 << 13 | 1 << 14;
    let dr6: u64;
    // SAFETY: DR6 only reports; the host takes no debug exceptions.
    unsafe {
        core::arch::asm!("mov {0}, dr6", out(reg) dr6, options(nostack, nomem));
        core::arch::asm!("mov dr6, {0}", in(reg) dr6 & !0xf | qualification & CAUSES, options(nostack, nomem));
    }
}
