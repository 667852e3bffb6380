//! Waking a core: the code it runs from real mode to Rust, and the words it is given.
//!
//! A start-up IPI names a page below 1 MiB; the core begins there in real mode, turns on long mode in one step (SDM
//! 3A, "Initializing IA-32e Mode"; paging and protection together, from real mode), takes its stack and its argument
//! from the words that the page's end points to, and calls Rust.

/// CR0 of a core that enters Rust: PE, MP, ET, NE, WP, PG.
pub const CR0_BOOT: u32 = 0x8001_0033;
/// CR4: PAE, OSFXSR, OSXMMEXCPT.
pub const CR4_BOOT: u32 = 0x620;
/// EFER on the way into long mode: LME, NXE.
pub const EFER_BOOT: u32 = 0x900;
/// EFER from then on: SCE too, which no one of us uses. It is what Linux has, and whoever has the same EFER as those around
/// and within it need not switch it.
pub const EFER: u32 = 0x901;

/// Where [`PageWords`] lie within the trampoline's page.
pub const WORDS_OFFSET: usize = 4096 - size_of::<PageWords>();

/// What lies at the end of the page. The same for all cores: the page is never written again.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PageWords {
    /// Page tables, below 4 GiB; the trampoline's page is identity-mapped and executable there.
    pub cr3: u64,
    /// Where the [`CoreWords`] lie.
    pub core_words: u64,
}

/// What one woken core is given, in ordinary data.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CoreWords {
    /// The core's stack, its first free byte.
    pub stack: u64,
    /// `extern "sysv64" fn(u64) -> !`.
    pub entry: u64,
    /// What it is called with.
    pub argument: u64,
}

/// The code to copy to the start of the page.
#[cfg(feature = "bare")]
pub fn code() -> &'static [u8] {
    unsafe extern "C" {
        static trampoline_start: u8;
        static trampoline_end: u8;
    }
    let (start, end) = (&raw const trampoline_start, &raw const trampoline_end);
    // SAFETY: both symbols bound the same constant bytes, below.
    unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) }
}

// CS is the page's segment, so offsets are relative to the page; what needs an absolute address is made from EBX.
#[cfg(feature = "bare")]
core::arch::global_asm!(
    r#"
    .section .rodata.trampoline, "a"
    .balign 16
trampoline_start:
    .code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    xorl %ebx, %ebx
    movw %ax, %bx
    shll $4, %ebx
    leal (trampoline_gdt - trampoline_start)(%ebx), %eax
    movl %eax, trampoline_gdt_pointer - trampoline_start + 2
    lgdtl trampoline_gdt_pointer - trampoline_start
    movl %cr4, %eax
    orl ${cr4}, %eax
    movl %eax, %cr4
    movl {words}, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl ${efer}, %eax
    wrmsr
    leal (trampoline_long - trampoline_start)(%ebx), %eax
    movl %eax, trampoline_far - trampoline_start
    movl ${cr0}, %eax
    movl %eax, %cr0
    ljmpl *(trampoline_far - trampoline_start)

    .code64
trampoline_long:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq {words} + 8(%rbx), %rbx
    movq (%rbx), %rsp
    movq 8(%rbx), %rax
    movq 16(%rbx), %rdi
    xorl %ebp, %ebp
    call *%rax
    ud2

    .balign 8
trampoline_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
trampoline_gdt_pointer:
    .short 23
    .long 0
trampoline_far:
    .long 0
    .short 8
trampoline_end:
    .code64
    "#,
    words = const WORDS_OFFSET,
    cr4 = const CR4_BOOT,
    efer = const EFER,
    cr0 = const CR0_BOOT,
    options(att_syntax),
);
