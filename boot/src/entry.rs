//! The first instructions: from the loader's 32-bit protected mode to `atoll_main` in long mode.
//!
//! 1. The loader jumps to one of two entries, which note who called and where its information lies.
//! 2. An identity map of the first 4 GiB is laid out in 2 MiB pages (all rights; `atoll_main` replaces it).
//! 3. PAE, SSE, long mode, no-execute, write-protect and paging go on, in the order of SDM 3A, "Initializing IA-32e
//!    Mode". SSE has to be on before any Rust runs: the compiler uses it for moves.
//! 4. `atoll_main(magic, information)` is called on the boot stack, and never returns.

use core::arch::global_asm;

/// Bytes of the boot stack. Below it lies one page that `atoll_main` may unmap: see [`crate::image`].
pub const BOOT_STACK_BYTES: usize = 128 * 1024;

/// First word of a multiboot2 header, and the header's length with its one tag, which ends it.
const MULTIBOOT2_MAGIC: u32 = 0xe852_50d6;
const MULTIBOOT2_LENGTH: u32 = 24;

global_asm!(
    r#"
    .section .boot.header, "a"
    .balign 8
multiboot2_header:
    .long {multiboot2_magic}, 0, {multiboot2_length}, {multiboot2_checksum}
    .short 0, 0
    .long 8

    // XEN_ELFNOTE_PHYS32_ENTRY: where a PVH loader enters.
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad atoll_entry_pvh

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pd:
    .skip 4 * 4096
    .global boot_stack_guard
boot_stack_guard:
    .skip 4096
    .skip {stack_bytes}
    .global boot_stack_top
boot_stack_top:

    .section .rodata.boot, "a"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
boot_gdt_pointer:
    .short 23
    .long boot_gdt

    .section .text.boot, "ax"
    .code32
    .global atoll_entry_pvh
atoll_entry_pvh:
    mov eax, {pvh_magic}
    .global atoll_entry_multiboot2
atoll_entry_multiboot2:
    cli
    cld
    mov esp, offset boot_stack_top
    mov edi, eax
    mov esi, ebx

    mov eax, offset boot_pdpt
    or eax, 3
    mov [boot_pml4], eax
    mov eax, offset boot_pd
    or eax, 3
    xor ecx, ecx
2:  mov [boot_pdpt + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jne 2b
    mov eax, 0x83
    xor ecx, ecx
2:  mov [boot_pd + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 2048
    jne 2b

    mov eax, cr4
    or eax, {cr4}
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, {efer}
    wrmsr
    mov eax, {cr0}
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    mov eax, offset boot_long_mode
    push 8
    push eax
    retf

    .code64
boot_long_mode:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rsp, offset boot_stack_top
    mov ecx, 0xc0000080
    mov eax, {efer_long}
    xor edx, edx
    wrmsr
    xor ebp, ebp
    call atoll_main
    ud2
    "#,
    multiboot2_magic = const MULTIBOOT2_MAGIC,
    multiboot2_length = const MULTIBOOT2_LENGTH,
    multiboot2_checksum = const 0u32.wrapping_sub(MULTIBOOT2_MAGIC + MULTIBOOT2_LENGTH),
    stack_bytes = const BOOT_STACK_BYTES,
    pvh_magic = const crate::handover::PVH_MAGIC,
    cr4 = const crate::trampoline::CR4_BOOT,
    efer = const crate::trampoline::EFER_BOOT,
    efer_long = const crate::trampoline::EFER,
    cr0 = const crate::trampoline::CR0_BOOT,
);
