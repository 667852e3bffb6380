//! GDT, TSS and IDT of one core, for the hypervisor and the guest kernels alike.
//!
//! All 256 vectors lead through one stub to one Rust handler, which gets an [`InterruptFrame`] and decides by vector.
//! Every vector runs on a stack from the interrupt stack table, because the prebuilt core library uses the red zone
//! below the stack pointer: an interrupt on the current stack would overwrite live values. A stack of that table is
//! always entered at its top, so no two vectors that can nest may share one; [`ist_of`] says who shares with whom.
//!
//! A core hands in one [`DescriptorTables`] that lives for ever, calls [`DescriptorTables::prepare`], replaces single
//! gates where it has a stub of its own, and then [`DescriptorTables::load`]s them.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicPtr, Ordering};

use x86::Ring;
use x86::bits64::segmentation::load_cs;
use x86::bits64::task::TaskStateSegment;
use x86::dtables::{DescriptorTablePointer, lgdt, lidt};
use x86::segmentation::{SegmentSelector, load_ds, load_es, load_fs, load_gs, load_ss};
use x86::task::load_tr;

/// Selector of the 64-bit code segment.
pub const CODE: SegmentSelector = SegmentSelector::new(1, Ring::Ring0);
/// Selector of the data segment, for SS, DS and ES.
pub const DATA: SegmentSelector = SegmentSelector::new(2, Ring::Ring0);
/// Selector of the task state segment.
pub const TSS: SegmentSelector = SegmentSelector::new(3, Ring::Ring0);

/// Stacks in the interrupt stack table.
pub const IST_COUNT: usize = 7;
/// Non-maskable interrupt.
pub const IST_NMI: u8 = 1;
/// Double fault.
pub const IST_DOUBLE_FAULT: u8 = 2;
/// Machine check.
pub const IST_MACHINE_CHECK: u8 = 3;
/// Debug exception, which can hit inside any other.
pub const IST_DEBUG: u8 = 4;
/// Every other exception. A handler that faults itself is beyond return, so these may share.
pub const IST_EXCEPTION: u8 = 5;
/// External interrupts. Their handlers keep interrupts off, so these may share.
pub const IST_INTERRUPT: u8 = 6;
/// Nobody's: for a gate that is overridden with a stack of its own.
pub const IST_SPARE: u8 = 7;

/// The stack that `vector` is taken on.
pub const fn ist_of(vector: u8) -> u8 {
    match vector {
        1 => IST_DEBUG,
        2 => IST_NMI,
        8 => IST_DOUBLE_FAULT,
        18 => IST_MACHINE_CHECK,
        0..32 => IST_EXCEPTION,
        _ => IST_INTERRUPT,
    }
}

/// What a handler sees of the interrupted code, and may change before it goes on.
///
/// Registers that a Rust function preserves are not here: the handler preserves them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct InterruptFrame {
    /// XMM0 to XMM15.
    pub xmm: [u128; 16],
    /// General register.
    pub r11: u64,
    /// General register.
    pub r10: u64,
    /// General register.
    pub r9: u64,
    /// General register.
    pub r8: u64,
    /// General register.
    pub rdi: u64,
    /// General register.
    pub rsi: u64,
    /// General register.
    pub rdx: u64,
    /// General register.
    pub rcx: u64,
    /// General register.
    pub rax: u64,
    /// Which gate was taken.
    pub vector: u64,
    /// The exception's error code, 0 where it has none.
    pub error_code: u64,
    /// Where it happened.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

const _: () =
    assert!(offset_of!(InterruptFrame, r11) == 256, "the stub stores the XMM registers below the others");
const _: () =
    assert!(offset_of!(InterruptFrame, vector) == 256 + 9 * 8, "the stub pushes nine general registers");
const _: () = assert!(size_of::<InterruptFrame>() == 256 + 16 * 8, "keeps the stack aligned at the call");

/// What all gates lead to.
pub type Handler = extern "C" fn(&mut InterruptFrame);

/// The image's handler: every core of it loads the same one.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Bytes between two entry points in the table of stubs.
const STUB_STRIDE: u64 = 16;

core::arch::global_asm!(
    // One stub a vector: an error code of zero where the processor pushes none, then the vector.
    ".pushsection .text.atoll_vector_stubs, \"ax\", @progbits",
    ".balign 16",
    "atoll_vector_stubs:",
    ".set atoll_vector, 0",
    ".rept 256",
    ".balign 16",
    ".if !((atoll_vector == 8) | ((atoll_vector >= 10) & (atoll_vector <= 14)) | (atoll_vector == 17) | (atoll_vector == 21) | (atoll_vector == 29) | (atoll_vector == 30))",
    "push 0",
    ".endif",
    "push atoll_vector",
    "jmp {common}",
    ".set atoll_vector, atoll_vector + 1",
    ".endr",
    ".popsection",
    common = sym common,
);

unsafe extern "C" {
    /// Start of the stubs; an address, never called.
    #[link_name = "atoll_vector_stubs"]
    static VECTOR_STUBS: [u8; STUB_STRIDE as usize * 256];
}

/// Builds the [`InterruptFrame`], calls the handler, takes the frame down again and returns from the interrupt.
#[unsafe(naked)]
extern "C" fn common() {
    core::arch::naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "sub rsp, 256",
        "movaps [rsp], xmm0",
        "movaps [rsp + 16], xmm1",
        "movaps [rsp + 32], xmm2",
        "movaps [rsp + 48], xmm3",
        "movaps [rsp + 64], xmm4",
        "movaps [rsp + 80], xmm5",
        "movaps [rsp + 96], xmm6",
        "movaps [rsp + 112], xmm7",
        "movaps [rsp + 128], xmm8",
        "movaps [rsp + 144], xmm9",
        "movaps [rsp + 160], xmm10",
        "movaps [rsp + 176], xmm11",
        "movaps [rsp + 192], xmm12",
        "movaps [rsp + 208], xmm13",
        "movaps [rsp + 224], xmm14",
        "movaps [rsp + 240], xmm15",
        "cld",
        "mov rdi, rsp",
        "call qword ptr [rip + {handler}]",
        "movaps xmm0, [rsp]",
        "movaps xmm1, [rsp + 16]",
        "movaps xmm2, [rsp + 32]",
        "movaps xmm3, [rsp + 48]",
        "movaps xmm4, [rsp + 64]",
        "movaps xmm5, [rsp + 80]",
        "movaps xmm6, [rsp + 96]",
        "movaps xmm7, [rsp + 112]",
        "movaps xmm8, [rsp + 128]",
        "movaps xmm9, [rsp + 144]",
        "movaps xmm10, [rsp + 160]",
        "movaps xmm11, [rsp + 176]",
        "movaps xmm12, [rsp + 192]",
        "movaps xmm13, [rsp + 208]",
        "movaps xmm14, [rsp + 224]",
        "movaps xmm15, [rsp + 240]",
        "add rsp, 256",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "add rsp, 16",
        "iretq",
        handler = sym HANDLER,
    )
}

/// A 64-bit interrupt gate: present, ring 0, interrupts off on entry (SDM 3A, "64-Bit Mode IDT").
pub const fn interrupt_gate(entry: u64, ist: u8) -> u128 {
    let low = (entry & 0xffff)
        | (CODE.bits() as u64) << 16
        | (ist as u64) << 32
        | 0x8e << 40
        | (entry >> 16 & 0xffff) << 48;
    low as u128 | ((entry >> 32) as u128) << 64
}

/// A 64-bit TSS descriptor, available (SDM 3A, "TSS Descriptor in 64-bit mode").
const fn tss_descriptor(base: u64) -> [u64; 2] {
    let limit = size_of::<TaskStateSegment>() as u64 - 1;
    [limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56, base >> 32]
}

/// Code, ring 0, 64-bit, accessed already so that a read-only GDT would do.
const CODE_DESCRIPTOR: u64 = 0x00af_9b00_0000_ffff;
/// Data, ring 0, writable, accessed already.
const DATA_DESCRIPTOR: u64 = 0x00cf_9300_0000_ffff;

/// The tables of one core.
#[repr(C, align(64))]
pub struct DescriptorTables {
    idt: [u128; 256],
    gdt: [u64; 5],
    tss: TaskStateSegment,
}

/// Where the loaded tables lie: what the host-state area of a VMCS asks for.
#[derive(Clone, Copy, Debug)]
pub struct Bases {
    /// GDTR base.
    pub gdt: u64,
    /// IDTR base.
    pub idt: u64,
    /// TR base.
    pub tss: u64,
}

impl DescriptorTables {
    /// Tables with nothing in them.
    pub const fn new() -> Self {
        Self { idt: [0; 256], gdt: [0; 5], tss: TaskStateSegment::new() }
    }

    /// Fills all tables. `stack_tops` are the ends of the stacks IST 1 to IST 7, in that order.
    pub fn prepare(&mut self, stack_tops: &[u64; IST_COUNT]) {
        self.tss = TaskStateSegment::new();
        self.tss.ist = *stack_tops;
        self.tss.iomap_base = size_of::<TaskStateSegment>() as u16;
        let [tss_low, tss_high] = tss_descriptor(&raw const self.tss as u64);
        self.gdt = [0, CODE_DESCRIPTOR, DATA_DESCRIPTOR, tss_low, tss_high];
        let stubs = &raw const VECTOR_STUBS as u64;
        for vector in 0..=255 {
            self.idt[vector as usize] =
                interrupt_gate(stubs + u64::from(vector) * STUB_STRIDE, ist_of(vector));
        }
    }

    /// Lets `vector` lead to the code at `entry` on stack `ist` (1 to 7) instead of to the handler. That code finds
    /// the bare interrupt frame and must save whatever it touches.
    pub fn override_gate(&mut self, vector: u8, entry: u64, ist: u8) {
        self.idt[vector as usize] = interrupt_gate(entry, ist & 7);
    }

    /// Loads GDTR, all segment registers, TR and IDTR. FS and GS bases become zero.
    ///
    /// # Safety
    /// Runs in 64-bit mode at ring 0, with `self` mapped at the address it has now for as long as the core runs. The
    /// stacks given to `prepare` must be writable, mapped, and nobody else's; overridden gates must lead to code that
    /// ends in IRETQ. All cores of an image give the same `handler`.
    pub unsafe fn load(&'static mut self, handler: Handler) -> Bases {
        HANDLER.store(handler as *mut (), Ordering::SeqCst);
        let null = SegmentSelector::from_raw(0);
        // SAFETY: the caller vouches for mode, mapping and stacks; `prepare` filled the descriptors that the selectors
        // name, and the new code segment equals the one in use.
        unsafe {
            lgdt(&DescriptorTablePointer::new_from_slice(&self.gdt));
            load_cs(CODE);
            load_ss(DATA);
            load_ds(DATA);
            load_es(DATA);
            load_fs(null);
            load_gs(null);
            load_tr(TSS);
            lidt(&DescriptorTablePointer::new_from_slice(&self.idt));
        }
        Bases {
            gdt: self.gdt.as_ptr() as u64,
            idt: self.idt.as_ptr() as u64,
            tss: &raw const self.tss as u64,
        }
    }
}

impl Default for DescriptorTables {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_spreads_its_entry_over_three_fields() {
        let gate = interrupt_gate(0x1122_3344_5566_7788, 3);
        assert_eq!(gate as u64, 0x5566_8e03_0008_7788);
        assert_eq!((gate >> 64) as u64, 0x1122_3344);
    }

    #[test]
    fn a_tss_descriptor_spreads_its_base_over_four_fields() {
        assert_eq!(tss_descriptor(0x1122_3344_5566_7788), [0x5500_8966_7788_0067, 0x1122_3344]);
    }

    #[test]
    fn no_stack_is_shared_by_vectors_that_nest() {
        let alone = [1u8, 2, 8, 18];
        for vector in 0..=255 {
            let sharers = (0..=255u8).filter(|&other| ist_of(other) == ist_of(vector)).count();
            assert_eq!(sharers == 1, alone.contains(&vector), "vector {vector}");
            assert!((1..=IST_COUNT as u8).contains(&ist_of(vector)));
        }
    }

    #[test]
    fn prepare_points_each_gate_at_its_own_stub() {
        let mut tables = DescriptorTables::new();
        tables.prepare(&[0x1000; IST_COUNT]);
        tables.override_gate(2, 0xdead_0000, IST_NMI);
        let entry = |gate: u128| (gate & 0xffff) as u64 | ((gate >> 48 & 0xffff) as u64) << 16;
        assert_eq!(
            entry(tables.idt[255]).wrapping_sub(entry(tables.idt[0])) & 0xffff_ffff,
            255 * STUB_STRIDE
        );
        assert_eq!(entry(tables.idt[2]), 0xdead_0000);
        assert_eq!({ tables.tss.ist }, [0x1000; IST_COUNT]);
    }
}
