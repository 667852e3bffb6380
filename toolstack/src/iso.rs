//! A bootable CD image: GRUB, the hypervisor and the boot archive.
//!
//! GRUB is kept lean: only the modules that a BIOS machine with a CD and a serial port needs. Every module and font
//! more is read through the BIOS at each boot.

use std::{fs, path::Path, process::Command};

use crate::{
    error::{At, Error, Result},
    places,
};

/// GRUB's modules; `biosdisk` and `part_msdos` are for the image written to a stick.
const MODULES: &str = "normal iso9660 multiboot2 serial biosdisk part_msdos";

/// What GRUB's scripts begin with: what it says goes to the first serial port.
const HEAD: &str = "set timeout=0\nserial --unit=0 --speed=115200\nterminal_output serial\n";

/// Writes the image to `output`. `command_line` is the hypervisor's; `scratch` is a directory for the parts. Without an
/// archive the kernel may be another than the hypervisor.
pub fn write(
    kernel: &[u8],
    archive: Option<&[u8]>,
    command_line: &str,
    scratch: &Path,
    output: &Path,
) -> Result<()> {
    let menu = menu(command_line, archive.is_some());
    let archive = archive.map(|archive| ("boot/archive", archive));
    let files = [("boot/atoll", kernel)].into_iter().chain(archive);
    make(files, &menu, MODULES, scratch, output)
}

/// The same with Linux: a kernel, and a file system in memory.
pub fn write_linux(
    kernel: &[u8],
    ramdisk: &[u8],
    command_line: &str,
    scratch: &Path,
    output: &Path,
) -> Result<()> {
    let menu =
        format!("{HEAD}menuentry Linux {{\n linux /boot/vmlinuz {command_line}\n initrd /boot/initrd\n}}\n");
    let files = [("boot/vmlinuz", kernel), ("boot/initrd", ramdisk)];
    make(files, &menu, "normal iso9660 linux serial biosdisk part_msdos", scratch, output)
}

/// An image with these files and this menu.
fn make<'files>(
    files: impl IntoIterator<Item = (&'files str, &'files [u8])>,
    menu: &'files str,
    modules: &str,
    scratch: &Path,
    output: &Path,
) -> Result<()> {
    let tree = scratch.join("iso");
    places::make(&tree.join("boot/grub"))?;
    for (name, content) in files.into_iter().chain([("boot/grub/grub.cfg", menu.as_bytes())]) {
        let path = tree.join(name);
        fs::write(&path, content).at("writing", &path)?;
    }
    mkrescue(&tree, modules, output)
}

/// Runs `grub-mkrescue` on a directory.
pub fn mkrescue(tree: &Path, modules: &str, output: &Path) -> Result<()> {
    let result = Command::new("grub-mkrescue")
        .arg("-o")
        .args([output, tree])
        .arg(format!("--install-modules={modules}"))
        .args(["--fonts=", "--locales=", "--themes="])
        .output()
        .at("running", "grub-mkrescue")?;
    if !result.status.success() || !output.is_file() {
        let said = String::from_utf8_lossy(&result.stderr);
        let said = said.trim().lines().last().unwrap_or("no message");
        return Err(Error::new(
            format!("grub-mkrescue could not write {}: {said}", output.display()),
            "apt-get install grub-common grub-pc-bin xorriso mtools",
        ));
    }
    Ok(())
}

fn menu(command_line: &str, with_archive: bool) -> String {
    let module = if with_archive { " module2 /boot/archive archive\n" } else { "" };
    format!("{HEAD}menuentry Atoll {{\n multiboot2 /boot/atoll {command_line}\n{module} boot\n}}\n")
}

#[cfg(test)]
mod tests {
    use super::menu;

    #[test]
    fn the_menu_hands_over_command_line_and_archive() {
        assert!(!menu("mode=bare", false).contains("module2"));
        let menu = menu("exit=debug", true);
        assert!(menu.contains("multiboot2 /boot/atoll exit=debug\n"));
        assert!(menu.contains(" module2 /boot/archive archive\n"));
    }
}
