//! The bare images: the hypervisor and the guest kernels, each an ELF file of its own.
//!
//! From a clone they are built on demand, by the same stable toolchain that built this command: Atoll has one target,
//! and what makes code bare is the profile, the flags below and each crate's linker script. An installed command has
//! no sources, and takes a directory of images instead.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{At, Error, Result},
    places,
};

/// The hypervisor's image.
pub const HYPERVISOR: &str = "atoll-hypervisor";
/// Domain 0's image.
pub const CONTROL: &str = abi::archive::CONTROL_IMAGE;
/// The images guests can be made of.
pub const GUESTS: &[&str] = &[
    "hello",
    "mesh",
    "bad",
    "bench",
    "siblings",
    "abi",
    "grants",
    "echo",
    "store",
    "multikernel",
    "labs",
    "successor",
];

/// The one target. It is named even though it is the host's: else the flags would reach build scripts too.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Code that runs where no operating system is: fixed addresses, no red zone (interrupts would overwrite it), no
/// unwinding.
const FLAGS: &[&str] = &[
    "-Crelocation-model=static",
    "-Cno-redzone=y",
    "-Cpanic=abort",
    "-Cforce-unwind-tables=no",
    "-Ccode-model=small",
    "-Clinker=rust-lld",
    "-Clinker-flavor=ld.lld",
];

/// Where the images of one build are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The hypervisor.
    pub hypervisor: PathBuf,
    /// Domain 0.
    pub control: PathBuf,
    /// Guest images by name.
    pub guests: BTreeMap<String, PathBuf>,
}

impl Images {
    /// The images a command works with: those in `directory` if one is named, else those of the clone, built now.
    pub fn find(directory: Option<&Path>) -> Result<Self> {
        match (directory, places::clone_root()) {
            (Some(directory), _) => Self::in_directory(directory),
            (None, Some(root)) => Self::build(&root),
            (None, None) => Err(Error::new(
                "there are no images to boot: this is no clone of Atoll",
                "name a directory with `--images DIR`, or run `cargo atoll` in a clone",
            )),
        }
    }

    /// The images in a directory; every ELF file in it but the first two is a guest's.
    pub fn in_directory(directory: &Path) -> Result<Self> {
        let required = |name: &str| {
            let path = directory.join(name);
            path.is_file().then_some(path).ok_or_else(|| {
                Error::new(
                    format!("{} has no image `{name}`", directory.display()),
                    format!("an image directory holds `{HYPERVISOR}`, `{CONTROL}` and the guests' images"),
                )
            })
        };
        let (hypervisor, control) = (required(HYPERVISOR)?, required(CONTROL)?);
        let mut guests = BTreeMap::new();
        for entry in fs::read_dir(directory).at("reading", directory)? {
            let path = entry.at("reading", directory)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name != HYPERVISOR && name != CONTROL && is_elf(&path) {
                guests.insert(name.to_owned(), path);
            }
        }
        Ok(Self { hypervisor, control, guests })
    }

    /// Builds the images of the clone at `root`; cargo shows its own progress on stderr.
    pub fn build(root: &Path) -> Result<Self> {
        let target = places::target_directory(root).join("bare");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(&cargo)
            .current_dir(root)
            .args(["build", "--profile", "bare", "--target", TARGET, "--target-dir"])
            .arg(&target)
            .args(["-p", "hypervisor", "-p", "guest-kernel"])
            .args(["--features", "hypervisor/bare,guest-kernel/bare", "--bins"])
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
            .env_remove("RUSTFLAGS")
            .stdout(std::process::Stdio::null())
            .status()
            .at("running", Path::new(&cargo))?;
        if !status.success() {
            return Err(Error::new("the images do not build", "read cargo's messages above"));
        }
        let directory = target.join(TARGET).join("bare");
        let guests = GUESTS.iter().map(|&name| (name.to_owned(), directory.join(name))).collect();
        Ok(Self { hypervisor: directory.join(HYPERVISOR), control: directory.join(CONTROL), guests })
    }

    /// Names of the guest images.
    pub fn guest_names(&self) -> Vec<String> {
        self.guests.keys().cloned().collect()
    }
}

/// Names of the guest images there are to choose from, before any is built.
pub fn names(directory: Option<&Path>) -> Result<Vec<String>> {
    match directory {
        Some(directory) => Ok(Images::in_directory(directory)?.guest_names()),
        None => Ok(GUESTS.iter().map(|&name| name.to_owned()).collect()),
    }
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic)).is_ok()
        && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_images_is_taken_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        for name in [HYPERVISOR, CONTROL, "web"] {
            fs::write(directory.path().join(name), b"\x7fELF...").unwrap();
        }
        fs::write(directory.path().join("README"), "not an image").unwrap();
        let images = Images::in_directory(directory.path()).unwrap();
        assert_eq!(images.guest_names(), ["web"]);
    }

    #[test]
    fn a_missing_image_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = Images::in_directory(directory.path()).unwrap_err();
        assert!(error.what().ends_with("has no image `atoll-hypervisor`"), "{error}");
    }
}
