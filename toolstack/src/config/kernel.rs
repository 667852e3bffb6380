//! Files that guests are started from: whether they are there, and look like what they should be.

use abi::control::hypercall::MAX_FIRMWARE_PAGES;
use std::{fs::File, io::Read, path::Path};

/// Where a bzImage says that it is one.
const BZIMAGE_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");

/// What a multiboot header begins with, at a multiple of four in so many bytes.
const MULTIBOOT_MAGIC: &[u8] = &0x1bad_b002_u32.to_le_bytes();
const MULTIBOOT_SEARCHED: u64 = 8192;

/// What is wrong with a kernel's file, and the remedy. A full guest may be started by multiboot, too.
pub(super) fn kernel_problem(path: &Path, is_full: bool) -> Option<(String, &'static str)> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MULTIBOOT_SEARCHED).read_to_end(&mut head));
    let (at, magic) = BZIMAGE_MAGIC;
    let is_multiboot = || head.chunks_exact(4).any(|word| word == MULTIBOOT_MAGIC);
    match read {
        Err(_) => file_problem(path),
        Ok(_) if head.starts_with(b"\x7fELF\x02") || head.get(at..at + magic.len()) == Some(magic) => None,
        Ok(_) if is_multiboot() && is_full => None,
        Ok(_) if is_multiboot() => Some((
            format!("{} is started by multiboot, as a PC's kernel", path.display()),
            "virt = \"full\" makes the guest a PC",
        )),
        Ok(_) => Some((
            format!("{} is neither an ELF64 file nor a bzImage", path.display()),
            "name a kernel as distributions have it in /boot (vmlinuz-...), or an ELF file with a PVH note",
        )),
    }
}

/// What is wrong with a firmware's file, and the remedy.
pub(super) fn firmware_problem(path: &Path) -> Option<(String, &'static str)> {
    let page = abi::address::PAGE_SIZE;
    let sizes = 64 << 10..=MAX_FIRMWARE_PAGES * page;
    file_problem(path).or_else(|| {
        let bytes = path.metadata().map_or(0, |file| file.len());
        let is_sized = bytes.is_multiple_of(page) && sizes.contains(&bytes);
        (!is_sized).then(|| {
            let what = format!("{} has {bytes} bytes, which is no firmware's size", path.display());
            (what, "name an image of whole pages, 64 KiB to 16 MiB, such as /usr/share/seabios/bios-256k.bin")
        })
    })
}

/// What is wrong with any file.
pub(super) fn file_problem(path: &Path) -> Option<(String, &'static str)> {
    let remedy =
        "in a file, paths are seen from that file's directory; on the command line, from the current one";
    let told = path.display();
    match File::open(path) {
        Ok(_) if !path.is_file() => Some((format!("{told} is no file"), remedy)),
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some((format!("there is no file {told}"), remedy))
        }
        Err(error) => Some((format!("{told} cannot be read: {error}"), "check who may read it")),
    }
}

/// The name that the machine knows a file by: its own, with nothing in it that a name may not have.
pub fn image_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.chars().map(|c| if allowed(c) { c } else { '_' }).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn kernels_are_told_from_other_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let mut bzimage = vec![0; 0x202];
        bzimage.extend_from_slice(b"HdrS....");
        assert_eq!(kernel_problem(&file("elf", b"\x7fELF\x02..."), false), None);
        assert_eq!(kernel_problem(&file("bzimage", &bzimage), false), None);
        let multiboot = file("multiboot", b"....\x02\xb0\xad\x1b....");
        assert_eq!(kernel_problem(&multiboot, true), None);
        assert!(kernel_problem(&multiboot, false).unwrap().0.contains("as a PC's kernel"));
        assert!(kernel_problem(&file("text", b"hello"), true).unwrap().0.contains("neither"));
        assert!(kernel_problem(&directory.path().join("none"), true).unwrap().0.contains("there is no file"));
        assert_eq!(firmware_problem(&file("bios", &vec![0; 64 << 10])), None);
        assert!(firmware_problem(&file("bios", b"hello")).unwrap().0.contains("no firmware's size"));
        assert!(file_problem(directory.path()).unwrap().0.contains("is no file"));
        assert_eq!(image_name(Path::new("/boot/vm linuz-6.1")), "vm_linuz-6.1");
    }
}
