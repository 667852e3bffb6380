//! The Linux between Bochs and QEMU: Debian's cloud kernel, its KVM modules, busybox, and QEMU with its libraries.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    cpio::{Entry, newc},
    error::{At, Result},
    leftovers,
    linux::package::{compress, find, installed, kernel_of, missing, output, raw_output, unpacked},
    places, progress,
};

/// KVM for Intel processors, in the order of loading.
const MODULES: &[&str] = &["irqbypass", "kvm", "kvm-intel"];
/// Busybox under the names that process 1 calls it by.
const APPLETS: &[&str] = &["sh", "mount", "insmod", "echo", "poweroff", "stty"];
/// Firmware QEMU reads: a BIOS, and the option ROMs that start a kernel.
const FIRMWARE: &[&str] = &["kvmvapic.bin", "linuxboot.bin", "linuxboot_dma.bin", "pvh.bin"];

/// The two files that GRUB loads.
pub(super) struct Linux {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
}

/// Makes them in `cache`, unless they are there.
pub(super) fn prepare(cache: &Path) -> Result<Linux> {
    let linux = Linux { kernel: cache.join("vmlinuz"), initrd: cache.join("base.cpio.gz") };
    if linux.kernel.is_file() && linux.initrd.is_file() {
        return Ok(linux);
    }
    let work = progress::spinner("preparing Linux, KVM and QEMU for the nested machine");
    places::make(cache)?;
    let unpacked = unpacked()?;
    compress(&pack(&unpacked)?, "-1", &linux.initrd)?;
    // The kernel last: with it the cache is complete.
    let image = kernel_of(&unpacked)?;
    fs::copy(&image, &linux.kernel).at("copying", &image)?;
    work.finish_and_clear();
    Ok(linux)
}

fn pack(kernel: &Path) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    for directory in ["bin", "lib", "lib/x86_64-linux-gnu", "lib64", "usr", "usr/bin", "usr/share"] {
        files.push(Entry::directory(directory));
    }
    for directory in ["usr/share/qemu", "usr/share/seabios", "dev", "proc", "sys", "tmp", "mod"] {
        files.push(Entry::directory(directory));
    }
    files.push(program(&installed("busybox")?, "bin/busybox")?);
    files.extend(APPLETS.iter().map(|applet| Entry::link(&format!("bin/{applet}"), "busybox")));

    let qemu = installed("qemu-system-x86_64")?;
    files.push(program(&qemu, "usr/bin/qemu-system-x86_64")?);
    for library in libraries(&qemu)? {
        let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push(program(&library, &format!("lib/x86_64-linux-gnu/{name}"))?);
    }
    files.push(program(Path::new("/lib64/ld-linux-x86-64.so.2"), "lib64/ld-linux-x86-64.so.2")?);

    let bios = Path::new("/usr/share/seabios/bios-256k.bin");
    files.push(Entry::file("usr/share/qemu/bios-256k.bin", 0o644, &fs::read(bios).at("reading", bios)?));
    for name in FIRMWARE {
        // Each QEMU has its own set; what it lacks it does not need.
        if let Some(rom) = ["/usr/share/qemu", "/usr/share/seabios"]
            .iter()
            .find_map(|d| fs::read(Path::new(d).join(name)).ok())
        {
            files.push(Entry::file(&format!("usr/share/qemu/{name}"), 0o644, &rom));
        }
    }
    for module in MODULES {
        let prefix = format!("{module}.ko");
        let path = find(kernel, |name| name.starts_with(&prefix)).ok_or_else(|| missing(&prefix))?;
        files.push(Entry::file(&format!("mod/{prefix}"), 0o644, &module_bytes(&path)?));
    }
    newc(&files).at("packing", "the nested machine's Linux")
}

/// A module as insmod takes it; newer Debians compress them.
fn module_bytes(path: &Path) -> Result<Vec<u8>> {
    let unpacker = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(path).at("reading", path),
    };
    raw_output(Command::new(unpacker).arg("-dc").arg(path))
}

/// A program or library without its debug symbols.
fn program(path: &Path, name: &str) -> Result<Entry> {
    let scratch = std::env::temp_dir().join(format!("atoll-strip-{}", std::process::id()));
    let stripped = Command::new("strip")
        .args(["--strip-unneeded", "-o"])
        .arg(&scratch)
        .arg(path)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let bytes = fs::read(if stripped { &scratch } else { path }).at("reading", path);
    leftovers::remove(&scratch);
    Ok(Entry::file(name, 0o755, &bytes?))
}

/// Every library a program loads.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let listing = output(Command::new("ldd").arg(program))?;
    Ok(listing
        .lines()
        .filter_map(|line| line.split_once("=> ")?.1.split(' ').next().map(PathBuf::from))
        .collect())
}
