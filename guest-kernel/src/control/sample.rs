//! A guest image made by hand, sound or damaged on purpose, for the tests.

use alloc::vec::Vec;

/// Where [`elf`] starts, in the midst of its first segment.
pub const ENTRY: u64 = 0x10_0004;
/// What its first segment holds.
pub const TEXT: &[u8] = b"these are the instructions";
/// Where its second segment, which is all zeroes, starts.
pub const BSS_START: u64 = 0x10_4000;

/// The fields that tests lie about.
pub struct Elf {
    pub machine: u16,
    pub text_address: u64,
    pub text_file_size: u64,
    pub text_memory_size: u64,
    pub note: Vec<u8>,
}

impl Default for Elf {
    fn default() -> Self {
        Self {
            machine: elf::abi::EM_X86_64,
            text_address: 0x10_0000,
            text_file_size: TEXT.len() as u64,
            text_memory_size: 0x1000,
            note: note(&(ENTRY as u32).to_le_bytes()),
        }
    }
}

impl Elf {
    /// The file: header, three program headers, text, notes.
    pub fn build(&self) -> Vec<u8> {
        const HEADERS: u64 = 64 + 3 * 56;
        let text = HEADERS;
        let note = text + TEXT.len().next_multiple_of(8) as u64;
        let mut file = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend(2u16.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend([0u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(0u32.to_le_bytes());
        file.extend([64u16, 56, 3, 64, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
        let mut header = |kind: u32, flags: u32, words: [u64; 6]| {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        };
        let at = self.text_address;
        header(elf::abi::PT_LOAD, 5, [text, at, at, self.text_file_size, self.text_memory_size, 0x1000]);
        header(elf::abi::PT_LOAD, 6, [text, BSS_START, BSS_START, 0, 0x2000, 0x1000]);
        let size = self.note.len() as u64;
        header(elf::abi::PT_NOTE, 4, [note, 0, 0, size, size, 4]);
        file.extend(TEXT);
        file.resize(note as usize, 0);
        file.extend(&self.note);
        file
    }
}

/// A sound image.
pub fn elf() -> Vec<u8> {
    Elf::default().build()
}

/// Notes: one of somebody else's, then the PVH entry with this content.
pub fn note(description: &[u8]) -> Vec<u8> {
    let mut notes = Vec::new();
    for (name, kind, description) in [(b"GNU\0", 5u32, &b"1234"[..]), (b"Xen\0", 18, description)] {
        notes.extend(4u32.to_le_bytes());
        notes.extend((description.len() as u32).to_le_bytes());
        notes.extend(kind.to_le_bytes());
        notes.extend(name);
        notes.extend(description);
    }
    notes
}

/// This file cut at every place, and with every word of 1, 2, 4 and 8 bytes in turn at each of its edges.
pub fn damaged(file: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    const EDGES: [u64; 6] = [0, 1, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, u64::MAX - 7, u64::MAX];
    let cut = (0..file.len()).map(|end| file[..end].to_vec());
    let lies = [1, 2, 4, 8].into_iter().flat_map(move |width| {
        (0..=file.len() - width).flat_map(move |at| {
            EDGES.into_iter().map(move |edge| {
                let mut file = file.to_vec();
                // The highest bytes have the sign, the lowest are as the edge needs them.
                let bytes = if edge > 1 && edge < u64::MAX - 7 {
                    (edge >> (64 - 8 * width)).to_le_bytes()
                } else {
                    edge.to_le_bytes()
                };
                file[at..at + width].copy_from_slice(&bytes[..width]);
                file
            })
        })
    });
    cut.chain(lies)
}
