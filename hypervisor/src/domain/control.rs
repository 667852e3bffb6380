//! Domain 0, the control domain: built at boot from the boot archive, the one image the hypervisor parses.
//!
//! It gets memory from guest-physical 0 on, its image where that wants to be, the start info in a page below 1 MiB, and
//! the boot archive as module at the end of its memory. What else is in its memory is what the loader left there.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestPhys, PAGE_SIZE, PageCount};
use abi::xen::errno::Errno;
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;
use pvh::start_info::{MemmapTableEntry, MemmapType, ModlistEntry, START_MAGIC_VALUE, StartInfo};

use super::{Domain, build};
use crate::checks::start::Start;

/// Where the start info lies, its tables and the command line behind it.
const START_INFO: u64 = 0x1000;

/// What may be wrong with domain 0's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadImage {
    /// Not an ELF64 file, or damaged.
    NotElf,
    /// A segment lies outside of domain 0's memory.
    OutsideMemory,
    /// No PVH entry note.
    NoEntry,
    /// Image and archive leave no room.
    NoRoom,
}

/// Fills domain 0's memory, and tells how it starts.
pub fn load(domain: &Domain, archive: &[u8], command_line: &str) -> Result<Start, BadImage> {
    let image = boot::archive::control_image(archive).ok_or(BadImage::NotElf)?;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(image).map_err(|_| BadImage::NotElf)?;
    let segments = elf.segments().ok_or(BadImage::NotElf)?;
    let outside = |_: Errno| BadImage::OutsideMemory;
    let mut image_end = 0;
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
        let bytes = elf.segment_data(&segment).map_err(|_| BadImage::NotElf)?;
        let start = GuestPhys::new(segment.p_paddr);
        build::write(domain, start, bytes).map_err(outside)?;
        let zeroes = segment.p_memsz.saturating_sub(bytes.len() as u64);
        let behind = start.checked_add(bytes.len() as u64).ok_or(BadImage::OutsideMemory)?;
        build::clear(domain, behind, zeroes).map_err(outside)?;
        image_end = image_end.max(segment.p_paddr.saturating_add(segment.p_memsz));
    }
    let memory = PageCount::new(domain.pages.load(Relaxed)).checked_bytes().ok_or(BadImage::NoRoom)?;
    let module = (memory.checked_sub(archive.len() as u64).ok_or(BadImage::NoRoom)?) & !(PAGE_SIZE - 1);
    if image_end > module {
        return Err(BadImage::NoRoom);
    }
    build::write(domain, GuestPhys::new(module), archive).map_err(outside)?;
    let entry = pvh_entry(&elf).ok_or(BadImage::NoEntry)?;
    write_start_info(domain, module, archive.len() as u64, command_line).map_err(outside)?;
    Ok(Start::pvh(entry.as_u64(), START_INFO))
}

fn write_start_info(
    domain: &Domain,
    module: u64,
    module_bytes: u64,
    command_line: &str,
) -> Result<(), Errno> {
    let modules = START_INFO + 0x100;
    let memory_map = START_INFO + 0x200;
    let text = START_INFO + 0x400;
    let memory = PageCount::new(domain.pages.load(Relaxed)).checked_bytes().ok_or(Errno::EINVAL)?;
    let info = StartInfo {
        magic: START_MAGIC_VALUE,
        version: 1,
        nr_modules: 1,
        modlist_paddr: modules,
        cmdline_paddr: text,
        memmap_paddr: memory_map,
        memmap_entries: 1,
        ..StartInfo::default()
    };
    let module = ModlistEntry { paddr: module, size: module_bytes, ..ModlistEntry::default() };
    let ram =
        MemmapTableEntry { addr: 0, size: memory, ty: MemmapType::Ram.into(), ..MemmapTableEntry::default() };
    build::write(domain, GuestPhys::new(START_INFO), bytes_of(&info))?;
    build::write(domain, GuestPhys::new(modules), bytes_of(&module))?;
    build::write(domain, GuestPhys::new(memory_map), bytes_of(&ram))?;
    build::write(domain, GuestPhys::new(text), command_line.as_bytes())?;
    build::write(domain, GuestPhys::new(text + command_line.len() as u64), &[0])
}

/// A structure of the `pvh` crate's as the bytes a guest reads.
fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: called for `StartInfo`, `ModlistEntry` and `MemmapTableEntry`: C layout, integers only, no padding.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The entry that a note of type XEN_ELFNOTE_PHYS32_ENTRY names.
fn pvh_entry(elf: &ElfBytes<LittleEndian>) -> Option<GuestPhys> {
    const PHYS32_ENTRY: u64 = 18;
    let notes = elf.segments()?.iter().filter(|segment| segment.p_type == elf::abi::PT_NOTE);
    for segment in notes {
        for note in elf.segment_data_as_notes(&segment).ok()? {
            if let elf::note::Note::Unknown(note) = note
                && note.n_type == PHYS32_ENTRY
                && note.name_str().ok() == Some("Xen")
            {
                let entry = note.desc.first_chunk::<4>()?;
                return Some(GuestPhys::new(u32::from_le_bytes(*entry).into()));
            }
        }
    }
    None
}

/// The memory of domain 0, in MiB: what the command line says, else enough for the image and the archive.
pub fn memory(option: Option<&str>, archive_bytes: u64) -> PageCount {
    const DEFAULT_MIB: u32 = 48;
    match option.and_then(|text| text.parse().ok()) {
        Some(mib) => PageCount::from_mib(mib),
        None => PageCount::from_mib(DEFAULT_MIB + (archive_bytes >> 20) as u32 * 2),
    }
}
