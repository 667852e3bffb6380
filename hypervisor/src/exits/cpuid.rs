//! CPUID: answered from the table that boot filled.

use crate::core::Core;

pub(super) fn handle(core: &mut Core) {
    let Some(vcpu) = core.vcpu.as_ref() else { return };
    let registers = &mut core.frame.registers;
    let [eax, ebx, ecx, edx] =
        core.machine.cpuid.answer(registers.rax as u32, registers.rcx as u32, vcpu.asker);
    registers.rax = eax.into();
    registers.rbx = ebx.into();
    registers.rcx = ecx.into();
    registers.rdx = edx.into();
    core.advance();
}
