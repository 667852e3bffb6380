//! Real mode, where an exception has no error code: a hypervisor that delivers one there is refused by the processor.

use core::arch::global_asm;

/// Where the table of real-mode vectors lies, and the handler of #GP: memory below 1 MiB, as real mode needs it.
const VECTORS: u32 = 0x6000;
const HANDLER: u32 = 0x7000;

global_asm!(
    r#"
    .section .data.bad_real_mode, "aw"
    .balign 8
bad_real_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
bad_real_gdt_pointer:
    .short 23
    .quad bad_real_gdt
bad_real_vectors_pointer:
    .short 0x3ff
    .quad {vectors}

    .section .text.bad_real_mode, "ax"
    .code64
bad_real_mode:
    cli
    lgdt [bad_real_gdt_pointer]
    lidt [bad_real_vectors_pointer]
    push 8
    mov eax, offset bad_real_compatibility
    push rax
    retfq
    .code32
bad_real_compatibility:
    mov ax, 16
    mov ds, ax
    mov ss, ax
    mov esp, {handler}
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    // Without paging, memory below 1 MiB is there: vector 13 leads to an instruction that jumps to itself.
    mov dword ptr [{vectors} + 13 * 4], {handler}
    mov word ptr [{handler}], 0xfeeb
    and eax, 0xfffffffe
    mov cr0, eax
    mov ecx, 0xdead
    rdmsr
    ud2
    .code64
    .text
    "#,
    vectors = const VECTORS,
    handler = const HANDLER,
);

/// Reads an MSR that is not there, in real mode, and then does nothing for ever.
pub fn general_protection() {
    unsafe extern "C" {
        fn bad_real_mode();
    }
    // SAFETY: this guest does not go on: whatever lay in that memory is not missed.
    unsafe { bad_real_mode() }
}
