//! `bench boot`: how long Debian's kernel takes to its shell, on the bare machine and as each kind of guest, and its exits.
//!
//! The kernel's own clock tells: it counts the processor's ticks from early in its start on, and is told their rate where
//! the processor would tell another. So GRUB, a BIOS, and domain 0's work before a guest runs are in no column.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use abi::control::{
    hypercall::ExitKind,
    wire::{GuestConfig, State, Virt},
};

use super::{
    super::{MachineDescription, Row, described, ticks_unit},
    BOOT_WORKS, Column, Figure, OnAtoll, description, has_bare, in_each_column, log_of_bare, on_atoll,
};
use crate::{
    config::{self, Config},
    control::Console,
    error::{At, Error, Result},
    images::Images,
    iso,
    linux::guest::{self, Files},
    machine::Kind,
    places,
    session::Session,
};

/// Memory of the guest, and of the bare machine.
const MEMORY_MIB: u32 = 192;
/// The images' names.
const KERNEL: &str = "vmlinuz";
const RAMDISK: &str = "initrd.gz";

/// Measures in all columns, with files in `directory`.
pub fn measure_boot(kind: Kind, images: &Images, directory: &Path) -> Result<Vec<Figure>> {
    has_bare(kind)?;
    let files = guest::write(&places::state_directory().join("linux/guest"))?;
    let bare_seconds = on_bare(kind, &files, &directory.join("bare"))?;
    let file = |name: &str, path: &PathBuf| (name.to_owned(), path.clone());
    let config = Config {
        files: [file(KERNEL, &files.kernel), file(RAMDISK, &files.ramdisk)].into(),
        ..Config::of_guests(2, [])
    };
    let mut bare = Vec::new();
    let on_atoll = on_atoll(kind, images, &config, &directory.join("atoll"), |session, work| {
        let machine = described(session)?;
        let rate_khz = kind.counted_khz().unwrap_or(machine.tsc_khz);
        let row = |mode: &str, machine: &MachineDescription, unit: &str, median: u64| Row {
            name: format!("{mode}/{}", BOOT_WORKS[0].name),
            median: median.into(),
            unit: unit.to_owned(),
            samples: 1,
            label: kind.label().to_owned(),
            machine: machine.clone(),
            exits: None,
        };
        let ticks = |seconds: f64| (seconds * f64::from(rate_khz) * 1000.0).round() as u64;
        let unit = ticks_unit(kind);
        bare.push(row("bare", &description(kind, 1), unit, ticks(bare_seconds)));
        let mut rows = Vec::new();
        let failed = in_each_column(session, |session, column, config| {
            work.set_message(format!("booting Linux: {}", column.name));
            let (seconds, exits) = boot(session, column, config)?;
            rows.push(row(column.name, &machine, unit, ticks(seconds)));
            rows.push(row(column.name, &machine, "operations", 1));
            let exits = Some(exits);
            rows.push(Row { exits, ..row(column.name, &machine, "exits", 0) });
            Ok(())
        })?;
        Ok(OnAtoll { rows, failed, machine })
    })?;
    Ok(on_atoll.beside(BOOT_WORKS, bare))
}

/// What Linux is told. Half of its start would be spent on names for tracing.
fn command_line(kind: Kind, console: &str) -> String {
    let rate = kind.counted_khz().map_or(String::new(), |khz| format!(" tsc=reliable tsc_early_khz={khz}"));
    format!("console={console} quiet initcall_blacklist=trace_eval_init{rate}")
}

/// Without the hypervisor: seconds to the shell.
fn on_bare(kind: Kind, files: &Files, directory: &Path) -> Result<f64> {
    let cd = directory.join("boot.iso");
    places::make(directory)?;
    let read = |path: &Path| fs::read(path).at("reading", path);
    let (kernel, ramdisk) = (read(&files.kernel)?, read(&files.ramdisk)?);
    iso::write_linux(&kernel, &ramdisk, &command_line(kind, "ttyS0"), directory, &cd)?;
    let there = |log: &str| guest::seconds_to_shell(log).is_some();
    let log = log_of_bare(kind, 1, MEMORY_MIB, cd, directory, there)?;
    guest::seconds_to_shell(&log).ok_or_else(|| Error::new("the shell did not say when it came", ""))
}

/// As a guest: seconds to the shell, and the exits until it was seen.
fn boot(
    session: &Session,
    column: &Column,
    config: fn(GuestConfig) -> GuestConfig,
) -> Result<(f64, BTreeMap<String, u64>)> {
    let client = &session.client;
    let mut guest = config(GuestConfig {
        ramdisk: Some(RAMDISK.to_owned()),
        mesh: false,
        memory_mib: MEMORY_MIB,
        ..config::guest(column.name, KERNEL, 1)
    });
    let console = if guest.virt == Virt::Full { "ttyS0" } else { "hvc0" };
    guest.command_line = command_line(session.machine.kind(), console);
    client.create(guest)?;
    let mut console = Console::new(client, column.name);
    let (mut said, start) = (String::new(), Instant::now());
    let patience = session.machine.kind().boot_patience() * 2;
    loop {
        let domain = client.domain(column.name)?;
        said.push_str(&String::from_utf8_lossy(&console.read(false)?));
        if let Some(seconds) = guest::seconds_to_shell(&said) {
            let counted = ExitKind::ALL.iter().zip(domain.exits);
            return Ok((seconds, counted.map(|(kind, count)| (kind.label().to_owned(), count)).collect()));
        }
        if domain.state != State::Running || start.elapsed() > patience {
            let last = said.lines().next_back().unwrap_or("nothing").to_owned();
            return Err(Error::new(format!("Linux came to no shell; it said last: {last}"), ""));
        }
        thread::sleep(Duration::from_millis(100));
    }
}
