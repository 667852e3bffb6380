//! What a loader needs of an ELF file, without the rest.
//!
//! The images keep their line tables on disk for whoever debugs them. In the boot archive those megabytes would only
//! make the BIOS read longer, so what lies behind the last segment is left out, and the section table with it.

/// Bytes of an ELF64 header.
const HEADER: usize = 64;
/// Bytes of one program header.
const PROGRAM_HEADER: usize = 56;

/// The file up to the end of its last segment, without section headers. `None` if it is no ELF64 file.
pub fn loadable(file: &[u8]) -> Option<Vec<u8>> {
    let header = file.get(..HEADER)?;
    if header.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let table = usize::try_from(u64_at(header, 32)?).ok()?;
    let entries = usize::from(u16_at(header, 56)?);
    let mut end = table.checked_add(entries.checked_mul(PROGRAM_HEADER)?)?;
    for index in 0..entries {
        let entry = file.get(table + index * PROGRAM_HEADER..)?.get(..PROGRAM_HEADER)?;
        let segment_end = u64_at(entry, 8)?.checked_add(u64_at(entry, 32)?)?;
        end = end.max(usize::try_from(segment_end).ok()?);
    }
    let mut short = file.get(..end)?.to_vec();
    short.get_mut(40..48)?.fill(0); // e_shoff
    short.get_mut(60..64)?.fill(0); // e_shnum, e_shstrndx
    Some(short)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An ELF64 file with one segment of `payload`, and `tail` bytes behind it.
    pub(crate) fn sample(payload: &[u8], tail: usize) -> Vec<u8> {
        let mut file = vec![0; HEADER + PROGRAM_HEADER];
        file[..5].copy_from_slice(b"\x7fELF\x02");
        file[32..40].copy_from_slice(&(HEADER as u64).to_le_bytes());
        file[40..48].copy_from_slice(&999_u64.to_le_bytes());
        file[56..58].copy_from_slice(&1_u16.to_le_bytes());
        file[60..62].copy_from_slice(&7_u16.to_le_bytes());
        file[HEADER + 8..HEADER + 16].copy_from_slice(&((HEADER + PROGRAM_HEADER) as u64).to_le_bytes());
        file[HEADER + 32..HEADER + 40].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        file.extend_from_slice(payload);
        file.resize(file.len() + tail, 0xdb);
        file
    }

    #[test]
    fn what_lies_behind_the_last_segment_goes() {
        let short = loadable(&sample(b"code", 1000)).unwrap();
        assert_eq!(short.len(), HEADER + PROGRAM_HEADER + 4);
        assert!(short.ends_with(b"code"));
        assert_eq!((u64_at(&short, 40), u16_at(&short, 60)), (Some(0), Some(0)));
    }

    #[test]
    fn a_segment_beyond_the_end_is_refused() {
        let mut file = sample(b"code", 0);
        file.truncate(file.len() - 1);
        assert_eq!(loadable(&file), None);
        assert_eq!(loadable(b"#!/bin/sh"), None);
    }
}
