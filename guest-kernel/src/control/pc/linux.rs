//! Linux's 32-bit boot protocol (`Documentation/arch/x86/boot.rst` of Linux): the kernel's own decompressor is started,
//! with the "zero page" that a boot loader fills for it.

use alloc::{borrow::Cow, format, vec, vec::Vec};

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::control::wire::Refusal;

use super::{Facts, LOW_END, Layout, TABLES, flat_start, memory_map, unusable};
use crate::control::refusal::refuse;

/// Where the zero page lies, and the command line behind it.
const ZERO_PAGE: u64 = 0x1_0000;
const COMMAND_LINE: u64 = ZERO_PAGE + PAGE_SIZE;
const _: () = assert!(COMMAND_LINE + PAGE_SIZE <= LOW_END);
/// Where the kernel goes if it does not say.
const USUAL_PLACE: u64 = 0x10_0000;

// Offsets in the file and in the zero page alike ("The Real-Mode Kernel Header", "The zero page").
const ACPI_RSDP: usize = 0x70;
const E820_ENTRIES: usize = 0x1e8;
const SETUP_SECTORS: usize = 0x1f1;
const JUMP: usize = 0x200;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOADER: usize = 0x210;
const LOAD_FLAGS: usize = 0x211;
const RAMDISK: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const COMMAND_LINE_POINTER: usize = 0x228;
const RAMDISK_MAX: usize = 0x22c;
const RELOCATABLE: usize = 0x234;
const COMMAND_LINE_SIZE: usize = 0x238;
const PREFERRED: usize = 0x258;
const INIT_SIZE: usize = 0x260;
const E820: usize = 0x2d0;

/// Boot protocol 2.10: the first that says where the kernel wants to be, and how much room it needs there.
const FIRST_VERSION: u16 = 0x20a;
/// Load flag: the protected-mode part goes to 1 MiB or above.
const LOADED_HIGH: u8 = 1;
/// A loader without a number of its own.
const UNKNOWN_LOADER: u8 = 0xff;

/// Whether this is one of Linux's bzImages.
pub(super) fn is_bzimage(file: &[u8]) -> bool {
    file.get(MAGIC..MAGIC + 4) == Some(b"HdrS")
}

/// Lays out a bzImage and what it is given.
pub(super) fn layout<'a>(facts: &Facts<'a>) -> Result<Layout<'a>, Refusal> {
    let file = facts.kernel;
    let damaged = || unusable("its header is cut off");
    let version = u16::from_le_bytes(*bytes(file, VERSION).ok_or_else(damaged)?);
    let flags = *file.get(LOAD_FLAGS).ok_or_else(damaged)?;
    if version < FIRST_VERSION || flags & LOADED_HIGH == 0 {
        return Err(unusable(format!(
            "it is made for boot protocol {}.{:02}, and 2.10 is the oldest that will do",
            version >> 8,
            version & 0xff
        )));
    }
    let sectors = match *file.get(SETUP_SECTORS).ok_or_else(damaged)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let kernel = file.get((sectors + 1) * 512..).ok_or_else(damaged)?;
    let relocatable = *file.get(RELOCATABLE).ok_or_else(damaged)? != 0;
    let preferred = u64::from_le_bytes(*bytes(file, PREFERRED).ok_or_else(damaged)?);
    let room = u64::from(half(file, INIT_SIZE).ok_or_else(damaged)?).max(kernel.len() as u64);
    let place = if relocatable { preferred } else { USUAL_PLACE };
    let end = place.checked_add(room).filter(|&end| end <= facts.memory && place >= USUAL_PLACE).ok_or_else(
        || {
            let need = place.saturating_add(room).div_ceil(1 << 20);
            refuse(
                format!("the kernel wants {room:#x} bytes from {place:#x} on"),
                format!("give it at least {need} MiB"),
            )
        },
    )?;
    let highest = u64::from(half(file, RAMDISK_MAX).ok_or_else(damaged)?).saturating_add(1).min(facts.memory);
    let ramdisk = highest.saturating_sub(facts.ramdisk.len() as u64) & !(PAGE_SIZE - 1);
    if !facts.ramdisk.is_empty() && ramdisk < end {
        let need = (end + facts.ramdisk.len() as u64 + PAGE_SIZE).div_ceil(1 << 20);
        return Err(refuse(
            "kernel and ramdisk do not fit into the guest's memory together",
            format!("give it at least {need} MiB"),
        ));
    }
    let longest = half(file, COMMAND_LINE_SIZE).ok_or_else(damaged)?.min(PAGE_SIZE as u32 - 1);
    if facts.command_line.len() > longest as usize || facts.command_line.contains('\0') {
        return Err(refuse(
            format!("the command line has {} bytes, or a zero among them", facts.command_line.len()),
            format!("keep it to {longest} bytes of text"),
        ));
    }
    let mut line = Vec::from(facts.command_line);
    line.push(0);
    let page = zero_page(facts, ramdisk).ok_or_else(damaged)?;
    Ok(Layout {
        pieces: vec![
            (GuestPhys::new(place), Cow::Borrowed(kernel)),
            (GuestPhys::new(ramdisk), Cow::Borrowed(facts.ramdisk)),
            (GuestPhys::new(ZERO_PAGE), page.into()),
            (GuestPhys::new(COMMAND_LINE), line.into()),
        ],
        // "32-bit BOOT PROTOCOL": ESI at the zero page.
        start: flat_start(place as u32, |registers| registers.esi = ZERO_PAGE as u32),
    })
}

/// The zero page: the file's own header, with what a boot loader fills in.
fn zero_page(facts: &Facts<'_>, ramdisk: u64) -> Option<Vec<u8>> {
    let file = facts.kernel;
    let mut page = vec![0; PAGE_SIZE as usize];
    let header_end = MAGIC + usize::from(*file.get(JUMP + 1)?);
    page.get_mut(SETUP_SECTORS..header_end)?.copy_from_slice(file.get(SETUP_SECTORS..header_end)?);
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(LOADER, &[UNKNOWN_LOADER]);
    put(ACPI_RSDP, &TABLES.start.to_le_bytes());
    put(COMMAND_LINE_POINTER, &(COMMAND_LINE as u32).to_le_bytes());
    if !facts.ramdisk.is_empty() {
        put(RAMDISK, &(ramdisk as u32).to_le_bytes());
        put(RAMDISK_SIZE, &(facts.ramdisk.len() as u32).to_le_bytes());
    }
    let map = memory_map(facts.memory);
    put(E820_ENTRIES, &[map.len() as u8]);
    for (index, (range, kind)) in map.into_iter().enumerate() {
        let at = E820 + index * 20;
        put(at, &range.start.to_le_bytes());
        put(at + 8, &(range.end - range.start).to_le_bytes());
        put(at + 16, &kind.to_le_bytes());
    }
    Some(page)
}

fn bytes<const COUNT: usize>(file: &[u8], at: usize) -> Option<&[u8; COUNT]> {
    file.get(at..)?.first_chunk()
}

fn half(file: &[u8], at: usize) -> Option<u32> {
    bytes(file, at).map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;

    const MEMORY: u64 = 128 << 20;

    /// A bzImage of one sector's set-up and a kernel of four bytes.
    fn bzimage() -> Vec<u8> {
        let mut file = vec![0; 0x400];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(SETUP_SECTORS, &[1]);
        put(JUMP, &[0xeb, 0x66]);
        put(MAGIC, b"HdrS");
        put(VERSION, &0x20fu16.to_le_bytes());
        put(LOAD_FLAGS, &[LOADED_HIGH]);
        put(RAMDISK_MAX, &0x7fff_ffffu32.to_le_bytes());
        put(RELOCATABLE, &[1]);
        put(COMMAND_LINE_SIZE, &2047u32.to_le_bytes());
        put(PREFERRED, &(16u64 << 20).to_le_bytes());
        put(INIT_SIZE, &(32u32 << 20).to_le_bytes());
        file.extend(b"code");
        file
    }

    fn facts(kernel: &[u8]) -> Facts<'_> {
        Facts { kernel, ramdisk: b"disk", command_line: "console=ttyS0", memory: MEMORY, vcpus: 2 }
    }

    #[test]
    fn a_kernel_finds_what_a_boot_loader_leaves() {
        let file = bzimage();
        let layout = layout(&facts(&file)).unwrap();
        let piece = |index: usize| (layout.pieces[index].0.as_u64(), &layout.pieces[index].1);
        assert_eq!(piece(0), (16 << 20, &b"code"[..].into()));
        assert_eq!(piece(1), (MEMORY - 4096, &b"disk"[..].into()));
        assert_eq!(piece(3), (COMMAND_LINE, &b"console=ttyS0\0"[..].into()));
        let (at, page) = piece(2);
        assert_eq!((at, page.len()), (ZERO_PAGE, 4096));
        assert_eq!(page[MAGIC..MAGIC + 4], *b"HdrS");
        assert_eq!((half(page, RAMDISK), half(page, RAMDISK_SIZE)), (Some(MEMORY as u32 - 4096), Some(4)));
        assert_eq!(page[E820_ENTRIES], 4);
        let start = layout.start.regs32();
        assert_eq!((start.eip, start.esi), (16 << 20, ZERO_PAGE as u32));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_memory_it_takes() {
        let file = bzimage();
        let refused = |memory| layout(&Facts { memory, ..facts(&file) }).unwrap_err();
        assert!(refused(47 << 20).remedy.contains("48 MiB"));
        assert!(refused(48 << 20).remedy.contains("49 MiB"));
        let line = alloc::string::String::from_utf8(vec![b'a'; 2048]).unwrap();
        assert!(layout(&Facts { command_line: &line, ..facts(&file) }).is_err());
    }

    #[test]
    fn no_damage_is_believed() {
        for file in sample::damaged(&bzimage()[..]) {
            if let Ok(layout) = layout(&facts(&file)) {
                let inside = |(at, bytes): &(GuestPhys, Cow<'_, [u8]>)| {
                    at.as_u64().checked_add(bytes.len() as u64).is_some_and(|end| end <= MEMORY)
                };
                assert!(layout.pieces.iter().all(inside));
            }
        }
    }
}
