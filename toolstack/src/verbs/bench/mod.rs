//! `bench`: figures, each with a label that says what kind of figure it is.

pub mod modes;
mod para;
mod rows;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use abi::control::wire::{Domain, GuestConfig, State};
use clap::{Args, ValueEnum};

pub use para::{On, on_atoll as para_on_atoll, on_xen as para_on_xen};
pub use rows::{MachineDescription, Row, parse};

use crate::{
    cli::MachineArgs,
    config::{Config, guest},
    error::{Error, Result},
    host,
    images::Images,
    machine::{Boot, Kind, Spec},
    output, places, progress,
    session::Session,
    setup,
};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// What each kind of exit costs, what an event costs, and what running costs (nothing)
    Exits,
    /// What a para guest's calls cost, on Atoll and on real Xen
    Para,
    /// What the same work costs on the bare machine, as a para guest and as a full one
    Modes,
    /// How long Linux takes to its shell in each of these ways, and its exits by reason
    Boot,
}

/// Where figures go beside the terminal.
#[derive(Clone, Debug, Default, Args)]
pub struct Files {
    /// `modes`, `boot`: write the figures to a file as comma-separated values
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// `modes`, `boot`: write a report with charts to a file, as HTML
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Cores of the machine that is measured: domain 0's, and two more.
const CORES: u32 = 3;

/// Wake-ups in the phase `event_wake_exits` of the guest program `bench`.
const WAKES: u64 = 1000;

/// Measures and prints.
pub fn run(
    suite: Suite,
    on: On,
    machine: &MachineArgs,
    yes: bool,
    as_json: bool,
    files: &Files,
) -> Result<()> {
    if !matches!(suite, Suite::Modes | Suite::Boot) && (files.csv.is_some() || files.report.is_some()) {
        return Err(Error::new(
            "--csv and --report are of `bench modes` and `bench boot`",
            "leave them out, or use `--json`",
        ));
    }
    let kind = machine.machine.kind();
    let users: &[&str] = if suite == Suite::Boot { &[kind.name(), "linux"] } else { &[kind.name()] };
    setup::ensure(users, yes)?;
    super::can_run(kind)?;
    let images = Images::find(machine.images.as_deref())?;
    let rows = match suite {
        Suite::Exits => measure_exits(kind, &images, places::run_directory("bench"))?,
        Suite::Para => para::measure(on, kind, &images)?,
        Suite::Modes => {
            let figures = modes::measure(kind, &images, &places::run_directory("bench-modes"))?;
            return show(&figures, as_json, files);
        }
        Suite::Boot => {
            let figures = modes::measure_boot(kind, &images, &places::run_directory("bench-boot"))?;
            return show(&figures, as_json, files);
        }
    };
    if as_json {
        output::say_json(&rows);
    } else {
        output::say(if suite == Suite::Para { para::table(&rows) } else { table(&rows) });
    }
    Ok(())
}

/// Prints figures of all columns, and writes the files that were asked for.
fn show(figures: &[modes::Figure], as_json: bool, files: &Files) -> Result<()> {
    if as_json {
        output::say_json(figures);
    } else {
        output::say(modes::table(figures));
    }
    if let Some(path) = &files.csv {
        modes::write(path, &modes::csv(figures))?;
    }
    if let Some(path) = &files.report {
        modes::write(path, &modes::report(figures))?;
    }
    Ok(())
}

/// Boots a machine with its files in `directory`, lets the guest program `bench` measure with a peer, and collects the
/// rows it prints.
pub fn measure_exits(kind: Kind, images: &Images, directory: PathBuf) -> Result<Vec<Row>> {
    measure_guests(kind, images, [program(1, "role=main"), program(2, "role=peer")], directory)
}

/// A guest made of the program `bench`; the first of them has core 1.
fn program(number: u32, role: &str) -> GuestConfig {
    GuestConfig { command_line: role.to_owned(), ..guest(&format!("bench{number}"), "bench", number) }
}

fn measure_guests(
    kind: Kind,
    images: &Images,
    guests: impl IntoIterator<Item = GuestConfig>,
    directory: PathBuf,
) -> Result<Vec<Row>> {
    let mut config = Config::of_guests(CORES, guests);
    config.machine.stop_when_done = true;
    let spec = Spec {
        kind,
        cores: config.cores,
        packages: config.packages,
        max_cores: config.max_cores,
        memory_mib: config.memory_mib,
        boot: Boot::of(images, &config)?,
        processor: None,
        unattended: false,
        directory,
    };
    let work = progress::spinner(format!("booting {}", kind.name()));
    let mut session = Session::start(&spec)?;
    let rows = collect(&mut session, &work).map_err(|error| session.explain(error))?;
    work.finish_and_clear();
    // The machine has no more to say, and a nested one would take minutes to power itself off.
    Ok(rows)
}

fn collect(session: &mut Session, work: &indicatif::ProgressBar) -> Result<Vec<Row>> {
    let kind = session.machine.kind();
    let machine = session.client.machine()?;
    let boot_ticks = machine.guests_running_tsc.saturating_sub(machine.boot_tsc);
    let description = described(session)?;
    wait_for_guests(session, work)?;
    let mut rows = parse(&session.machine.log().text(), kind.label(), &description);
    for row in &mut rows {
        // The guest counts ticks, and takes them for instructions, which they are in Bochs and within it.
        if row.unit == "instructions" {
            row.unit = ticks_unit(kind).to_owned();
        }
    }
    if rows.is_empty() {
        return Err(Error::new(
            "the guest `bench1` printed no figures",
            "read its console in the serial log",
        ));
    }
    rows.extend(steady(&rows));
    rows.extend(wake_exits(&rows));
    rows.push(Row {
        name: "boot_total".to_owned(),
        median: boot_ticks.into(),
        unit: ticks_unit(kind).to_owned(),
        samples: 1,
        label: kind.label().to_owned(),
        machine: description,
        exits: None,
    });
    Ok(rows)
}

/// The machine that a session is with.
fn described(session: &Session) -> Result<MachineDescription> {
    let machine = session.client.machine()?;
    Ok(MachineDescription {
        kind: session.machine.kind().name().to_owned(),
        cores: machine.cores,
        tsc_khz: machine.tsc_khz,
        processor: machine.features.first().cloned().unwrap_or_default(),
        host_processor: host::processor(),
    })
}

/// Exits of guests that only run, in the worst of the phases that domain 0 counted.
fn steady(rows: &[Row]) -> Option<Row> {
    let phases: Vec<&Row> = rows.iter().filter(|row| row.name.starts_with("steady_exits_")).collect();
    let worst = phases.iter().max_by_key(|row| row.median.as_u64())?;
    Some(Row { name: "steady_exits".to_owned(), samples: phases.len() as u64, ..(*worst).clone() })
}

/// Exits that a wake-up costs each side. Domain 0 has counted those of both over [`WAKES`] of them; the sender has made one
/// hypercall for each, so what is more is the receiver's.
fn wake_exits(rows: &[Row]) -> Vec<Row> {
    let Some(both) = rows.iter().find(|row| row.name == "event_wake_exits") else { return Vec::new() };
    let receiver = both.median.as_u64().unwrap_or(0).saturating_sub(WAKES);
    let side = |name: &str, exits: u64| Row {
        name: name.to_owned(),
        median: exits.div_ceil(WAKES).into(),
        samples: WAKES,
        ..both.clone()
    };
    vec![side("event_wake_sender_exits", WAKES), side("event_wake_receiver_exits", receiver)]
}

/// What one tick of the time-stamp counter is there.
fn ticks_unit(kind: Kind) -> &'static str {
    match kind {
        Kind::Bochs | Kind::Nested => "instructions",
        Kind::Kvm | Kind::Tcg => "ticks",
    }
}

/// Until the guests have shut down by themselves.
fn wait_for_guests(session: &mut Session, work: &indicatif::ProgressBar) -> Result<()> {
    wait_for(session, work, |_| true)
}

/// Until those guests that are `meant` have shut down by themselves.
fn wait_for(
    session: &mut Session,
    work: &indicatif::ProgressBar,
    meant: impl Fn(&Domain) -> bool,
) -> Result<()> {
    let kind = session.machine.kind();
    let patience = kind.boot_patience() * 2;
    let start = Instant::now();
    loop {
        let domains = session.client.list()?;
        let guests: Vec<_> = domains.iter().filter(|domain| domain.id != 0).collect();
        if let Some(guest) = guests.iter().find(|guest| guest.state == State::Crashed) {
            let cause =
                session.client.crash(&guest.name).map_or_else(|error| error.to_string(), |(cause, _)| cause);
            return Err(Error::new(format!("{} crashed: {cause}", guest.name), "read the serial log"));
        }
        if guests.iter().all(|guest| !meant(guest) || matches!(guest.state, State::Shutdown(_))) {
            return Ok(());
        }
        if start.elapsed() > patience {
            let seconds = patience.as_secs();
            return Err(Error::new(
                format!("the benchmark still ran after {seconds} s"),
                "read the serial log",
            ));
        }
        work.set_message(format!("measuring: {}", session.machine.log().last_line()));
        thread::sleep(Duration::from_millis(500));
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = output::table(&["Name", "Median", "Unit", "Samples", "Label"]);
    for row in rows {
        let median = row.median.as_u64().map_or_else(|| row.median.to_string(), output::grouped);
        table.add_row([
            row.name.clone(),
            median,
            row.unit.clone(),
            output::grouped(row.samples),
            row.label.clone(),
        ]);
    }
    output::rendered(table, &[1, 3])
}
