//! Fuzz targets: each takes any bytes and does with them what Atoll does with what a guest, the wire or a file holds.
//! What must hold whatever these are is asserted; that nothing panics goes without saying.
//!
//! The same functions run in two ways. `tests/short_run.rs` calls them in an ordinary test: on the seeds, and on some
//! mutations of these. libFuzzer, which is guided by what code an input reaches, calls them in programs of its own
//! (`fuzz_targets`, behind the feature `libfuzzer`); `cargo atoll fuzz` builds and runs those, as does cargo-fuzz.
//!
//! A target's seeds are the files in `seeds/TARGET`: what real software does, and inputs that once found a mistake. The
//! former are written down in [`seeds`], from which `cargo run -p fuzz --example write_seeds` makes the files.
//!
//! Where to read on: [`devices`], or, for what is being called, the room that a target's imports name.
#![forbid(unsafe_code)]

pub mod devices;
pub mod files;
pub mod interrupts;
pub mod paging;
pub mod processor;
pub mod seeds;
pub mod step;
pub mod wires;

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its function, its program and the directory of its seeds.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
    /// Seeds, each with its file's name.
    pub seeds: fn() -> seeds::Seeds,
}

impl Target {
    /// Where its seeds' files lie.
    pub fn directory(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(self.name)
    }

    /// What is in these files, in the order of their names.
    pub fn files(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut paths =
            fs::read_dir(self.directory())?.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        paths.iter().map(fs::read).collect()
    }
}

macro_rules! targets {
    ($($room:ident::$name:ident),* $(,)?) => {
        /// All targets.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $room::$name, seeds: seeds::$name }),*];
    };
}

targets!(
    devices::ata,
    devices::board,
    devices::cmos,
    devices::fw_cfg,
    devices::i8042,
    devices::io_apic,
    devices::local_apic,
    devices::pci,
    devices::pic,
    devices::pit,
    devices::pm,
    devices::uart,
    files::archive,
    files::image,
    files::kernel,
    interrupts::interrupts,
    paging::guest_walk,
    paging::shadow,
    processor::decoder,
    wires::control_wire,
    wires::xenstore,
);
