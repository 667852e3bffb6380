//! Files that domain 0 is given: guest images of each kind, and the boot archive.

use guest_kernel::control::archive::Archive;
use guest_kernel::control::image::Image;
use guest_kernel::control::pc::{Facts, Layout};
use guest_kernel::control::unpack;

/// A guest's memory.
const MEMORY: u64 = 64 << 20;

/// A para guest's image, as it was uploaded: unwrapped if it is a bzImage, and then read as an ELF file.
pub fn image(bytes: &[u8]) {
    let Ok(file) = unpack::unpack(bytes) else { return };
    let Ok(image) = Image::parse(&file, MEMORY) else { return };
    let entry = image.entry.as_u64();
    assert!(image.segments.iter().any(|segment| segment.range.contains(&entry)), "it starts in itself");
    for segment in &image.segments {
        let room = segment.range.end - segment.range.start;
        assert!(segment.bytes.len() as u64 <= room && segment.range.end <= MEMORY);
        assert_eq!(segment.address.as_u64(), segment.range.start);
    }
    for [one, other] in image.segments.array_windows() {
        assert!(one.range.end <= other.range.start, "no two overlap");
    }
}

/// A full guest's kernel, of whatever kind it is.
pub fn kernel(bytes: &[u8]) {
    for ramdisk in [&b""[..], b"ramdisk"] {
        let facts = Facts { kernel: bytes, ramdisk, command_line: "console=ttyS0", memory: MEMORY, vcpus: 2 };
        let Ok(layout) = Layout::new(&facts) else { continue };
        for (at, piece) in &layout.pieces {
            let end = at.as_u64().checked_add(piece.len() as u64);
            assert!(end.is_some_and(|end| end <= MEMORY), "{at} lies outside");
        }
    }
}

/// The boot archive.
pub fn archive(bytes: &[u8]) {
    let archive = Archive::read(bytes);
    for name in archive.images() {
        let file = archive.image(name).expect("what is listed is there");
        assert!(file.len() + name.len() <= bytes.len());
    }
    assert!(archive.config().is_none_or(|config| config.len() <= bytes.len()));
}
