//! Reads a guest's ELF64 image: where it goes, and where it starts.
//!
//! An image is a stranger's file. Every number in it is an allegation, and what comes out of here has been checked
//! against the file and against the guest's memory, so that the builder can copy without another look.

use alloc::{format, vec::Vec};
use core::ops::Range;

use abi::address::GuestPhys;
use abi::control::wire::Refusal;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::note::{Note, NoteIterator};
use elf::segment::ProgramHeader;

use super::refusal::refuse;

/// `XEN_ELFNOTE_PHYS32_ENTRY` (`elfnote.h`): the 32-bit entry point of the PVH protocol.
const PHYS32_ENTRY: u64 = 18;
/// More segments than any linker makes without being asked to.
const MAX_SEGMENTS: usize = 64;

/// A piece of the image that goes into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where to.
    pub address: GuestPhys,
    /// What the file says lies there.
    pub bytes: &'a [u8],
    /// All of it, with the zeroes behind the file's part.
    pub range: Range<u64>,
}

/// An image that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Where the guest starts, in 32-bit protected mode.
    pub entry: GuestPhys,
    /// What is loaded, in ascending order, no two of them overlapping.
    pub segments: Vec<Segment<'a>>,
}

impl<'a> Image<'a> {
    /// The image in this file, for a guest with memory from 0 to `memory` bytes.
    pub fn parse(file: &'a [u8], memory: u64) -> Result<Self, Refusal> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file)
            .map_err(|error| unusable(format!("it is no little-endian ELF file ({error})")))?;
        if elf.ehdr.class != Class::ELF64 || elf.ehdr.e_machine != EM_X86_64 {
            return Err(unusable("it is not an ELF for x86-64"));
        }
        let headers = elf.segments().ok_or_else(|| unusable("it has no program headers"))?;
        if headers.len() > MAX_SEGMENTS {
            return Err(unusable(format!(
                "it has {} program headers, and {MAX_SEGMENTS} are enough",
                headers.len()
            )));
        }
        let mut segments = Vec::new();
        let mut entry = None;
        for header in headers.iter() {
            match header.p_type {
                PT_LOAD if header.p_memsz > 0 => segments.push(segment(file, &header, memory)?),
                PT_NOTE => entry = entry.or(entry_note(file, &header)),
                _ => {}
            }
        }
        segments.sort_by_key(|segment| segment.range.start);
        if let Some([one, other]) =
            segments.array_windows().find(|[one, other]| other.range.start < one.range.end)
        {
            return Err(unusable(format!(
                "its segments at {:#x} and {:#x} overlap",
                one.range.start, other.range.start
            )));
        }
        let entry = entry.ok_or_else(|| unusable("it has no PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY)"))?;
        if !segments.iter().any(|segment| segment.range.contains(&entry)) {
            return Err(unusable(format!("its entry point {entry:#x} lies in no segment")));
        }
        Ok(Self { entry: GuestPhys::new(entry), segments })
    }

    /// Whether nothing of the image lies in this range.
    pub fn leaves_free(&self, range: &Range<u64>) -> bool {
        self.segments
            .iter()
            .all(|segment| segment.range.end <= range.start || range.end <= segment.range.start)
    }
}

fn segment<'a>(file: &'a [u8], header: &ProgramHeader, memory: u64) -> Result<Segment<'a>, Refusal> {
    let start = header.p_paddr;
    let bytes = file_part(file, header)
        .ok_or_else(|| unusable(format!("its segment at {start:#x} reaches beyond the end of the file")))?;
    if header.p_filesz > header.p_memsz {
        return Err(unusable(format!("its segment at {start:#x} is longer in the file than in memory")));
    }
    let end = start
        .checked_add(header.p_memsz)
        .ok_or_else(|| unusable(format!("its segment at {start:#x} wraps round the address space")))?;
    if end > memory {
        return Err(refuse(
            format!("the image needs memory up to {end:#x}, and the guest has {memory:#x} bytes"),
            format!("give it at least {} MiB", end.div_ceil(1 << 20)),
        ));
    }
    Ok(Segment { address: GuestPhys::new(start), bytes, range: start..end })
}

fn file_part<'a>(file: &'a [u8], header: &ProgramHeader) -> Option<&'a [u8]> {
    let start = usize::try_from(header.p_offset).ok()?;
    let end = start.checked_add(usize::try_from(header.p_filesz).ok()?)?;
    file.get(start..end)
}

/// The entry point, if these notes tell it: in 32 bits, or in 64 of which the upper half is zero.
fn entry_note(file: &[u8], header: &ProgramHeader) -> Option<u64> {
    let align = if header.p_align == 8 { 8 } else { 4 };
    let notes = NoteIterator::new(LittleEndian, Class::ELF64, align, file_part(file, header)?);
    notes.filter_map(|note| if let Note::Unknown(note) = note { Some(note) } else { None }).find_map(|note| {
        if note.n_type != PHYS32_ENTRY || note.name.strip_suffix(&[0]) != Some(b"Xen") {
            return None;
        }
        let entry = match *note.desc {
            [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
            _ => u64::from_le_bytes(note.desc.try_into().ok()?),
        };
        u32::try_from(entry).ok().map(u64::from)
    })
}

fn unusable(why: impl core::fmt::Display) -> Refusal {
    refuse(
        format!("the image cannot be started: {why}"),
        "build the guest as an x86-64 ELF with a PVH entry note",
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Elf};
    use super::*;
    use proptest::prelude::*;

    const MEMORY: u64 = 4 << 20;

    #[test]
    fn a_sound_image() {
        let file = sample::elf();
        let image = Image::parse(&file, MEMORY).unwrap();
        assert_eq!(image.entry, GuestPhys::new(sample::ENTRY));
        assert_eq!(image.segments.len(), 2);
        assert_eq!(image.segments[0].bytes, sample::TEXT);
        assert_eq!(image.segments[1].range, sample::BSS_START..sample::BSS_START + 0x2000);
        assert!(image.leaves_free(&(0x1000..0x2000)));
        assert!(!image.leaves_free(&(sample::BSS_START + 0x1fff..sample::BSS_START + 0x3000)));
    }

    #[test]
    fn a_64_bit_note_does_too() {
        let file = Elf { note: sample::note(&sample::ENTRY.to_le_bytes()), ..Elf::default() }.build();
        assert_eq!(Image::parse(&file, MEMORY).unwrap().entry, GuestPhys::new(sample::ENTRY));
    }

    #[test]
    fn lies_are_named() {
        let refused = |elf: Elf, memory: u64, word: &str| {
            let refusal = Image::parse(&elf.build(), memory).unwrap_err();
            assert!(refusal.what.contains(word), "{refusal:?}");
            assert!(!refusal.remedy.is_empty());
        };
        refused(Elf { text_address: u64::MAX - 4, ..Elf::default() }, MEMORY, "wraps");
        refused(Elf { text_address: sample::BSS_START, ..Elf::default() }, MEMORY, "overlap");
        refused(Elf { text_file_size: u64::MAX, ..Elf::default() }, MEMORY, "end of the file");
        refused(Elf { text_memory_size: 1, ..Elf::default() }, MEMORY, "longer in the file");
        refused(Elf { note: Vec::new(), ..Elf::default() }, MEMORY, "no PVH entry note");
        refused(Elf { note: sample::note(&[0; 4]), ..Elf::default() }, MEMORY, "in no segment");
        refused(Elf { machine: 3, ..Elf::default() }, MEMORY, "x86-64");
        refused(Elf::default(), 1 << 20, "needs memory");
        assert!(Image::parse(b"#!/bin/sh", MEMORY).is_err());
    }

    #[test]
    fn every_field_may_lie() {
        let note = sample::note(&sample::ENTRY.to_le_bytes());
        for file in [sample::elf(), Elf { note, ..Elf::default() }.build()] {
            for damaged in sample::damaged(&file) {
                let Ok(image) = Image::parse(&damaged, MEMORY) else { continue };
                for segment in &image.segments {
                    assert!(segment.range.end <= MEMORY);
                    assert!(segment.bytes.len() as u64 <= segment.range.end - segment.range.start);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics_and_what_is_accepted_fits(
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
            cut in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let mut file = sample::elf();
            for (at, byte) in damage {
                let at = at.index(file.len());
                file[at] = byte;
            }
            if let Some(cut) = cut {
                file.truncate(cut.index(file.len()));
            }
            if let Ok(image) = Image::parse(&file, MEMORY) {
                for segment in &image.segments {
                    prop_assert!(segment.range.end <= MEMORY);
                    prop_assert!(segment.bytes.len() as u64 <= segment.range.end - segment.range.start);
                }
            }
        }
    }
}
