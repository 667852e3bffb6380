//! `bench modes`: the same work by the same program, on the bare machine and in each way to virtualize a guest.
//!
//! A reader's path: [`measure`] (and [`measure_boot`], where the work is a boot of Linux) boots the bare machine and then Atoll, on which a guest is created for each [`Column`] in
//! turn; [`figure`] joins what the guests printed with what domain 0 counted; [`table`], [`csv`] and [`report`] show it.

mod boot;
mod chart;
mod column;
mod csv;
mod figure;
mod report;
mod ring;
mod table;
mod work;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub use boot::measure_boot;
pub use chart::{Bar, Group, chart, escaped};
pub use column::{COLUMNS, Column};
pub use csv::csv;
pub use figure::{Cost, Figure, Outcome};
pub use report::{STYLE, report};
pub use table::table;
pub use work::{BOOT_WORKS, WORKS, Work};

use super::{CORES, MachineDescription, Row, described, parse, wait_for};
use crate::{
    archive,
    config::{Config, guest},
    error::{At, Error, Result},
    host,
    images::Images,
    iso,
    machine::{Boot, Kind, Machine, Spec},
    places, progress,
    session::Session,
};
use abi::control::wire::GuestConfig;

/// The guest program, and what it is told beside its mode: that it finds the local APIC as a PC has it at power-up.
const PROGRAM: &str = "bench";
const ROLE: &str = "role=modes apic=untouched";
const GUEST_MIB: u32 = 64;
const BARE_MIB: u32 = 256;
/// Whom it talks to, where it can.
const PEER: &str = "peer";
/// What it prints when it has measured all it can.
const DONE: &str = "bench: done";

/// Measures in all columns, with files in `directory`.
pub fn measure(kind: Kind, images: &Images, directory: &Path) -> Result<Vec<Figure>> {
    has_bare(kind)?;
    let bare = on_bare(kind, images, &directory.join("bare"))?;
    let on_atoll = on_atoll(kind, images, &Config::of_guests(CORES, []), &directory.join("atoll"), columns)?;
    Ok(on_atoll.beside(WORKS, bare))
}

fn has_bare(kind: Kind) -> Result<()> {
    if kind == Kind::Nested {
        return Err(Error::new("nested has no bare machine to compare with", "take `--machine bochs`"));
    }
    Ok(())
}

/// The program alone on the machine, started by GRUB: guest kernels and hypervisor have the same entry, and so the same
/// file boots as either.
fn on_bare(kind: Kind, images: &Images, directory: &Path) -> Result<Vec<Row>> {
    let path = images.guests.get(PROGRAM).ok_or_else(|| {
        Error::new(format!("there is no image `{PROGRAM}`"), "build the images: leave out `--images`")
    })?;
    places::make(directory)?;
    let cd = directory.join("boot.iso");
    iso::write(&archive::read_image(path)?, None, &format!("{ROLE} mode=bare"), directory, &cd)?;
    let log = log_of_bare(kind, CORES, BARE_MIB, cd, directory, |log| log.contains(DONE))?;
    Ok(parse(&log, kind.label(), &description(kind, CORES)))
}

/// Boots a CD image without the hypervisor: what the serial port has said when that is `enough`.
fn log_of_bare(
    kind: Kind,
    cores: u32,
    memory_mib: u32,
    cd: PathBuf,
    directory: &Path,
    enough: impl Fn(&str) -> bool,
) -> Result<String> {
    let spec = Spec {
        kind,
        cores,
        packages: None,
        max_cores: None,
        memory_mib,
        boot: Boot::Iso(cd),
        processor: None,
        unattended: kind == Kind::Bochs,
        directory: directory.to_owned(),
    };
    let work = progress::spinner(format!("measuring on bare {}", kind.name()));
    let mut machine = Machine::start(&spec)?;
    let start = Instant::now();
    loop {
        let text = machine.log().text();
        if enough(&text) {
            work.finish_and_clear();
            return Ok(text);
        }
        if !machine.is_running() || start.elapsed() > kind.boot_patience() * 2 {
            let seconds = start.elapsed().as_secs();
            let what = format!("without the hypervisor the program came to no end within {seconds} s");
            return Err(Error::new(what, "").with_log(machine.log().path()));
        }
        work.set_message(format!("measuring on bare {}: {}", kind.name(), machine.log().last_line()));
        thread::sleep(Duration::from_millis(200));
    }
}

/// The bare machine. Its processor and its clock nobody says there.
fn description(kind: Kind, cores: u32) -> MachineDescription {
    MachineDescription {
        kind: format!("{} without Atoll", kind.name()),
        cores,
        tsc_khz: 0,
        processor: String::new(),
        host_processor: host::processor(),
    }
}

/// What came out on Atoll.
struct OnAtoll {
    rows: Vec<Row>,
    /// Columns that came to no end, and why.
    failed: Vec<(&'static str, String)>,
    machine: MachineDescription,
}

impl OnAtoll {
    /// All figures, with rows of the bare machine: of the same kind, and so with the same processor.
    fn beside(self, works: &'static [Work], mut rows: Vec<Row>) -> Vec<Figure> {
        for row in &mut rows {
            row.machine.processor.clone_from(&self.machine.processor);
            row.machine.tsc_khz = self.machine.tsc_khz;
        }
        rows.extend(self.rows);
        figure::join(works, &rows, &self.failed)
    }
}

/// Boots Atoll, and measures there.
fn on_atoll(
    kind: Kind,
    images: &Images,
    config: &Config,
    directory: &Path,
    measure: impl FnOnce(&mut Session, &indicatif::ProgressBar) -> Result<OnAtoll>,
) -> Result<OnAtoll> {
    let spec = Spec {
        kind,
        cores: config.cores,
        packages: config.packages,
        max_cores: config.max_cores,
        memory_mib: config.memory_mib,
        boot: Boot::of(images, config)?,
        processor: None,
        unattended: false,
        directory: directory.to_owned(),
    };
    let work = progress::spinner(format!("booting {}", kind.name()));
    let mut session = Session::start(&spec)?;
    let done = measure(&mut session, &work);
    work.finish_and_clear();
    done.map_err(|error| session.explain(error))
}

/// The program as a guest, in one column after the other on the same core.
fn columns(session: &mut Session, work: &indicatif::ProgressBar) -> Result<OnAtoll> {
    let machine = described(session)?;
    let failed =
        in_each_column(session, |session, column, config| measure_column(session, work, column, config))?;
    let mut rows = parse(&session.machine.log().text(), session.machine.kind().label(), &machine);
    rows.extend(ring::rows(&rows));
    Ok(OnAtoll { rows, failed, machine })
}

/// Measures in each column that has a guest, and leaves none behind: the columns that failed, and why.
fn in_each_column(
    session: &mut Session,
    mut measure: impl FnMut(&mut Session, &'static Column, fn(GuestConfig) -> GuestConfig) -> Result<()>,
) -> Result<Vec<(&'static str, String)>> {
    let mut failed = Vec::new();
    for column in COLUMNS {
        let Some(config) = column.guest() else { continue };
        if let Err(error) = measure(session, column, config) {
            // Without the machine there are no further columns; a guest that is refused, or crashes, spoils its own alone.
            if session.client.is_closed() {
                return Err(error);
            }
            failed.push((column.name, error.what().to_owned()));
        }
        for left in session.client.list()?.iter().filter(|domain| domain.id != 0) {
            session.client.destroy(&left.name)?;
        }
    }
    Ok(failed)
}

/// Lets the guest measure, with a peer where it can have one. What is left of them is for the caller to destroy.
fn measure_column(
    session: &mut Session,
    work: &indicatif::ProgressBar,
    column: &Column,
    config: fn(GuestConfig) -> GuestConfig,
) -> Result<()> {
    let has_peer = column.knows_others();
    if has_peer {
        let command_line = "role=peer".to_owned();
        session.client.create(GuestConfig { command_line, ..guest(PEER, PROGRAM, 2) })?;
    }
    session.client.create(config(GuestConfig {
        // What is on its disk does not matter: the program itself.
        disk: (!has_peer).then(|| PROGRAM.to_owned()),
        mesh: has_peer,
        memory_mib: GUEST_MIB,
        command_line: format!("{ROLE} mode={}", column.name),
        ..guest(column.name, PROGRAM, 1)
    }))?;
    wait_for(session, work, |_| true)?;
    if has_peer {
        session.client.destroy(column.name)?;
        session.client.destroy(PEER)?;
        ring::run(session, work)?;
    }
    Ok(())
}

/// Writes a file that was asked for.
pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).at("writing", path)
}
