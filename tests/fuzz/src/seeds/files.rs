//! What the targets of files begin with: the smallest file of each kind that is taken.

use super::Seeds;

/// Writes into a file.
fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Numbers of 32 bits.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An ELF64 file of one segment, which is the whole file at 1 MiB, with a PVH note.
fn elf64() -> Vec<u8> {
    const ENTRY: u32 = 0x10_0100;
    let mut file = vec![0; 0xc4];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &[2, 0, 62, 0, 1]);
    put(&mut file, 32, &[64]);
    put(&mut file, 52, &[64, 0, 56, 0, 2, 0, 64]);
    let mut header = |at: usize, kind: u8, offset: u64, size: u64, room: u64, align: u64| {
        put(&mut file, at, &[kind, 0, 0, 0, 5]);
        for (index, number) in [offset, 0x10_0000, 0x10_0000, size, room, align].into_iter().enumerate() {
            put(&mut file, at + 8 + 8 * index, &number.to_le_bytes());
        }
    };
    header(64, 1, 0, 0xc4, 0x1000, 0x1000);
    header(120, 4, 176, 20, 20, 4);
    put(&mut file, 176, &[words(&[4, 4, 18]), b"Xen\0".to_vec(), words(&[ENTRY])].concat());
    file
}

/// A bzImage around this payload, which unpacks to so many bytes.
fn bzimage(payload: &[u8], unpacked: u32) -> Vec<u8> {
    let mut file = vec![0; 0x400];
    put(&mut file, 0x1f1, &[1]);
    put(&mut file, 0x200, &[0xeb, 0x66]);
    put(&mut file, 0x202, b"HdrS\x0f\x02");
    put(&mut file, 0x211, &[1]);
    put(&mut file, 0x22c, &words(&[0x7fff_ffff]));
    put(&mut file, 0x234, &[1]);
    put(&mut file, 0x238, &words(&[2047]));
    put(&mut file, 0x248, &words(&[0, payload.len() as u32 + 4]));
    put(&mut file, 0x258, &words(&[16 << 20, 0, 32 << 20]));
    file.extend(payload);
    file.extend(unpacked.to_le_bytes());
    file
}

/// An LZ4 block that is one run of literals; so much of one that it takes a second byte to say.
fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut block = vec![0xf0, (bytes.len() - 15) as u8];
    block.extend(bytes);
    [words(&[0x184c_2102, block.len() as u32]), block].concat()
}

/// A gzip file that is one stored block; its trailer is left to nobody.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u16;
    let header = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01";
    [&header[..], &length.to_le_bytes(), &(!length).to_le_bytes(), bytes, &[0; 4]].concat()
}

/// A kernel that multiboot loads: a flat image that says where it goes.
fn multiboot_flat() -> Vec<u8> {
    let flags = 1 << 16 | 3;
    let magic = 0x1bad_b002u32;
    let at = 0x10_0000;
    let header =
        words(&[magic, flags, magic.wrapping_add(flags).wrapping_neg(), at, at, 0, at + 0x100, at + 0x20]);
    [&header[..], &[0x90; 32]].concat()
}

/// The same as an ELF32 file.
fn multiboot_elf() -> Vec<u8> {
    let mut file = vec![0; 0x80];
    put(&mut file, 0, b"\x7fELF\x01\x01\x01");
    put(&mut file, 16, &[2, 0, 3, 0, 1]);
    put(&mut file, 24, &words(&[0x10_0060, 52]));
    put(&mut file, 40, &[52, 0, 32, 0, 1, 0, 40]);
    put(&mut file, 52, &words(&[1, 0, 0x10_0000, 0x10_0000, 0x80, 0x1000, 7, 0x1000]));
    put(&mut file, 0x58, &words(&[0x1bad_b002, 3, 0x1bad_b005u32.wrapping_neg()]));
    file
}

/// ELF files, and bzImages of each packing.
pub fn image() -> Seeds {
    let elf = elf64();
    let size = elf.len() as u32;
    vec![
        ("elf", elf.clone()),
        ("bzimage_lz4", bzimage(&lz4(&elf), size)),
        ("bzimage_gzip", bzimage(&gzip(&elf), size)),
        ("bzimage_elf", bzimage(&elf, size)),
    ]
}

/// Kernels of each boot protocol.
pub fn kernel() -> Seeds {
    vec![
        ("elf", elf64()),
        ("bzimage", bzimage(b"code", 0)),
        ("multiboot_flat", multiboot_flat()),
        ("multiboot_elf", multiboot_elf()),
    ]
}

/// An archive of three files.
pub fn archive() -> Seeds {
    let mut bytes = Vec::new();
    for (name, file) in
        [("control", "an ELF"), ("config", "c"), ("images/hello", "hello"), ("TRAILER!!!", "")]
    {
        let mut fields = [0usize; 13];
        (fields[1], fields[6], fields[11]) = (0o100_644, file.len(), name.len() + 1);
        bytes.extend(b"070701");
        bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        for part in [[name.as_bytes(), b"\0"].concat(), file.as_bytes().to_vec()] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    vec![("three_files", bytes)]
}

#[cfg(test)]
mod tests {
    use guest_kernel::control::archive::Archive;
    use guest_kernel::control::image::Image;
    use guest_kernel::control::pc::{Facts, Layout};
    use guest_kernel::control::unpack::unpack;

    const MEMORY: u64 = 64 << 20;

    #[test]
    fn each_file_is_taken() {
        for (name, file) in super::image() {
            let file = unpack(&file).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
            assert!(Image::parse(&file, MEMORY).is_ok(), "{name}");
        }
        for (name, kernel) in super::kernel() {
            let facts = Facts { kernel: &kernel, ramdisk: b"r", command_line: "", memory: MEMORY, vcpus: 1 };
            assert!(Layout::new(&facts).is_ok(), "{name}");
        }
        let (_, archive) = &super::archive()[0];
        let archive = Archive::read(archive);
        assert_eq!((archive.config(), archive.image("hello")), (Some(&b"c"[..]), Some(&b"hello"[..])));
    }
}
