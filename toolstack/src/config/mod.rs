//! The description of a machine and its guests, in TOML:
//!
//! ```toml
//! [machine]
//! cores = 4
//! memory_mib = 1024
//!
//! [[guest]]                          # one of Atoll's own kernels
//! name = "web"
//! image = "hello"
//! core = 1
//! memory_mib = 32
//! command_line = "greeting=moin"
//!
//! [[guest]]                          # any kernel that starts as a PVH guest of Xen
//! name = "linux"
//! kernel = "vmlinuz"                 # a file, as seen from this one
//! ramdisk = "initrd.gz"
//! cores = [2, 3]
//! command_line = "console=hvc0"
//! on_reboot = "restart"
//! devices = ["echo,backend=store"]   # what another guest, described before it, serves
//! ```
//!
//! It is checked whole before anything starts, and every mistake is told with its line and its remedy. What passes is
//! safe to hand to the control domain, which checks again what only it can know. Options of a command that describe a
//! guest are turned into such a text, and so checked in the same way ([`Options`]).

mod check;
mod device;
mod file;
mod kernel;
mod options;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use abi::control::wire::{GuestConfig, MachineConfig, Policy};

pub use kernel::image_name;
pub use options::Options;

use crate::error::{At, Error, Result};

/// Cores of a machine that nobody described.
pub const DEFAULT_CORES: u32 = 4;
/// Its memory.
pub const DEFAULT_MEMORY_MIB: u32 = 1024;
/// Memory of one of Atoll's own guest kernels whose description names none.
pub const DEFAULT_GUEST_MIB: u32 = 32;
/// Memory of another kernel whose description names none.
pub const DEFAULT_KERNEL_MIB: u32 = 256;
/// Memory that the hypervisor and domain 0 keep for themselves.
pub const RESERVED_MIB: u32 = 128;

/// A checked description.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Cores of the machine, core 0 for domain 0.
    pub cores: u32,
    /// Packages that they are in, as many in each; `None`: as the machine has it by itself.
    pub packages: Option<u32>,
    /// How many cores the machine may come to have while it runs; `None`: no more than it has.
    pub max_cores: Option<u32>,
    /// Memory of the machine.
    pub memory_mib: u32,
    /// What the control domain gets to know.
    pub machine: MachineConfig,
    /// Kernels and ramdisks that are files of the host: the image's name in `machine`, and where it is.
    pub files: BTreeMap<String, PathBuf>,
}

/// What a description is checked against.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Images of Atoll's own that guests can be made of.
    pub images: Vec<String>,
    /// Other images that the running machine has.
    pub stored: Vec<String>,
    /// Cores and MiB of the machine that runs already; `None` if the description makes the machine.
    pub running: Option<(u32, u32)>,
}

impl Config {
    /// Four cores, and a mesh of three guests on those that domain 0 leaves.
    pub fn standard() -> Self {
        Self::of_guests(
            DEFAULT_CORES,
            (1..DEFAULT_CORES).map(|core| guest(&format!("mesh{core}"), "mesh", core)),
        )
    }

    /// A machine with so many cores and these guests.
    pub fn of_guests(cores: u32, guests: impl IntoIterator<Item = GuestConfig>) -> Self {
        Self {
            cores,
            packages: None,
            max_cores: None,
            memory_mib: DEFAULT_MEMORY_MIB,
            machine: MachineConfig { guests: guests.into_iter().collect(), stop_when_done: false },
            files: BTreeMap::new(),
        }
    }

    /// The description in a file, or the standard one if no file is named.
    pub fn load(file: Option<&Path>, surroundings: &Surroundings) -> Result<Self> {
        let Some(file) = file else { return Ok(Self::standard()) };
        let text = fs::read_to_string(file).at("reading the configuration", file)?;
        Self::parse(&text, file, surroundings)
    }

    /// The description in `text`; `file` is its name in errors, and files that it names are looked for from there.
    pub fn parse(text: &str, file: &Path, surroundings: &Surroundings) -> Result<Self> {
        let near = file.parent().unwrap_or(Path::new(""));
        Self::of(&Source { origin: Origin::File(file), text }, near, surroundings)
    }

    /// One guest that a command's options describe.
    pub fn of_options(options: &Options, surroundings: &Surroundings) -> Result<Self> {
        let (text, names) = options.as_text();
        Self::of(&Source { origin: Origin::Options(&names), text: &text }, Path::new(""), surroundings)
    }

    fn of(source: &Source, near: &Path, surroundings: &Surroundings) -> Result<Self> {
        let raw = file::read(source).map_err(|mistake| source.error(&[mistake]))?;
        check::check(raw, near, surroundings).map_err(|mistakes| source.error(&mistakes))
    }
}

/// One of Atoll's own guest kernels on this core, with the usual memory.
pub fn guest(name: &str, image: &str, core: u32) -> GuestConfig {
    GuestConfig { cores: vec![core], ..any_core(name, image) }
}

/// One of Atoll's own guest kernels on the lowest idle core, with the usual memory.
pub fn any_core(name: &str, image: &str) -> GuestConfig {
    GuestConfig {
        name: name.to_owned(),
        image: image.to_owned(),
        vcpus: 1,
        memory_mib: DEFAULT_GUEST_MIB,
        mesh: true,
        on_reboot: Policy::Restart,
        ..GuestConfig::default()
    }
}

/// Something wrong at a place in the text.
#[derive(Debug)]
struct Mistake {
    offset: usize,
    what: String,
    remedy: String,
}

/// Where a text is from: what a line of it is called.
enum Origin<'text> {
    File(&'text Path),
    /// A line is an option, with this name.
    Options(&'text [&'static str]),
}

struct Source<'text> {
    origin: Origin<'text>,
    text: &'text str,
}

impl Source<'_> {
    fn error(&self, mistakes: &[Mistake]) -> Error {
        let told = |mistake: &Mistake| {
            let line = self.text.get(..mistake.offset).unwrap_or(self.text).matches('\n').count();
            match self.origin {
                Origin::File(file) => format!("{}:{}: {}", file.display(), line + 1, mistake.what),
                Origin::Options(names) => match names.get(line) {
                    Some(name) => format!("{name}: {}", mistake.what),
                    None => mistake.what.clone(),
                },
            }
        };
        // Each mistake has its remedy right below; the last one is the error's own.
        let mut what = String::new();
        for mistake in mistakes.iter().take(mistakes.len().saturating_sub(1)) {
            what.push_str(&format!("{}\n  remedy: {}\n", told(mistake), mistake.remedy));
        }
        match mistakes.last() {
            Some(last) => Error::new(what + &told(last), &last.remedy),
            None => Error::new(what, ""),
        }
    }
}
