//! The boot archive, a cpio in its `newc` form ([`abi::archive`]): its files, of which the hypervisor wants only the first,
//! domain 0's image.
//!
//! A header that cannot be true ends the archive there, and what came before it counts. Nothing is looked at but headers
//! and names: the archive has megabytes, and most of it is images that nobody starts.

use abi::archive::CONTROL_IMAGE;

/// How a header begins.
const MAGIC: &[u8] = b"070701";
/// Hexadecimal digits of each of the numbers behind that.
const DIGITS: usize = 8;
/// Bytes of a header.
const HEADER: usize = MAGIC.len() + 13 * DIGITS;
/// Which of the numbers is the file's size.
const FILE_SIZE: usize = 6;
/// Which is that of its name, with a zero behind it.
const NAME_SIZE: usize = 11;
/// Headers and files begin at multiples of this.
const ALIGN: usize = 4;
/// The name behind the last file.
const TRAILER: &str = "TRAILER!!!";

/// The files of an archive: name and content of each.
pub fn files(archive: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let (name, file, next) = entry(archive, at)?;
        at = next;
        Some((name, file))
    })
}

/// The file whose header is at `at`, and where the next header is.
fn entry(archive: &[u8], at: usize) -> Option<(&str, &[u8], usize)> {
    let header = archive.get(at..)?.get(..HEADER)?;
    let numbers = header.strip_prefix(MAGIC)?;
    let name_start = at + HEADER;
    let name_end = name_start.checked_add(number(numbers, NAME_SIZE)?)?;
    let name = archive.get(name_start..name_end)?.strip_suffix(&[0])?;
    let name = core::str::from_utf8(name).ok().filter(|&name| name != TRAILER)?;
    let start = name_end.checked_next_multiple_of(ALIGN)?;
    let end = start.checked_add(number(numbers, FILE_SIZE)?)?;
    Some((name, archive.get(start..end)?, end.checked_next_multiple_of(ALIGN)?))
}

fn number(numbers: &[u8], which: usize) -> Option<usize> {
    let digits = numbers.chunks(DIGITS).nth(which)?;
    usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}

/// Domain 0's image. `None` where the archive does not begin with it.
pub fn control_image(archive: &[u8]) -> Option<&[u8]> {
    files(archive).next().filter(|&(name, _)| name == CONTROL_IMAGE).map(|(_, image)| image)
}
