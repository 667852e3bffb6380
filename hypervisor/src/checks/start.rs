//! `VCPUOP_initialise`: whether a virtual CPU can start with this state (`arch/x86/hvm/domain.c`), and what it then is.

use abi::xen::errno::Errno;
use abi::xen::vcpu::{Hvm32, Hvm64, HvmContext, MODE_32, MODE_64};

/// A segment register, access rights in the VMCS's format (SDM 3C, "Guest Register State").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Access rights.
    pub rights: u32,
    /// Limit in bytes.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

/// The state that a virtual CPU starts with; what it does not name is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Code.
    pub cs: Segment,
    /// Stack.
    pub ss: Segment,
    /// Data.
    pub ds: Segment,
    /// More data.
    pub es: Segment,
    /// The other two data segments.
    pub fs_gs: Segment,
    /// Task.
    pub tr: Segment,
    /// As the guest shall see it.
    pub cr0: u64,
    /// Its page tables.
    pub cr3: u64,
    /// As the guest shall see it.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// Where it starts.
    pub rip: u64,
    /// Its stack.
    pub rsp: u64,
    /// Its flags.
    pub rflags: u64,
    /// RAX, RCX, RDX, RBX, RBP, RSI, RDI.
    pub registers: [u64; 7],
}

/// Present, readable, executable code; accessed, as a VM entry wants it.
const CODE: u32 = 0x9b;
/// Present, writable data, accessed.
const DATA: u32 = 0x93;
/// A busy 32-bit (or, in long mode, 64-bit) task.
const BUSY_TASK: u32 = 0x8b;
/// 64-bit code.
const BITS_64: u32 = 1 << 13;
/// 32-bit code, or stack.
const BITS_32: u32 = 1 << 14;
/// Limit in units of 4 KiB.
const GRANULAR: u32 = 1 << 15;
/// No such segment.
const UNUSABLE: u32 = 1 << 16;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// EFER's bits that a guest may set: SCE, LME, LMA, NXE.
const EFER_DEFINED: u64 = 1 | EFER_LME | EFER_LMA | 1 << 11;
/// RFLAGS bits that there are; bit 1 is always set.
const RFLAGS_DEFINED: u64 = 0x003f_7fd5;
const RFLAGS_ONE: u64 = 2;

impl Segment {
    const fn flat(selector: u16, rights: u32) -> Self {
        Self { selector, rights, limit: u32::MAX, base: 0 }
    }
}

impl Start {
    /// The PVH protocol (`docs/misc/pvh` of Xen): 32-bit protected mode, flat segments, paging off, EBX at the start info.
    pub fn pvh(entry: u64, start_info: u64) -> Self {
        let data = Segment::flat(0x10, DATA | GRANULAR | BITS_32);
        Self {
            cs: Segment::flat(0x8, CODE | GRANULAR | BITS_32),
            ss: data,
            ds: data,
            es: data,
            fs_gs: data,
            tr: Segment { selector: 0x18, rights: BUSY_TASK, limit: 0x67, base: 0 },
            cr0: CR0_PE | CR0_ET,
            rip: entry,
            rflags: RFLAGS_ONE,
            registers: [0, 0, 0, start_info, 0, 0, 0],
            ..Self::default()
        }
    }

    /// Whether that is in real mode, which takes EPT.
    pub const fn is_real_mode(&self) -> bool {
        self.cr0 & CR0_PE == 0
    }

    /// After INIT and a start-up IPI: real mode, at the start of page `page` (SDM 3A, "Processor State After Reset").
    pub fn real_mode(page: u8) -> Self {
        let data = Segment { selector: 0, rights: DATA, limit: 0xffff, base: 0 };
        let selector = u16::from(page) << 8;
        Self {
            cs: Segment { selector, rights: CODE, limit: 0xffff, base: u64::from(selector) << 4 },
            ss: data,
            ds: data,
            es: data,
            fs_gs: data,
            tr: Segment { selector: 0, rights: BUSY_TASK, limit: 0xffff, base: 0 },
            cr0: CR0_ET | CR0_NW | CR0_CD,
            rflags: RFLAGS_ONE,
            ..Self::default()
        }
    }

    /// After a reset, in real mode still, but for a code segment that lies at the end of the first 4 GiB (SDM 3A,
    /// "Processor State After Reset"). EDX tells which processor it is.
    pub fn reset(signature: u32) -> Self {
        let start = Self::real_mode(0);
        let cs = Segment { selector: 0xf000, base: 0xffff_0000, ..start.cs };
        Self { cs, rip: 0xfff0, registers: [0, 0, signature.into(), 0, 0, 0, 0], ..start }
    }

    /// What a guest asks for. `cr4_allowed`: the bits of CR4 that it may set.
    pub fn from_guest(context: &HvmContext, cr4_allowed: u64) -> Result<Self, Errno> {
        if context.pad != 0 {
            return Err(Errno::EINVAL);
        }
        let mut start = match context.mode {
            MODE_32 => Self::from_32(&context.regs32())?,
            MODE_64 => Self::from_64(&context.regs64())?,
            _ => return Err(Errno::EINVAL),
        };
        if start.efer & EFER_LME != 0 {
            start.efer |= EFER_LMA;
        }
        // In long mode there is paging, and by tables of PAE's format: Xen leaves it to the VM entry to find out.
        let long = start.efer & EFER_LMA == 0 || start.cr0 & CR0_PG != 0 && start.cr4 & CR4_PAE != 0;
        let paging = start.cr0 & CR0_PG == 0 || start.cr0 & CR0_PE != 0;
        let cache = start.cr0 & CR0_NW == 0 || start.cr0 & CR0_CD != 0;
        let bits = start.cr4 & !cr4_allowed == 0 && start.efer & !EFER_DEFINED == 0;
        if long && paging && cache && bits { Ok(start) } else { Err(Errno::EINVAL) }
    }

    fn from_32(regs: &Hvm32) -> Result<Self, Errno> {
        if regs.pad1 != 0 || regs.pad2 != [0; 3] {
            return Err(Errno::EINVAL);
        }
        let cs = segment(Kind::Code, regs.cs_ar, regs.cs_limit, regs.cs_base)?;
        let ds = segment(Kind::Data, regs.ds_ar, regs.ds_limit, regs.ds_base)?;
        let ss = segment(Kind::Stack, regs.ss_ar, regs.ss_limit, regs.ss_base)?;
        let es = segment(Kind::Data, regs.es_ar, regs.es_limit, regs.es_base)?;
        let tr = segment(Kind::Task, regs.tr_ar, regs.tr_limit, regs.tr_base)?;
        let level = |segment: Segment| segment.rights >> 5 & 3;
        let below = |segment: Segment| segment.rights & UNUSABLE != 0 || level(segment) <= level(cs);
        let mode = regs.efer & EFER_LMA == 0 || regs.efer & EFER_LME != 0;
        if regs.eip > cs.limit || level(ss) != level(cs) || !below(ds) || !below(es) || !mode {
            return Err(Errno::EINVAL);
        }
        let [eax, ecx, edx, ebx, ebp, esi, edi] =
            [regs.eax, regs.ecx, regs.edx, regs.ebx, regs.ebp, regs.esi, regs.edi].map(u64::from);
        Ok(Self {
            cs,
            ss,
            ds,
            es,
            fs_gs: Segment { rights: UNUSABLE, ..Segment::default() },
            tr,
            cr0: regs.cr0.into(),
            cr3: regs.cr3.into(),
            cr4: regs.cr4.into(),
            efer: regs.efer,
            rip: regs.eip.into(),
            rsp: regs.esp.into(),
            rflags: u64::from(regs.eflags) & RFLAGS_DEFINED | RFLAGS_ONE,
            registers: [eax, ecx, edx, ebx, ebp, esi, edi],
        })
    }

    fn from_64(regs: &Hvm64) -> Result<Self, Errno> {
        let canonical = (regs.rip as i64) << 16 >> 16 == regs.rip as i64;
        if !canonical || regs.cr0 & CR0_PG == 0 || regs.cr4 & CR4_PAE == 0 || regs.efer & EFER_LME == 0 {
            return Err(Errno::EINVAL);
        }
        let data = Segment::flat(0, DATA | GRANULAR | BITS_32);
        Ok(Self {
            cs: Segment::flat(0, CODE | GRANULAR | BITS_64),
            ss: data,
            ds: data,
            es: data,
            fs_gs: Segment { rights: UNUSABLE, ..Segment::default() },
            tr: Segment { selector: 0, rights: BUSY_TASK, limit: 0x67, base: 0 },
            cr0: regs.cr0,
            cr3: regs.cr3,
            cr4: regs.cr4,
            efer: regs.efer,
            rip: regs.rip,
            rsp: regs.rsp,
            rflags: regs.rflags & RFLAGS_DEFINED | RFLAGS_ONE,
            registers: [regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rbp, regs.rsi, regs.rdi],
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Data,
    Stack,
    Task,
}

/// A segment by its descriptor's bits: type 0 to 3, S 4, DPL 5 and 6, P 7, AVL 8, L 9, D/B 10, G 11. Its limit counts
/// pages where G is set.
fn segment(kind: Kind, attributes: u16, limit: u32, base: u32) -> Result<Segment, Errno> {
    const CODE_TYPE: u32 = 8;
    const WRITABLE_OR_READABLE: u32 = 2;
    const CODE_OR_DATA: u32 = 1 << 4;
    const PRESENT: u32 = 1 << 7;
    const DESCRIPTOR_G: u32 = 1 << 11;
    let bits = u32::from(attributes);
    if bits >> 12 != 0 {
        return Err(Errno::EINVAL);
    }
    if bits == 0 {
        let unused = Segment { rights: UNUSABLE, limit, base: base.into(), selector: 0 };
        return if kind == Kind::Data { Ok(unused) } else { Err(Errno::EINVAL) };
    }
    // Accessed, or busy.
    let bits = bits | if kind == Kind::Task { 2 } else { 1 };
    let wanted = match kind {
        Kind::Code => bits & CODE_TYPE != 0,
        Kind::Stack => bits & CODE_TYPE == 0 && bits & WRITABLE_OR_READABLE != 0,
        Kind::Data => bits & CODE_TYPE == 0 || bits & WRITABLE_OR_READABLE != 0,
        Kind::Task => bits & 15 == 11,
    };
    let system = bits & CODE_OR_DATA == 0;
    if !wanted || system != (kind == Kind::Task) || bits & PRESENT == 0 {
        return Err(Errno::EINVAL);
    }
    let limit = if bits & DESCRIPTOR_G != 0 { limit << 12 | 0xfff } else { limit };
    // The VMCS has the upper four from bit 12 on, and bits 8 to 11 reserved.
    let rights = bits & 0xff | (bits >> 8) << 12;
    // A VM entry wants G to agree with the limit.
    let rights = if limit >> 20 != 0 { rights | GRANULAR } else { rights };
    Ok(Segment { selector: 0, rights, limit, base: base.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CR4: u64 = CR4_PAE | 1 << 4;

    fn flat() -> Hvm32 {
        Hvm32 {
            eip: 0x10_0000,
            cr0: 0x11,
            cs_ar: 0xc9b,
            ds_ar: 0xc93,
            ss_ar: 0xc93,
            es_ar: 0,
            tr_ar: 0x8b,
            cs_limit: u32::MAX,
            ds_limit: u32::MAX,
            ss_limit: u32::MAX,
            tr_limit: 0x67,
            ..Hvm32::default()
        }
    }

    fn long() -> Hvm64 {
        Hvm64 { rip: 0x1000, cr0: 0x8000_0011, cr4: CR4_PAE, efer: EFER_LME, ..Hvm64::default() }
    }

    fn of(regs: Hvm32) -> Result<Start, Errno> {
        Start::from_guest(&HvmContext::new32(regs), CR4)
    }

    #[test]
    fn protected_mode() {
        let start = of(flat()).unwrap();
        assert_eq!(start.cs, Segment { selector: 0, rights: 0xc09b, limit: u32::MAX, base: 0 });
        assert_eq!((start.es.rights, start.tr.rights), (UNUSABLE, 0x8b));
        assert_eq!((start.rip, start.rflags), (0x10_0000, 2));
    }

    #[test]
    fn long_mode() {
        let start = Start::from_guest(&HvmContext::new64(long()), CR4).unwrap();
        assert_eq!((start.efer, start.cs.rights), (EFER_LME | EFER_LMA, 0xa09b));
        for bad in [
            Hvm64 { rip: 1 << 47, ..long() },
            Hvm64 { cr0: 0x11, ..long() },
            Hvm64 { cr4: 0, ..long() },
            Hvm64 { cr4: CR4_PAE | 1 << 13, ..long() },
            Hvm64 { efer: 0, ..long() },
            Hvm64 { efer: EFER_LME | 1 << 12, ..long() },
        ] {
            assert_eq!(Start::from_guest(&HvmContext::new64(bad), CR4), Err(Errno::EINVAL), "{bad:?}");
        }
    }

    #[test]
    fn what_can_not_start() {
        for bad in [
            Hvm32 { pad1: 1, ..flat() },
            Hvm32 { pad2: [0, 0, 1], ..flat() },
            Hvm32 { cs_ar: 0, ..flat() },
            Hvm32 { cs_ar: 0xc93, ..flat() },
            Hvm32 { cs_ar: 0x1c9b, ..flat() },
            Hvm32 { ss_ar: 0xc91, ..flat() },
            Hvm32 { ss_ar: 0xcf3, ..flat() },
            Hvm32 { ds_ar: 0xcf3, ..flat() },
            Hvm32 { ds_ar: 0xc99, ..flat() },
            Hvm32 { ds_ar: 0xc13, ..flat() },
            Hvm32 { tr_ar: 0x9b, ..flat() },
            Hvm32 { tr_ar: 0x83, ..flat() },
            Hvm32 { cs_ar: 0x49b, cs_limit: 0xfff, ..flat() },
            Hvm32 { efer: EFER_LMA, ..flat() },
            Hvm32 { efer: EFER_LME, ..flat() },
            Hvm32 { cr4: 1 << 13, ..flat() },
            Hvm32 { cr0: 0x8000_0010, ..flat() },
        ] {
            assert_eq!(of(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        let strange = HvmContext { mode: 2, ..HvmContext::new32(flat()) };
        assert_eq!(Start::from_guest(&strange, CR4), Err(Errno::EINVAL));
        let strange = HvmContext { pad: 1, ..HvmContext::new32(flat()) };
        assert_eq!(Start::from_guest(&strange, CR4), Err(Errno::EINVAL));
    }

    #[test]
    fn a_start_up_ipi_names_a_page() {
        let start = Start::real_mode(0x9a);
        assert_eq!((start.cs.selector, start.cs.base, start.rip), (0x9a00, 0x9_a000, 0));
        assert_eq!(start.cr0 & (CR0_PE | CR0_PG), 0);
        assert!(start.is_real_mode() && !Start::pvh(0, 0).is_real_mode());
    }

    #[test]
    fn a_reset_starts_below_4_gib() {
        let start = Start::reset(0x606);
        assert_eq!((start.cs.base + start.rip, start.cs.selector), (0xffff_fff0, 0xf000));
        assert_eq!(start.registers[2], 0x606);
        assert!(start.is_real_mode());
    }
}
