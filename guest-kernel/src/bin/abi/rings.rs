//! A call from privilege level 1, which must be refused whatever it is.
//!
//! The program has no segments of that level, so it makes some, goes there for one instruction, and comes back by an
//! exception, whose handler is told to mend it.

use core::arch::asm;
use core::cell::UnsafeCell;

use abi::xen::hypercall::XEN_VERSION;
use boot::descriptors::{CODE, DATA, InterruptFrame};
use guest_kernel::platform::atoll::interrupts;
use x86::dtables::{DescriptorTablePointer, lgdt, sgdt};

use crate::tally::{Error, Tally};

/// 64-bit code and data of privilege level 1.
const SEGMENTS: [u64; 2] = [0x00af_ba00_0000_ffff, 0x00cf_b200_0000_ffff];
/// Entries that a table of descriptors may have here.
const ENTRIES: usize = 16;
const INVALID_OPCODE: u64 = 6;

struct Table(UnsafeCell<[u64; ENTRIES]>);

// SAFETY: one core, one thread: `from_level_1` alone uses it, and the processor meanwhile.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([0; ENTRIES]));

pub fn check(tally: &mut Tally) {
    interrupts::on_exception(come_back);
    tally.check("a call from privilege level 1", from_level_1(XEN_VERSION), Err(Error::EPERM));
    tally.check("a call that is not there, from privilege level 1", from_level_1(1000), Err(Error::EPERM));
}

/// Back to where the kernel runs, behind the two bytes of UD2. False: the exception was not ours.
fn come_back(frame: &mut InterruptFrame) -> bool {
    let ours = frame.vector == INVALID_OPCODE && frame.cs & 3 == 1;
    if ours {
        frame.cs = CODE.bits().into();
        frame.ss = DATA.bits().into();
        frame.rip += 2;
    }
    ours
}

/// Makes a call there. What it left in RAX.
fn from_level_1(number: u64) -> u64 {
    let mut own: DescriptorTablePointer<u64> = DescriptorTablePointer::default();
    let table = TABLE.0.get();
    // SAFETY: stores a register.
    unsafe { sgdt(&mut own) };
    let entries = (usize::from(own.limit) + 1) / 8;
    assert!(entries + SEGMENTS.len() <= ENTRIES, "a table of {entries} descriptors");
    // SAFETY: the table in use, copied into one of this program's own with room for two more.
    unsafe {
        core::ptr::copy_nonoverlapping(own.base, table.cast::<u64>(), entries);
        table.cast::<[u64; 2]>().byte_add(entries * 8).write(SEGMENTS);
    }
    let (code, data) = (entries as u64 * 8 + 1, entries as u64 * 8 + 9);
    let result;
    // SAFETY: the new table has all that the old one has, where that has it. IRETQ goes to the label, with this stack, at
    // level 1, which may use all of the kernel's pages; the exception of UD2 is taken on a stack of its own and
    // returns behind it, to level 0.
    unsafe {
        lgdt(&DescriptorTablePointer::<[u64; ENTRIES]> { limit: (ENTRIES * 8 - 1) as u16, base: table });
        asm!(
            "mov {stack}, rsp",
            "push {data}",
            "push {stack}",
            "pushfq",
            "push {code}",
            "lea {stack}, [rip + 2f]",
            "push {stack}",
            "iretq",
            "2:",
            "vmcall",
            "ud2",
            stack = out(reg) _,
            data = in(reg) data,
            code = in(reg) code,
            inlateout("rax") number => result,
            inlateout("rdi") 0u64 => _,
            inlateout("rsi") 0u64 => _,
        );
        lgdt(&own);
    }
    result
}
