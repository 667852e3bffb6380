//! The kernel's package, and what both file systems are packed with.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    error::{At, Error, Result},
    places, setup,
};

/// Debian's package that depends on the newest kernel built for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";

/// The kernel's package, unpacked, in a directory that is kept.
pub(crate) fn unpacked() -> Result<PathBuf> {
    fetch("linux", "kernel", newest, |unpacked| kernel_of(unpacked).is_ok())
}

/// A package of Debian's, unpacked and not installed, in the state directory's `place`; downloaded where it `is_there` not
/// yet. `package` finds its name.
pub(crate) fn fetch(
    place: &str,
    into: &str,
    package: impl FnOnce() -> Result<String>,
    is_there: impl FnOnce(&Path) -> bool,
) -> Result<PathBuf> {
    let cache = places::state_directory().join(place);
    places::make(&cache)?;
    let _turn = lock(&cache)?;
    let unpacked = cache.join(into);
    if is_there(&unpacked) {
        return Ok(unpacked);
    }
    let deb = || find(&cache, |name| name.ends_with(".deb"));
    if deb().is_none() {
        setup::fill_lists()?;
        output(Command::new("apt-get").arg("download").arg(package()?).current_dir(&cache))?;
    }
    let file = deb().ok_or_else(|| missing(&format!("the package of {place}")))?;
    output(Command::new("dpkg").arg("-x").arg(file).arg(&unpacked))?;
    Ok(unpacked)
}

/// Only one process at a time fetches and unpacks; the lock goes with the file.
fn lock(cache: &Path) -> Result<fs::File> {
    let path = cache.join("lock");
    let file = fs::File::create(&path).at("writing", &path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(std::io::Error::from)
        .at("locking", &path)?;
    Ok(file)
}

fn newest() -> Result<String> {
    let depends = output(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    package.map(str::to_owned).ok_or_else(|| {
        let remedy = "run `apt-get update`; this kernel is Debian's";
        Error::new(format!("apt knows no package {KERNEL}"), remedy)
    })
}

/// The kernel in an unpacked package.
pub(crate) fn kernel_of(unpacked: &Path) -> Result<PathBuf> {
    find(unpacked, |name| name.starts_with("vmlinuz")).ok_or_else(|| missing("a kernel"))
}

/// A file, compressed with gzip.
pub(crate) fn compress(archive: &[u8], level: &str, to: &Path) -> Result<()> {
    let file = fs::File::create(to).at("writing", to)?;
    let mut gzip = Command::new("gzip")
        .args(["-n", level])
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .at("running", "gzip")?;
    if let Some(mut input) = gzip.stdin.take() {
        input.write_all(archive).at("writing", to)?;
    }
    let status = gzip.wait().at("running", "gzip")?;
    if status.success() { Ok(()) } else { Err(Error::new("gzip failed", "check that the disk is not full")) }
}

/// A program that must be installed.
pub(crate) fn installed(name: &str) -> Result<PathBuf> {
    places::program(name).ok_or_else(|| missing(name))
}

/// The error that something is not there.
pub(crate) fn missing(what: &str) -> Error {
    Error::new(format!("Linux needs {what}, which is not here"), "see `atoll doctor`, then try again")
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    raw_output(command).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The same, as bytes.
pub(crate) fn raw_output(command: &mut Command) -> Result<Vec<u8>> {
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
pub(crate) fn find(directory: &Path, passes: impl Fn(&str) -> bool + Copy) -> Option<PathBuf> {
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
