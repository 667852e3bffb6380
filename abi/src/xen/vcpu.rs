//! What a virtual CPU starts with (`hvm/hvm_vcpu.h`): the argument of `VCPUOP_initialise` for HVM and PVH guests.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `vcpu_hvm_context.mode`: [`HvmContext::regs32`] counts (`VCPU_HVM_MODE_32B`).
pub const MODE_32: u32 = 0;
/// `vcpu_hvm_context.mode`: [`HvmContext::regs64`] counts (`VCPU_HVM_MODE_64B`).
pub const MODE_64: u32 = 1;

/// `vcpu_hvm_context`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct HvmContext {
    /// [`MODE_32`] or [`MODE_64`].
    pub mode: u32,
    /// Zero.
    pub pad: u32,
    /// The registers, a union of [`Hvm32`] and [`Hvm64`].
    pub regs: [u64; 15],
}

/// `vcpu_hvm_x86_32`. Access rights as in a descriptor: type in bits 0 to 3, S in 4, DPL in 5 and 6, P in 7, AVL in 8, L
/// in 9, D/B in 10, G in 11.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the registers are named as in the SDM")]
pub struct Hvm32 {
    pub eax: u32,
    pub ecx: u32,
    pub edx: u32,
    pub ebx: u32,
    pub esp: u32,
    pub ebp: u32,
    pub esi: u32,
    pub edi: u32,
    pub eip: u32,
    pub eflags: u32,
    pub cr0: u32,
    pub cr3: u32,
    pub cr4: u32,
    pub pad1: u32,
    pub efer: u64,
    pub cs_base: u32,
    pub ds_base: u32,
    pub ss_base: u32,
    pub es_base: u32,
    pub tr_base: u32,
    pub cs_limit: u32,
    pub ds_limit: u32,
    pub ss_limit: u32,
    pub es_limit: u32,
    pub tr_limit: u32,
    pub cs_ar: u16,
    pub ds_ar: u16,
    pub ss_ar: u16,
    pub es_ar: u16,
    pub tr_ar: u16,
    pub pad2: [u16; 3],
}

/// `vcpu_hvm_x86_64`: long mode, flat segments.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the registers are named as in the SDM")]
pub struct Hvm64 {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

const _: () = assert!(size_of::<Hvm32>() == 120 && size_of::<Hvm64>() == 112);
const _: () = assert!(size_of::<HvmContext>() == 128);

impl HvmContext {
    /// A context of 32-bit registers.
    pub fn new32(regs: Hvm32) -> Self {
        Self { mode: MODE_32, pad: 0, regs: zerocopy::transmute!(regs) }
    }

    /// A context of 64-bit registers.
    pub fn new64(regs: Hvm64) -> Self {
        let words: [u64; 14] = zerocopy::transmute!(regs);
        let mut all = [0; 15];
        all[..14].copy_from_slice(&words);
        Self { mode: MODE_64, pad: 0, regs: all }
    }

    /// As 32-bit registers.
    pub fn regs32(&self) -> Hvm32 {
        zerocopy::transmute!(self.regs)
    }

    /// As 64-bit registers.
    pub fn regs64(&self) -> Hvm64 {
        let [words @ .., _] = self.regs;
        zerocopy::transmute!(words)
    }
}
