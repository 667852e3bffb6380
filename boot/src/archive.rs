//! The boot archive, as far as the hypervisor looks into it: its first entry is domain 0's image.

use abi::archive::CONTROL_IMAGE;

/// Domain 0's image. `None` where the archive does not begin with it.
pub fn control_image(archive: &[u8]) -> Option<&[u8]> {
    let first = cpio_reader::iter_files(archive).next()?;
    (first.name() == CONTROL_IMAGE).then(|| first.file())
}
