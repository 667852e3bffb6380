//! A call from code of 32 bits, under the page tables of a kernel of 64.
//!
//! Xen has a second form of each call for such code, with the arguments in EBX, ECX, EDX, ESI and EDI. Atoll has not, and
//! says so to every call.

use core::arch::global_asm;

use abi::xen::hypercall::{SCHED_OP, XEN_VERSION};
use abi::xen::version::INTERFACE_VERSION;

use crate::tally::{Error, Tally};

global_asm!(
    r#"
    .section .data.abi_compatibility, "aw"
    .balign 8
abi_mode_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00af9b000000ffff
abi_mode_gdt_pointer:
    .short 23
    .quad abi_mode_gdt

    .section .text.abi_compatibility, "ax"
    .code64
    // EDI: the call; its arguments are noughts. EAX: what it left there.
abi_call_from_compatibility:
    push rbx
    pushfq
    cli
    sub rsp, 16
    sgdt [rsp]
    mov ecx, cs
    push rcx
    lgdt [abi_mode_gdt_pointer]
    mov eax, edi
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    push 8
    push offset abi_mode_compatibility
    retfq
    .code32
abi_mode_compatibility:
    vmcall
    // A far jump to the code of 64 bits.
    .byte 0xea
    .long abi_mode_long
    .short 16
    .code64
abi_mode_long:
    // The upper half may be anything after a visit to code of 32 bits.
    mov esp, esp
    pop rcx
    lgdt [rsp]
    add rsp, 16
    push rcx
    push offset abi_mode_back
    retfq
abi_mode_back:
    popfq
    pop rbx
    ret
    .text
    "#
);

fn call(number: u64) -> u64 {
    let answer: i32;
    // SAFETY: kernel, stack and the table lie below 4 GiB, mapped to themselves; all it changes it puts back, and the
    // registers that a function may spoil are named.
    unsafe {
        core::arch::asm!(
            "call abi_call_from_compatibility",
            in("rdi") number,
            lateout("eax") answer,
            clobber_abi("sysv64"),
        );
    }
    i64::from(answer) as u64
}

pub fn check(tally: &mut Tally) {
    let version = call(XEN_VERSION);
    let is_xens = (INTERFACE_VERSION..5 << 16).contains(&version);
    tally.that("a call of 32 bits", version, is_xens || version == Error::ENOSYS.as_rax());
    if !is_xens {
        // It would be a yield, were it looked at.
        tally.check("another call of 32 bits", call(SCHED_OP), Err(Error::ENOSYS));
    }
}
