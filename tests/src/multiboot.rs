//! The smallest kernels there can be, made here: they print their command line on the first serial port, and switch the PC
//! off (Multiboot Specification 0.6.96).

/// Where they lie.
const LOADED: u32 = 0x10_0000;
const HEADER: usize = 32;

/// In 32-bit protected mode, with facts at EBX.
const CODE: &[u8] = &[
    0x3d, 0x02, 0xb0, 0xad, 0x2b, // cmp eax, 0x2badb002
    0x75, 0x1a, // jne halt
    0x8b, 0x73, 0x10, // mov esi, [ebx + 16]: the command line
    0xba, 0xf8, 0x03, 0x00, 0x00, // mov edx, 0x3f8
    0xac, // next: lodsb
    0x84, 0xc0, // test al, al
    0x74, 0x03, // jz off
    0xee, // out dx, al
    0xeb, 0xf8, // jmp next
    0x66, 0xba, 0x04, 0x06, // off: mov dx, 0x604
    0x66, 0xb8, 0x00, 0x34, // mov ax, 0x3400: SLP_EN, SLP_TYP of S5
    0x66, 0xef, // out dx, ax
    0xf4, // halt: hlt
    0xeb, 0xfd, // jmp halt
];

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// One that says itself where it goes.
pub fn flat() -> Vec<u8> {
    const FLAGS: u32 = 1 << 16;
    let mut file = header(FLAGS);
    file.extend(CODE);
    file
}

/// One in an ELF32 file.
pub fn elf32() -> Vec<u8> {
    const CONTENT: u32 = 52 + 32;
    let mut image = header(0);
    image.extend(CODE);
    let (size, entry) = (image.len() as u32, LOADED + HEADER as u32);
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_EXEC, EM_386, and a header of one segment behind this one.
    file.extend(words(&[2 | 3 << 16, 1, entry, 52, 0, 0, 52 | 32 << 16, 1, 0]));
    file.extend(words(&[1, CONTENT, LOADED, LOADED, size, size, 7, 4]));
    file.extend(image);
    file
}

fn header(flags: u32) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    let sum = 0u32.wrapping_sub(MAGIC).wrapping_sub(flags);
    words(&[MAGIC, flags, sum, LOADED, LOADED, 0, 0, LOADED + HEADER as u32])
}
