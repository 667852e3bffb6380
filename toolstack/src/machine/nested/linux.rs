//! The Linux between Bochs and QEMU: Debian's cloud kernel, its KVM modules, busybox, and QEMU with its libraries.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    cpio::{Entry, newc},
    error::{At, Error, Result},
    leftovers, places, progress, setup,
};

/// Debian's package that depends on the newest kernel built for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";
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
    let unpacked = unpack_kernel(cache)?;
    let archive = pack(&unpacked)?;
    compress(&archive, &linux.initrd)?;
    // The kernel last: with it the cache is complete.
    let image = find(&unpacked, |name| name.starts_with("vmlinuz")).ok_or_else(|| missing("a kernel"))?;
    fs::copy(&image, &linux.kernel).at("copying", &image)?;
    work.finish_and_clear();
    Ok(linux)
}

/// Downloads the kernel's package and unpacks it.
fn unpack_kernel(cache: &Path) -> Result<PathBuf> {
    setup::fill_lists()?;
    let depends = output(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .ok_or_else(|| {
        Error::new(
            format!("apt knows no package {KERNEL}"),
            "run `apt-get update`; the nested machine needs Debian",
        )
    })?;
    let unpacked = cache.join("kernel");
    if find(cache, |name| name.ends_with(".deb")).is_none() {
        output(Command::new("apt-get").arg("download").arg(&package).current_dir(cache))?;
    }
    let file = find(cache, |name| name.ends_with(".deb")).ok_or_else(|| missing(&package))?;
    output(Command::new("dpkg").arg("-x").arg(file).arg(&unpacked))?;
    Ok(unpacked)
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

fn compress(archive: &[u8], to: &Path) -> Result<()> {
    let file = fs::File::create(to).at("writing", to)?;
    let mut gzip =
        Command::new("gzip").arg("-1").stdin(Stdio::piped()).stdout(file).spawn().at("running", "gzip")?;
    if let Some(mut input) = gzip.stdin.take() {
        input.write_all(archive).at("writing", to)?;
    }
    let status = gzip.wait().at("running", "gzip")?;
    if status.success() { Ok(()) } else { Err(Error::new("gzip failed", "check that the disk is not full")) }
}

fn installed(name: &str) -> Result<PathBuf> {
    places::program(name).ok_or_else(|| missing(name))
}

fn missing(what: &str) -> Error {
    Error::new(format!("the nested machine needs {what}"), "see `atoll doctor`, then try again")
}

fn output(command: &mut Command) -> Result<String> {
    raw_output(command).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn raw_output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let result = command.stdin(Stdio::null()).output().at("running", &name)?;
    if result.status.success() {
        return Ok(result.stdout);
    }
    let said = String::from_utf8_lossy(&result.stderr).trim().to_owned();
    Err(Error::new(
        format!("{name} failed: {said}"),
        "see `atoll doctor`; apt needs its lists: `apt-get update`",
    ))
}

/// The first file below `directory` whose name passes.
fn find(directory: &Path, passes: impl Fn(&str) -> bool + Copy) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        if path.is_dir() && !path.is_symlink() {
            return find(&path, passes);
        }
        passes(path.file_name()?.to_str()?).then_some(path)
    })
}
