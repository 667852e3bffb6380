//! What a full guest finds in its memory when it starts, and in what state: as the firmware and the boot loader of a PC
//! would leave them.
//!
//! ```text
//! 0x00000000  RAM: 640 KiB, in which a boot protocol keeps its tables (`linux`)
//! 0x000a0000  nothing that a kernel may use, but for
//! 0x000e0000  ACPI tables (`acpi`)
//! 0x00100000  RAM to the end: the kernel first, its ramdisk at the top
//! ```
//!
//! The devices that the tables speak of are the hypervisor's (`hypervisor/src/pc`).

mod acpi;
mod firmware;
mod linux;
mod multiboot;
mod pvh;

use alloc::{borrow::Cow, format, vec::Vec};
use core::ops::Range;

use abi::address::GuestPhys;
use abi::control::wire::Refusal;
use abi::xen::vcpu::{Hvm32, HvmContext};

use super::refusal::refuse;

/// Where low RAM ends: above it a PC's firmware keeps data of its own, then come video memory and ROMs.
const LOW_END: u64 = 0x9_fc00;
/// Where ACPI tables lie.
const TABLES: Range<u64> = 0xe_0000..0x10_0000;
/// Where high RAM begins.
const HIGH: u64 = 0x10_0000;

/// `E820Entry::kind`: RAM, and what is none.
const RAM: u32 = 1;
const RESERVED: u32 = 2;
const ACPI: u32 = 3;

/// What is to be written into a guest's memory, and how it starts.
#[derive(Debug)]
pub struct Layout<'a> {
    /// What lies where.
    pub pieces: Vec<(GuestPhys, Cow<'a, [u8]>)>,
    /// How virtual CPU 0 starts.
    pub start: Start,
}

/// How a virtual CPU starts.
#[derive(Debug)]
pub enum Start {
    /// In this state.
    Context(HvmContext),
    /// As after a reset, at the end of the firmware that is among the pieces.
    Reset,
}

#[cfg(test)]
impl Start {
    fn regs32(&self) -> Hvm32 {
        match self {
            Self::Context(context) => context.regs32(),
            Self::Reset => panic!("a reset has no context"),
        }
    }
}

/// What a full guest is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The file it starts from.
    pub kernel: &'a [u8],
    /// Its ramdisk; empty: it has none.
    pub ramdisk: &'a [u8],
    /// Its command line.
    pub command_line: &'a str,
    /// Bytes of its memory.
    pub memory: u64,
    /// Its virtual CPUs.
    pub vcpus: u32,
}

impl<'a> Layout<'a> {
    /// The layout for a PC's firmware, which is in the place of the kernel.
    pub fn of_firmware(facts: &Facts<'a>) -> Result<Self, Refusal> {
        check_memory(facts)?;
        firmware::layout(facts)
    }

    /// The layout for a kernel, by what kind of file that is.
    pub fn new(facts: &Facts<'a>) -> Result<Self, Refusal> {
        check_memory(facts)?;
        let mut layout = if linux::is_bzimage(facts.kernel) {
            linux::layout(facts)?
        } else if let Some(header) = multiboot::header(facts.kernel) {
            multiboot::layout(facts, header)?
        } else {
            pvh::layout(facts)?
        };
        layout.pieces.push((GuestPhys::new(TABLES.start), acpi::tables(TABLES.start, facts.vcpus).into()));
        Ok(layout)
    }
}

fn check_memory(facts: &Facts<'_>) -> Result<(), Refusal> {
    if facts.memory > HIGH {
        return Ok(());
    }
    Err(refuse("a PC has memory above 1 MiB, and this guest has none", "give it more memory"))
}

/// What lies where in so much memory.
fn memory_map(memory: u64) -> [(Range<u64>, u32); 4] {
    [(0..LOW_END, RAM), (LOW_END..TABLES.start, RESERVED), (TABLES, ACPI), (HIGH..memory, RAM)]
}

/// 32-bit protected mode with flat segments, paging and interrupts off, and these registers.
fn flat_start(entry: u32, set: impl FnOnce(&mut Hvm32)) -> Start {
    const CODE: u16 = 0xc9b;
    const DATA: u16 = 0xc93;
    const BUSY_TASK: u16 = 0x8b;
    let mut registers = Hvm32 {
        eip: entry,
        eflags: 2,
        cr0: 0x11,
        cs_ar: CODE,
        ds_ar: DATA,
        ss_ar: DATA,
        es_ar: DATA,
        tr_ar: BUSY_TASK,
        cs_limit: u32::MAX,
        ds_limit: u32::MAX,
        ss_limit: u32::MAX,
        es_limit: u32::MAX,
        tr_limit: 0x67,
        ..Hvm32::default()
    };
    set(&mut registers);
    Start::Context(HvmContext::new32(registers))
}

fn unusable(what: impl core::fmt::Display) -> Refusal {
    refuse(format!("the kernel cannot be started: {what}"), "give a kernel that a boot loader would start")
}
