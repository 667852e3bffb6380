//! What a virtual CPU starts with: the state of its registers, by the way it is started.

use abi::address::GuestPhys;
use vmx::crossing::Registers;

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

/// The registers that differ from one way to start to another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
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
    /// The other general registers.
    pub registers: Registers,
}

/// Present, readable, executable code; accessed, as a VM entry wants it.
pub const CODE: u32 = 0x9b;
/// Present, writable data, accessed.
pub const DATA: u32 = 0x93;
/// A busy 32-bit (or, in long mode, 64-bit) task.
pub const BUSY_TASK: u32 = 0x8b;
/// 4 KiB granularity.
pub const GRANULAR: u32 = 1 << 15;
/// 32-bit code, or stack.
pub const BITS_32: u32 = 1 << 14;
/// 64-bit code.
pub const BITS_64: u32 = 1 << 13;
/// No such segment.
pub const UNUSABLE: u32 = 1 << 16;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NW_CD: u64 = 1 << 29 | 1 << 30;
/// RFLAGS with nothing set: bit 1 always is.
const RFLAGS: u64 = 2;

impl Segment {
    const fn flat(selector: u16, rights: u32) -> Self {
        Self { selector, rights, limit: u32::MAX, base: 0 }
    }
}

impl Context {
    /// The PVH protocol (`docs/misc/pvh` of Xen): 32-bit protected mode, flat segments, paging off, EBX at the start info.
    pub fn pvh(entry: GuestPhys, start_info: GuestPhys) -> Self {
        let data = Segment::flat(0x10, DATA | GRANULAR | BITS_32);
        Self {
            cs: Segment::flat(0x8, CODE | GRANULAR | BITS_32),
            ss: data,
            ds: data,
            es: data,
            fs_gs: data,
            tr: Segment { selector: 0x18, rights: BUSY_TASK, limit: 0x67, base: 0 },
            cr0: CR0_PE | CR0_ET,
            rip: entry.as_u64(),
            rflags: RFLAGS,
            registers: Registers { rbx: start_info.as_u64(), ..Registers::default() },
            ..Self::default()
        }
    }

    /// After INIT and a start-up IPI: real mode, at the start of page `page` (SDM 3A, "Processor State After Reset").
    pub fn real_mode(page: u8) -> Self {
        let data = Segment { selector: 0, rights: DATA, limit: 0xffff, base: 0 };
        let selector = u16::from(page) << 8;
        Self {
            cs: Segment { selector, rights: DATA | 8, limit: 0xffff, base: u64::from(selector) << 4 },
            ss: data,
            ds: data,
            es: data,
            fs_gs: data,
            tr: Segment { selector: 0, rights: BUSY_TASK, limit: 0xffff, base: 0 },
            cr0: CR0_ET | CR0_NW_CD,
            rip: 0,
            rflags: RFLAGS,
            ..Self::default()
        }
    }
}
