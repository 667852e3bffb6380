//! What a PVH guest is told at its start (`arch-x86/hvm/start_info.h`): one block of bytes with the start info, the list of
//! modules, the memory map, the command line and, for a guest that is no member of the mesh, ACPI tables, made for the
//! address it will lie at.

use alloc::{format, string::String, vec::Vec};
use core::ops::Range;

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::control::wire::Refusal;

use super::acpi;
use super::builder::SPECIAL_PAGES;
use super::image::Image;
use super::refusal::refuse;

/// `XEN_HVM_START_MAGIC_VALUE`
const MAGIC: u32 = 0x336e_c578;
/// Version 1: the first that has a memory map.
const VERSION: u32 = 1;
/// `sizeof(struct hvm_start_info)`, that of one `hvm_modlist_entry` and of one `hvm_memmap_table_entry`.
const START_INFO: u64 = 56;
const MODULE: u64 = 32;
const MAP_ENTRY: u64 = 24;
/// `XEN_HVM_MEMMAP_TYPE_*`
const RAM: u32 = 1;
const RESERVED: u32 = 2;
const ACPI: u32 = 3;

/// The longest command line, as Linux has it too.
pub const MAX_COMMAND_LINE: usize = 2047;
/// Where the block lies unless the image is there: low, where no guest's heap begins.
const USUAL_PLACE: u64 = 0x9000;
/// Where ACPI tables lie, as a PC has them: below 1 MiB, where no guest looks for memory.
const TABLES: Range<u64> = 0xe_0000..0x10_0000;

/// Bytes to be written into a guest, and where.
#[derive(Debug)]
pub struct StartInfo {
    /// Where the start info lies, which is what the guest finds in EBX.
    pub address: GuestPhys,
    /// What is to be written: the block itself, and the tables.
    pub pieces: Vec<(GuestPhys, Vec<u8>)>,
    /// Where the ramdisk goes.
    pub ramdisk: GuestPhys,
}

/// What a guest is to be told.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Bytes of its memory.
    pub memory: u64,
    /// Its command line.
    pub command_line: &'a str,
    /// Bytes of its ramdisk; 0: it has none.
    pub ramdisk: u64,
    /// For how many virtual CPUs it gets ACPI tables; `None`: it gets none.
    pub acpi: Option<u32>,
}

impl StartInfo {
    /// What a guest with this image is told.
    pub fn new(image: &Image<'_>, facts: &Facts<'_>) -> Result<Self, Refusal> {
        let &Facts { memory, command_line, ramdisk, acpi } = facts;
        if command_line.len() > MAX_COMMAND_LINE || command_line.contains('\0') {
            return Err(refuse(
                format!("the command line has {} bytes, or a zero among them", command_line.len()),
                format!("keep it to {MAX_COMMAND_LINE} bytes of text"),
            ));
        }
        let map = memory_map(memory, acpi.is_some());
        let modules = u64::from(ramdisk > 0);
        let length =
            START_INFO + modules * MODULE + map.len() as u64 * MAP_ENTRY + command_line.len() as u64 + 1;
        let full = |what: &str| {
            refuse(
                format!("the image fills the guest's memory and leaves no room for its {what}"),
                format!("give it at least {} MiB", ((memory + ramdisk) >> 20) + 1),
            )
        };
        // The ramdisk at the very top, so that the rest finds room below.
        let disk = top(image, memory, ramdisk).ok_or_else(|| full("ramdisk"))?;
        let address = place(image, memory, length, disk..memory).ok_or_else(|| full("start info"))?;
        if acpi.is_some() && (memory < TABLES.end || !image.leaves_free(&TABLES)) {
            return Err(refuse(
                "the image lies, or memory ends, where a guest finds its ACPI tables",
                format!("keep {:#x} to {:#x} free for them", TABLES.start, TABLES.end),
            ));
        }

        let list = address + START_INFO;
        let entries = list + modules * MODULE;
        let command = entries + map.len() as u64 * MAP_ENTRY;
        let mut bytes = Vec::new();
        let word = |bytes: &mut Vec<u8>, word: u64| bytes.extend(word.to_le_bytes());
        let half = |bytes: &mut Vec<u8>, half: u32| bytes.extend(half.to_le_bytes());
        for value in [MAGIC, VERSION, 0, modules as u32] {
            half(&mut bytes, value);
        }
        let rsdp = if acpi.is_some() { TABLES.start } else { 0 };
        for value in [if modules > 0 { list } else { 0 }, command, rsdp, entries] {
            word(&mut bytes, value);
        }
        half(&mut bytes, map.len() as u32);
        half(&mut bytes, 0);
        if modules > 0 {
            for value in [disk, ramdisk, 0, 0] {
                word(&mut bytes, value);
            }
        }
        for (range, kind) in map {
            word(&mut bytes, range.start);
            word(&mut bytes, range.end - range.start);
            half(&mut bytes, kind);
            half(&mut bytes, 0);
        }
        bytes.extend(command_line.bytes());
        bytes.push(0);
        let mut pieces = Vec::from([(GuestPhys::new(address), bytes)]);
        if let Some(vcpus) = acpi {
            pieces.push((GuestPhys::new(TABLES.start), acpi::tables(TABLES.start, vcpus)));
        }
        Ok(Self { address: GuestPhys::new(address), pieces, ramdisk: GuestPhys::new(disk) })
    }
}

/// What lies where. A kernel with ACPI is one that believes its memory map, and wants to know what is not RAM.
fn memory_map(memory: u64, acpi: bool) -> Vec<(Range<u64>, u32)> {
    if !acpi || memory <= TABLES.end {
        return Vec::from([(0..memory, RAM)]);
    }
    Vec::from([(0..TABLES.start, RAM), (TABLES, ACPI), (TABLES.end..memory, RAM), (SPECIAL_PAGES, RESERVED)])
}

/// What a guest gets for a command line: that there is a mesh, its name, its core and its watchdog, then what was configured. In this
/// order, because a kernel may cut what is too long for it.
pub fn command_line(configured: &str, name: &str, core: u32, watchdog: u32) -> String {
    let watchdog = if watchdog == 0 { String::new() } else { format!(" watchdog={watchdog}") };
    String::from(format!("mesh=1 name={name} core={core}{watchdog} {}", configured.trim()).trim_end())
}

/// The highest place for so many bytes that the image leaves free.
fn top(image: &Image<'_>, memory: u64, bytes: u64) -> Option<u64> {
    let start = memory.checked_sub(bytes.checked_next_multiple_of(PAGE_SIZE)?)?;
    image.leaves_free(&(start..memory)).then_some(start)
}

/// The usual place, or the top of memory below the ramdisk, whichever the image leaves free.
fn place(image: &Image<'_>, memory: u64, length: u64, ramdisk: Range<u64>) -> Option<u64> {
    let length = length.checked_next_multiple_of(PAGE_SIZE)?;
    let top = ramdisk.start.checked_sub(length)?;
    let free = |start: &u64| -> bool {
        let range: Range<u64> = *start..*start + length;
        range.end <= memory.min(ramdisk.start) && image.leaves_free(&range)
    };
    [USUAL_PLACE, top].into_iter().find(free)
}

#[cfg(test)]
mod tests {
    use super::super::image::Segment;
    use super::*;
    use alloc::vec;

    fn image(range: Range<u64>) -> Image<'static> {
        let segment = Segment { address: GuestPhys::new(range.start), bytes: &[], range };
        Image { entry: GuestPhys::new(0), segments: vec![segment] }
    }

    const MEMORY: u64 = 2 << 20;
    const FACTS: Facts<'static> = Facts { memory: MEMORY, command_line: "", ramdisk: 0, acpi: None };

    /// The 64-bit word at this place of the block.
    fn word(info: &StartInfo, at: usize) -> u64 {
        u64::from_le_bytes(info.pieces[0].1[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn all_its_pointers_lead_into_the_block() {
        let info = StartInfo::new(&image(0..0), &Facts { command_line: "quiet", ..FACTS }).unwrap();
        let base = info.address.as_u64();
        assert_eq!(&info.pieces[0].1[..4], &MAGIC.to_le_bytes());
        let command = (word(&info, 24) - base) as usize;
        assert_eq!(&info.pieces[0].1[command..], b"quiet\0");
        let map = (word(&info, 40) - base) as usize;
        assert_eq!([word(&info, map), word(&info, map + 8)], [0, MEMORY]);
        assert_eq!((word(&info, 16), word(&info, 32)), (0, 0), "no modules, no ACPI tables");
    }

    #[test]
    fn linux_is_told_of_ramdisk_tables_and_holes() {
        let facts = Facts { command_line: "quiet", ramdisk: 5000, acpi: Some(2), ..FACTS };
        let info = StartInfo::new(&image(0x10_0000..0x18_0000), &facts).unwrap();
        let base = info.address.as_u64();
        let list = (word(&info, 16) - base) as usize;
        assert_eq!([word(&info, list), word(&info, list + 8)], [MEMORY - 0x2000, 5000]);
        assert_eq!(info.ramdisk.as_u64(), MEMORY - 0x2000);
        assert_eq!(word(&info, 32), 0xe_0000);
        assert_eq!(info.pieces[1].0.as_u64(), 0xe_0000);
        assert!(info.pieces[1].1.starts_with(b"RSD PTR "));
        let map = (word(&info, 40) - base) as usize;
        let kinds: Vec<u64> = (0..4).map(|entry| word(&info, map + entry * 24 + 16)).collect();
        assert_eq!(kinds, [1, 3, 1, 2]);
        let command = (word(&info, 24) - base) as usize;
        assert_eq!(&info.pieces[0].1[command..], b"quiet\0");
    }

    #[test]
    fn it_evades_the_image() {
        let low = image(0x8000..0xa000);
        assert_eq!(StartInfo::new(&low, &FACTS).unwrap().address.as_u64(), MEMORY - 0x1000);
        let all = image(0..MEMORY);
        assert!(StartInfo::new(&all, &FACTS).is_err());
        assert!(StartInfo::new(&image(0..0), &Facts { memory: 0x1000, ..FACTS }).is_ok());
        let high = Facts { ramdisk: 4096, ..FACTS };
        assert!(StartInfo::new(&image(0x10_0000..MEMORY), &high).unwrap_err().what.contains("ramdisk"));
        let tables = Facts { acpi: Some(1), ..FACTS };
        assert!(StartInfo::new(&image(0xe_0000..0xe_1000), &tables).unwrap_err().what.contains("ACPI"));
    }

    #[test]
    fn command_lines() {
        assert_eq!(command_line("", "web", 3, 0), "mesh=1 name=web core=3");
        assert_eq!(command_line(" a=b ", "web", 3, 5), "mesh=1 name=web core=3 watchdog=5 a=b");
        let long = String::from_utf8(vec![b'a'; MAX_COMMAND_LINE + 1]).unwrap();
        assert!(StartInfo::new(&image(0..0), &Facts { command_line: &long, ..FACTS }).is_err());
        assert!(StartInfo::new(&image(0..0), &Facts { command_line: "a\0b", ..FACTS }).is_err());
    }
}
