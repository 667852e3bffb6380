//! Linux's own wrapping of a kernel, the bzImage: what lies in it is the ELF file that a PVH guest is started from.
//!
//! Layout by Linux's `Documentation/arch/x86/boot.rst` ("The Real-Mode Kernel Header"). The payload is compressed in one
//! of several ways; those that a machine without hardware support unpacks within a second are done here: LZ4, which
//! Debian's kernels use, and gzip. Its last four bytes tell the unpacked size. A file that is no bzImage comes back as it
//! is.

use alloc::{borrow::Cow, format, vec::Vec};

use abi::control::wire::Refusal;

use super::images::room;
use super::refusal::refuse;

/// `setup_sects`: sectors of the real-mode part, behind the first.
const SETUP_SECTORS: usize = 0x1f1;
/// "HdrS", and the boot protocol's version behind it.
const MAGIC: usize = 0x202;
/// `payload_offset`, counted from the protected-mode part, and `payload_length` behind it; from protocol 2.08 on.
const PAYLOAD: usize = 0x248;
const FIRST_VERSION_WITH_PAYLOAD: u16 = 0x208;
/// LZ4's legacy frame (`doc/lz4_Frame_format.md` of LZ4, "Legacy frame"): this word, then blocks, each behind its size.
const LZ4_MAGIC: u32 = 0x184c_2102;
/// What a legacy block holds at most.
const LZ4_BLOCK: usize = 8 << 20;
/// Larger than any kernel.
const MAX_UNPACKED: usize = 512 << 20;
/// What a byte can become at most: 258 bytes from two bits of a deflate stream; of an LZ4 block, less.
const MAX_RATIO: usize = 1032;

/// How a payload is compressed, told by how it begins.
#[derive(Clone, Copy)]
enum Packing {
    Gzip,
    Lz4,
}

/// The ELF file in this image.
pub fn unpack(file: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    if file.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        return Ok(Cow::Borrowed(file));
    }
    let payload = payload(file)
        .ok_or_else(|| unusable("its header names no payload within the file", "fetch the file anew"))?;
    let (packed, size) = payload
        .split_last_chunk::<4>()
        .ok_or_else(|| unusable("its payload is empty", "fetch the file anew"))?;
    let packing = match packed {
        [0x7f, b'E', b'L', b'F', ..] => return Ok(Cow::Borrowed(payload)),
        [0x1f, 0x8b, ..] => Packing::Gzip,
        _ if word(packed, 0) == Some(LZ4_MAGIC) => Packing::Lz4,
        _ => {
            let start = packed.get(..6).unwrap_or(packed);
            return Err(unusable(
                format!("its payload is compressed in a way that domain 0 does not know ({start:02x?}...)"),
                "give the uncompressed kernel instead: Linux's `scripts/extract-vmlinux` makes it",
            ));
        }
    };
    let size = u32::from_le_bytes(*size) as usize;
    if size / MAX_RATIO > packed.len() {
        // Before memory is taken for it.
        return Err(unusable(
            format!("its payload is damaged: {} bytes cannot become {size}", packed.len()),
            "fetch the file anew",
        ));
    }
    let mut unpacked = zeroes(size)?;
    let whole = match packing {
        Packing::Gzip => gunzip(packed, &mut unpacked),
        Packing::Lz4 => unlz4(&packed[size_of_val(&LZ4_MAGIC)..], &mut unpacked),
    };
    whole.ok_or_else(|| unusable("its payload is damaged", "fetch the file anew"))?;
    Ok(Cow::Owned(unpacked))
}

fn payload(file: &[u8]) -> Option<&[u8]> {
    let version = u16::from_le_bytes(*file.get(MAGIC + 4..)?.first_chunk()?);
    if version < FIRST_VERSION_WITH_PAYLOAD {
        return None;
    }
    let setup = match *file.get(SETUP_SECTORS)? {
        // As the boot protocol has it.
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup + 1) * 512 + word(file, PAYLOAD)? as usize;
    file.get(start..)?.get(..word(file, PAYLOAD + 4)? as usize)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// So many zeroes, where domain 0 has them.
fn zeroes(size: usize) -> Result<Vec<u8>, Refusal> {
    let mut unpacked = Some(size).filter(|&size| size <= MAX_UNPACKED).and_then(room).ok_or_else(|| {
        refuse(
            format!("domain 0 has no {} MiB of memory to unpack this kernel in", size >> 20),
            "remove images that were uploaded (`atoll image rm`), or name this kernel in the description that the machine starts with",
        )
    })?;
    unpacked.resize(size, 0);
    Ok(unpacked)
}

fn unlz4(mut blocks: &[u8], into: &mut [u8]) -> Option<()> {
    let mut done = 0;
    while let Some((size, rest)) = blocks.split_first_chunk::<4>() {
        let block = rest.get(..u32::from_le_bytes(*size) as usize)?;
        let left = into.get_mut(done..)?;
        let most = left.len().min(LZ4_BLOCK);
        done += lz4_flex::block::decompress_into(block, &mut left[..most]).ok()?;
        blocks = &rest[block.len()..];
    }
    (done == into.len()).then_some(())
}

fn gunzip(file: &[u8], into: &mut [u8]) -> Option<()> {
    use miniz_oxide::inflate::{TINFLStatus, core};
    let deflated = file.get(gzip_header(file)?..)?;
    let mut state = core::DecompressorOxide::new();
    let flags = core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, done) = core::decompress(&mut state, deflated, into, 0, flags);
    (status == TINFLStatus::Done && done == into.len()).then_some(())
}

/// Bytes of the header (RFC 1952, "Member header and trailer").
fn gzip_header(file: &[u8]) -> Option<usize> {
    const HEADER_CHECKSUM: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    let flags = *file.get(3)?;
    let mut at = 10;
    if flags & EXTRA != 0 {
        at += 2 + usize::from(u16::from_le_bytes(*file.get(at..)?.first_chunk()?));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            at += file.get(at..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    Some(if flags & HEADER_CHECKSUM != 0 { at + 2 } else { at })
}

fn unusable(why: impl core::fmt::Display, remedy: &str) -> Refusal {
    refuse(format!("the Linux kernel cannot be unpacked: {why}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    /// A bzImage around this payload.
    fn bzimage(packed: &[u8], size: usize) -> Vec<u8> {
        let mut file = vec![0; 3 * 512];
        file[SETUP_SECTORS] = 1;
        file[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        file[MAGIC + 4..MAGIC + 6].copy_from_slice(&0x20f_u16.to_le_bytes());
        file[PAYLOAD..PAYLOAD + 4].copy_from_slice(&512_u32.to_le_bytes());
        file[PAYLOAD + 4..PAYLOAD + 8].copy_from_slice(&(packed.len() as u32 + 4).to_le_bytes());
        file.extend(packed);
        file.extend((size as u32).to_le_bytes());
        file
    }

    fn lz4(bytes: &[u8], block: usize) -> Vec<u8> {
        let mut packed = LZ4_MAGIC.to_le_bytes().to_vec();
        for piece in bytes.chunks(block) {
            let piece = lz4_flex::block::compress(piece);
            packed.extend((piece.len() as u32).to_le_bytes());
            packed.extend(piece);
        }
        bzimage(&packed, bytes.len())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = vec![0x1f, 0x8b, 8, 1 << 2 | 1 << 3, 0, 0, 0, 0, 0, 3, 2, 0, 9, 9];
        packed.extend(b"vmlinux.bin\0");
        packed.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
        packed.extend([0; 4]);
        bzimage(&packed, bytes.len())
    }

    #[test]
    fn what_was_packed_comes_out() {
        let elf = sample::elf();
        for file in [lz4(&elf, LZ4_BLOCK), lz4(&elf, 100), gzip(&elf), elf.clone()] {
            assert_eq!(unpack(&file).unwrap(), elf);
        }
    }

    #[test]
    fn what_cannot_be_unpacked_is_named() {
        let refused = |file: &[u8], word: &str| {
            let refusal = unpack(file).unwrap_err();
            assert!(refusal.what.contains(word), "{refusal:?}");
        };
        refused(&bzimage(b"\xfd7zXZ\0 and more", 10), "compressed in a way");
        refused(&bzimage(&[0x1f, 0x8b, 8], 10), "damaged");
        refused(&bzimage(&LZ4_MAGIC.to_le_bytes(), 10), "damaged");
        refused(&bzimage(&LZ4_MAGIC.to_le_bytes(), MAX_UNPACKED), "cannot become");
        let mut large = LZ4_MAGIC.to_le_bytes().to_vec();
        large.resize(MAX_UNPACKED / MAX_RATIO, 0);
        refused(&bzimage(&large, MAX_UNPACKED + 1), "no 512 MiB");
        let mut old = lz4(b"kernel", 10);
        old[MAGIC + 4] = 7;
        refused(&old, "no payload");
        let mut cut = lz4(b"kernel", 10);
        cut.pop();
        refused(&cut, "no payload");
    }

    #[test]
    fn no_byte_and_no_end_of_the_file_matters_more_than_it_may() {
        let elf = sample::elf();
        for file in [lz4(&elf, 90), gzip(&elf)] {
            for damaged in sample::damaged(&file) {
                if let Ok(unpacked) = unpack(&damaged) {
                    assert!(unpacked.len() <= damaged.len() * MAX_RATIO);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(
            packed in any::<bool>(),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..9),
            cut in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let elf = sample::elf();
            let mut file = if packed { lz4(&elf, 90) } else { gzip(&elf) };
            for (at, byte) in damage {
                let at = at.index(file.len());
                file[at] = byte;
            }
            if let Some(cut) = cut {
                file.truncate(cut.index(file.len()));
            }
            let _ = unpack(&file);
        }
    }
}
