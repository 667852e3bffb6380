//! Multiboot, version 0.6.96 of its specification (GNU GRUB's manual, "Multiboot Specification"): kernels that a boot loader
//! starts in 32-bit protected mode with a magic number in EAX and a list of facts at EBX. Flat images, which say
//! themselves where they go, and ELF32 files; the ramdisk is the one module.

use alloc::{borrow::Cow, format, vec, vec::Vec};
use core::ops::Range;

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::control::wire::Refusal;
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;

use super::{Facts, HIGH, LOW_END, Layout, flat_start, memory_map, unusable};
use crate::control::refusal::refuse;

/// What a header begins with; it lies within so many bytes, at a multiple of four.
const HEADER_MAGIC: u32 = 0x1bad_b002;
const SEARCHED: usize = 8192;
/// What EAX holds.
const BOOT_MAGIC: u32 = 0x2bad_b002;
/// Header flags: modules at pages, and a memory map, both of which are always given; a video mode; addresses of a flat
/// image.
const KNOWN_REQUIREMENTS: u32 = 1 | 1 << 1;
const REQUIREMENTS: u32 = 0xffff;
const HAS_ADDRESSES: u32 = 1 << 16;
/// Where the facts lie, and behind them the map, the module and the texts.
const INFO: u64 = 0x1_0000;
const INFO_BYTES: usize = 116;
/// Flags of the facts: memory, command line, modules, memory map, boot loader's name.
const FLAGS: u32 = 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
/// More program headers than any linker makes without being asked to.
const MAX_SEGMENTS: usize = 64;

/// What goes where.
struct Loaded<'a> {
    pieces: Vec<(GuestPhys, Cow<'a, [u8]>)>,
    /// All that the kernel takes, with the zeroes behind what is in the file.
    range: Range<u64>,
    entry: u32,
}

/// Where the header is; `None`: this is no multiboot kernel.
pub(super) fn header(file: &[u8]) -> Option<usize> {
    let words = file.get(..file.len().min(SEARCHED))?;
    (0..words.len().saturating_sub(11)).step_by(4).find(|&at| {
        let word = |index: usize| word(words, at + index * 4).unwrap_or(0);
        word(0) == HEADER_MAGIC && word(0).wrapping_add(word(1)).wrapping_add(word(2)) == 0
    })
}

/// Lays out a kernel whose header is at `header`.
pub(super) fn layout<'a>(facts: &Facts<'a>, header: usize) -> Result<Layout<'a>, Refusal> {
    let flags = word(facts.kernel, header + 4).unwrap_or(0);
    if flags & REQUIREMENTS & !KNOWN_REQUIREMENTS != 0 {
        return Err(unusable(format!("it requires of its boot loader what is not there (flags {flags:#x})")));
    }
    let loaded = if flags & HAS_ADDRESSES != 0 { flat(facts, header)? } else { elf32(facts)? };
    let full = || {
        let need = (loaded.range.end + facts.ramdisk.len() as u64 + PAGE_SIZE).div_ceil(1 << 20);
        refuse(
            "the kernel and its module do not fit into the guest's memory",
            format!("give it at least {need} MiB"),
        )
    };
    if loaded.range.start < HIGH || loaded.range.end > facts.memory {
        return Err(if loaded.range.start < HIGH {
            unusable(format!("it wants to be at {:#x}, below 1 MiB", loaded.range.start))
        } else {
            full()
        });
    }
    let module = facts.memory.saturating_sub(facts.ramdisk.len() as u64) & !(PAGE_SIZE - 1);
    if module < loaded.range.end {
        return Err(full());
    }
    let info = info(facts, module)?;
    let mut pieces = loaded.pieces;
    pieces.push((GuestPhys::new(module), Cow::Borrowed(facts.ramdisk)));
    pieces.push((GuestPhys::new(INFO), info.into()));
    let start =
        flat_start(loaded.entry, |registers| (registers.eax, registers.ebx) = (BOOT_MAGIC, INFO as u32));
    Ok(Layout { pieces, start })
}

/// "The address fields of Multiboot header".
fn flat<'a>(facts: &Facts<'a>, header: usize) -> Result<Loaded<'a>, Refusal> {
    let file = facts.kernel;
    let field = |index: usize| {
        word(file, header + index * 4).map(u64::from).ok_or_else(|| unusable("its header is cut off"))
    };
    let (at, start, end, bss_end, entry) = (field(3)?, field(4)?, field(5)?, field(6)?, field(7)?);
    let wrong = || unusable("the addresses in its header contradict each other");
    // What lies before the header in memory lies as far before it in the file.
    let before = at.checked_sub(start).ok_or_else(wrong)?;
    let from = (header as u64).checked_sub(before).ok_or_else(wrong)? as usize;
    let bytes = file.get(from..).ok_or_else(wrong)?;
    let bytes = match end {
        0 => bytes,
        end => bytes.get(..end.checked_sub(start).ok_or_else(wrong)? as usize).ok_or_else(wrong)?,
    };
    let range = start..(start + bytes.len() as u64).max(bss_end);
    if !range.contains(&entry) {
        return Err(unusable(format!("its entry point {entry:#x} lies outside of it")));
    }
    let pieces = vec![(GuestPhys::new(start), Cow::Borrowed(bytes))];
    Ok(Loaded { pieces, range, entry: entry as u32 })
}

fn elf32<'a>(facts: &Facts<'a>) -> Result<Loaded<'a>, Refusal> {
    let file = facts.kernel;
    let not_elf = |error| unusable(format!("it is neither a flat image nor an ELF file ({error})"));
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(not_elf)?;
    let headers = elf.segments().ok_or_else(|| unusable("it has no program headers"))?;
    if headers.len() > MAX_SEGMENTS {
        return Err(unusable(format!("it has {} program headers", headers.len())));
    }
    let mut loaded = Loaded {
        pieces: Vec::new(),
        range: u64::MAX..u64::MAX,
        entry: u32::try_from(elf.ehdr.e_entry).unwrap_or(0),
    };
    for header in headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0) {
        let wrong = || unusable(format!("its segment at {:#x} is damaged", header.p_paddr));
        let bytes = elf.segment_data(&header).map_err(|_| wrong())?;
        let end = header.p_paddr.checked_add(header.p_memsz).ok_or_else(wrong)?;
        if end > 1 << 32 || header.p_filesz > header.p_memsz {
            return Err(wrong());
        }
        let so_far = if loaded.pieces.is_empty() { 0 } else { loaded.range.end };
        loaded.range = loaded.range.start.min(header.p_paddr)..so_far.max(end);
        loaded.pieces.push((GuestPhys::new(header.p_paddr), Cow::Borrowed(bytes)));
    }
    if !loaded.range.contains(&loaded.entry.into()) {
        return Err(unusable(format!("its entry point {:#x} lies in no segment", loaded.entry)));
    }
    Ok(loaded)
}

/// "Boot information format".
fn info(facts: &Facts<'_>, module: u64) -> Result<Vec<u8>, Refusal> {
    let mut info = vec![0; INFO_BYTES];
    let mut append = |bytes: &[u8]| {
        let at = INFO as u32 + info.len() as u32;
        info.extend_from_slice(bytes);
        info.resize(info.len().next_multiple_of(4), 0);
        at
    };
    let map: Vec<u8> = memory_map(facts.memory)
        .into_iter()
        .flat_map(|(range, kind)| {
            let mut entry = Vec::from(20u32.to_le_bytes());
            entry.extend(range.start.to_le_bytes());
            entry.extend((range.end - range.start).to_le_bytes());
            entry.extend(kind.to_le_bytes());
            entry
        })
        .collect();
    let map_at = append(&map);
    let line = append(&[facts.command_line.as_bytes(), &[0]].concat());
    let name = append(b"Atoll\0");
    let module_end = module + facts.ramdisk.len() as u64;
    let words = [module as u32, module_end as u32, line, 0];
    let modules = append(words.map(u32::to_le_bytes).as_flattened());
    if info.len() as u64 > LOW_END - INFO {
        return Err(refuse("the command line does not fit below 640 KiB", "keep it shorter"));
    }
    let mut put = |at: usize, value: u32| info[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(0, FLAGS);
    put(4, (LOW_END >> 10) as u32);
    put(8, ((facts.memory - HIGH) >> 10) as u32);
    put(16, line);
    put(20, u32::from(!facts.ramdisk.is_empty()));
    put(24, modules);
    put(44, map.len() as u32);
    put(48, map_at);
    put(64, name);
    Ok(info)
}

fn word(file: &[u8], at: usize) -> Option<u32> {
    file.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;

    const MEMORY: u64 = 8 << 20;

    /// A flat image for 1 MiB: sixteen bytes, the header, sixteen more.
    fn image() -> Vec<u8> {
        let flags = HAS_ADDRESSES | 3;
        let checksum = 0u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(flags);
        let words = [HEADER_MAGIC, flags, checksum, 0x10_0010, 0x10_0000, 0, 0x10_1000, 0x10_0030];
        let mut file = vec![0x90; 16];
        file.extend(words.map(u32::to_le_bytes).as_flattened());
        file.extend([0xf4; 16]);
        file
    }

    fn facts(kernel: &[u8]) -> Facts<'_> {
        Facts { kernel, ramdisk: b"module", command_line: "a=b", memory: MEMORY, vcpus: 1 }
    }

    #[test]
    fn a_flat_image_goes_where_it_says() {
        let file = image();
        let layout = layout(&facts(&file), header(&file).unwrap()).unwrap();
        let at = |index: usize| layout.pieces[index].0.as_u64();
        assert_eq!((at(0), layout.pieces[0].1.len()), (0x10_0000, file.len()));
        assert_eq!((at(1), &*layout.pieces[1].1), (MEMORY - 4096, &b"module"[..]));
        let start = layout.start.regs32();
        assert_eq!((start.eip, start.eax, start.ebx), (0x10_0030, BOOT_MAGIC, INFO as u32));
        let info = &layout.pieces[2].1;
        let text = (word(info, 16).unwrap() - INFO as u32) as usize;
        assert_eq!(&info[text..text + 4], b"a=b\0");
        let modules = (word(info, 24).unwrap() - INFO as u32) as usize;
        assert_eq!(word(info, modules + 4).unwrap() - word(info, modules).unwrap(), 6);
        assert_eq!(word(info, 44), Some(4 * 24));
    }

    #[test]
    fn what_is_not_one_is_left_alone() {
        assert_eq!(header(b""), None);
        assert_eq!(header(&[0; 64]), None);
        let mut file = image();
        file[24] ^= 1;
        assert_eq!(header(&file), None, "the checksum does not fit");
    }

    #[test]
    fn no_damage_is_believed() {
        for file in sample::damaged(&image()) {
            let Some(header) = header(&file) else { continue };
            if let Ok(layout) = layout(&facts(&file), header) {
                let inside = |(at, bytes): &(GuestPhys, Cow<'_, [u8]>)| {
                    at.as_u64().checked_add(bytes.len() as u64).is_some_and(|end| end <= MEMORY)
                };
                assert!(layout.pieces.iter().all(inside));
            }
        }
    }
}
