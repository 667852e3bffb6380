//! `bench para`: what a para guest's calls cost, on Atoll and on real Xen, by the same guest image on the same emulated
//! processor.

use std::path::PathBuf;

use abi::control::wire::GuestConfig;
use clap::ValueEnum;

use super::{MachineDescription, Row, measure_guests, parse, program};
use crate::{
    archive,
    error::{Error, Result},
    host,
    images::Images,
    machine::{Kind, xen},
    output, places, progress,
};

/// The hypervisors that are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// Atoll alone
    Atoll,
    /// Real Xen alone
    Xen,
    /// Both, side by side
    #[default]
    Both,
}

/// The guest program, and what it is told to do.
const PROGRAM: &str = "bench";
const ROLE: &str = "role=para";
/// Its virtual CPUs, each on a core of its own.
const CPUS: u32 = 2;
/// Rounds of requests at each depth, as in the program.
const RING_ROUNDS: u64 = 1000;
/// Tells an Atoll row's machine from a Xen row's in JSON.
const XEN: &str = "xen-bochs";

/// Measures on one or both.
pub fn measure(on: On, kind: Kind, images: &Images) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if on != On::Xen {
        rows.extend(on_atoll(kind, images, places::run_directory("bench-para"))?);
    }
    if on != On::Atoll {
        rows.extend(on_xen(images, places::run_directory("bench-xen"))?);
    }
    Ok(rows)
}

/// Measures on Atoll, with files in `directory`.
pub fn on_atoll(kind: Kind, images: &Images, directory: PathBuf) -> Result<Vec<Row>> {
    let cores: Vec<u32> = (1..=CPUS).collect();
    let guest = GuestConfig { vcpus: CPUS, cores, ..program(1, ROLE) };
    let mut rows = measure_guests(kind, images, [guest], directory)?;
    // Domain 0 has counted all exits of so many rounds.
    for (name, depth) in [("ring_qd1_exits", 1), ("ring_qd32_exits", 32)] {
        for row in rows.iter_mut().filter(|row| row.name == name) {
            let requests = RING_ROUNDS * depth;
            row.median = (row.median.as_u64().unwrap_or(0) * 1000).div_ceil(requests).into();
            (row.unit, row.samples) = ("exits/1000".to_owned(), requests);
        }
    }
    Ok(rows)
}

/// Measures on real Xen, with files in `directory`.
pub fn on_xen(images: &Images, directory: PathBuf) -> Result<Vec<Row>> {
    let work = progress::spinner("booting Xen in bochs".to_owned());
    let path = images.guests.get(PROGRAM).ok_or_else(|| {
        Error::new(format!("there is no image `{PROGRAM}`"), "build the images: leave out `--images`")
    })?;
    let log = xen::run(&archive::read_image(path)?, ROLE, CPUS, &directory)?;
    let description = MachineDescription {
        kind: XEN.to_owned(),
        cores: CPUS,
        tsc_khz: 0,
        processor: "Xen 4.17 of Debian, spec-ctrl=no xpti=no, PVH domain 0".to_owned(),
        host_processor: host::processor(),
    };
    let rows = parse(&log, Kind::Bochs.label(), &description);
    work.finish_and_clear();
    if rows.is_empty() {
        let remedy = format!("read {}", directory.join("serial.log").display());
        return Err(Error::new("on Xen the guest printed no figures", remedy));
    }
    Ok(rows)
}

/// The rows of both, a line for each name.
pub fn table(rows: &[Row]) -> String {
    let mut table = output::table(&["Name", "Atoll", "Xen", "Xen is", "Unit", "Label"]);
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    for name in names {
        let of = |xen: bool| rows.iter().find(|row| row.name == name && (row.machine.kind == XEN) == xen);
        let Some(any) = of(false).or(of(true)) else { continue };
        let median = |row: Option<&Row>| row.and_then(|row| row.median.as_u64());
        let (atoll, xen) = (median(of(false)), median(of(true)));
        let shown = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), output::grouped);
        let ratio = match (atoll, xen) {
            (Some(atoll), Some(xen)) if atoll > 0 => format!("{:.1} x", xen as f64 / atoll as f64),
            _ => "-".to_owned(),
        };
        table.add_row([
            name.to_owned(),
            shown(atoll),
            shown(xen),
            ratio,
            any.unit.clone(),
            any.label.clone(),
        ]);
    }
    output::rendered(table, &[1, 2, 3])
}
