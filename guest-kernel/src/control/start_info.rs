//! What a PVH guest is told at its start (`arch-x86/hvm/start_info.h`): one block of bytes with the start info,
//! the memory map and the command line, made for the address it will lie at.

use alloc::{format, string::String, vec::Vec};
use core::ops::Range;

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::control::wire::Refusal;

use super::image::Image;
use super::refusal::refuse;

/// `XEN_HVM_START_MAGIC_VALUE`
const MAGIC: u32 = 0x336e_c578;
/// Version 1: the first that has a memory map.
const VERSION: u32 = 1;
/// `sizeof(struct hvm_start_info)`, that of one `hvm_memmap_table_entry`.
const START_INFO: u64 = 56;
const MAP_ENTRY: u64 = 24;
/// `XEN_HVM_MEMMAP_TYPE_RAM`
const RAM: u32 = 1;

/// The longest command line, as Linux has it too.
pub const MAX_COMMAND_LINE: usize = 2047;
/// Where the block lies unless the image is there: low, where no guest's heap begins.
const USUAL_PLACE: u64 = 0x9000;

/// Bytes to be written into a guest, and where.
#[derive(Debug)]
pub struct StartInfo {
    /// Where the block begins, which is what the guest finds in EBX.
    pub address: GuestPhys,
    /// The block.
    pub bytes: Vec<u8>,
}

impl StartInfo {
    /// What a guest with this image, memory size and command line is told.
    pub fn new(image: &Image<'_>, memory: u64, command_line: &str) -> Result<Self, Refusal> {
        if command_line.len() > MAX_COMMAND_LINE || command_line.contains('\0') {
            return Err(refuse(
                format!("the command line has {} bytes, or a zero among them", command_line.len()),
                format!("keep it to {MAX_COMMAND_LINE} bytes of text"),
            ));
        }
        let length = START_INFO + MAP_ENTRY + command_line.len() as u64 + 1;
        let address = place(image, memory, length).ok_or_else(|| {
            refuse(
                "the image fills the guest's memory and leaves no room for its start info",
                format!("give it at least {} MiB", (memory >> 20) + 1),
            )
        })?;
        let map = address + START_INFO;
        let command = map + MAP_ENTRY;
        let mut bytes = Vec::new();
        let word = |bytes: &mut Vec<u8>, word: u64| bytes.extend(word.to_le_bytes());
        let half = |bytes: &mut Vec<u8>, half: u32| bytes.extend(half.to_le_bytes());
        for value in [MAGIC, VERSION, 0, 0] {
            half(&mut bytes, value);
        }
        // No modules, the command line, no ACPI tables, the memory map of one entry.
        for value in [0, command, 0, map] {
            word(&mut bytes, value);
        }
        half(&mut bytes, 1);
        half(&mut bytes, 0);
        word(&mut bytes, 0);
        word(&mut bytes, memory);
        half(&mut bytes, RAM);
        half(&mut bytes, 0);
        bytes.extend(command_line.bytes());
        bytes.push(0);
        Ok(Self { address: GuestPhys::new(address), bytes })
    }
}

/// What a guest gets for a command line: that there is a mesh, its name and its core, then what was configured. In this
/// order, because a kernel may cut what is too long for it.
pub fn command_line(configured: &str, name: &str, core: u32) -> String {
    String::from(format!("mesh=1 name={name} core={core} {}", configured.trim()).trim_end())
}

/// The usual place, or the top of memory, whichever the image leaves free.
fn place(image: &Image<'_>, memory: u64, length: u64) -> Option<u64> {
    let length = length.checked_next_multiple_of(PAGE_SIZE)?;
    let top = memory.checked_sub(length)?;
    let free = |start: &u64| -> bool {
        let range: Range<u64> = *start..*start + length;
        range.end <= memory && image.leaves_free(&range)
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

    #[test]
    fn all_its_pointers_lead_into_the_block() {
        let info = StartInfo::new(&image(0..0), MEMORY, "quiet").unwrap();
        let word = |at: usize| u64::from_le_bytes(info.bytes[at..at + 8].try_into().unwrap());
        let base = info.address.as_u64();
        assert_eq!(&info.bytes[..4], &MAGIC.to_le_bytes());
        let command = (word(24) - base) as usize;
        assert_eq!(&info.bytes[command..], b"quiet\0");
        let map = (word(40) - base) as usize;
        assert_eq!([word(map), word(map + 8)], [0, MEMORY]);
        assert_eq!(word(32), 0, "no ACPI tables");
    }

    #[test]
    fn it_evades_the_image() {
        let low = image(0x8000..0xa000);
        assert_eq!(StartInfo::new(&low, MEMORY, "").unwrap().address.as_u64(), MEMORY - 0x1000);
        let all = image(0..MEMORY);
        assert!(StartInfo::new(&all, MEMORY, "").is_err());
        assert!(StartInfo::new(&image(0..0), 0x1000, "").is_ok());
    }

    #[test]
    fn command_lines() {
        assert_eq!(command_line("", "web", 3), "mesh=1 name=web core=3");
        assert_eq!(command_line(" a=b ", "web", 3), "mesh=1 name=web core=3 a=b");
        let long = String::from_utf8(vec![b'a'; MAX_COMMAND_LINE + 1]).unwrap();
        assert!(StartInfo::new(&image(0..0), MEMORY, &long).is_err());
        assert!(StartInfo::new(&image(0..0), MEMORY, "a\0b").is_err());
    }
}
