//! `lab`: figures of the field's papers, measured anew on this system.
//!
//! A lab says what its paper says, measures the same here, draws both and judges whether the shape holds. On the host
//! threads are pinned to processors and caches are real (`hosted`); in a virtual machine whole guests do it, and Bochs counts
//! their instructions (`emulated`), which know no caches. What a machine is too small to show is said to be so.

mod counters;
mod crew;
pub mod hotplug;
pub mod locks;
mod page;
mod result;
mod shared_memory;
mod stopwatch;
mod text;
mod two_phase;
mod unmap;
pub mod urpc;
pub mod vm;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub use result::{Findings, Outcome, Panel, Series, Verdict};
pub use vm::Guests;

use crate::{
    cli::MachineArgs,
    config::Config,
    error::{Error, Result},
    images::Images,
    machine::{Boot, Kind, Spec},
    output, places, progress,
    session::Session,
    setup,
};
use stopwatch::Bench;

/// Measures a lab on threads of this computer.
type OnHost = fn(&Bench) -> Result<Vec<Panel>>;
/// Measures a lab in a virtual machine.
type InVm = fn(&Guests<'_>) -> Result<Vec<Panel>>;

/// A lab.
pub struct Lab {
    /// As it is called.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Where the figure is from.
    pub paper: Paper,
    /// What is different here.
    pub note: &'static str,
    /// Measures it on this computer; or why that would show nothing.
    on_host: std::result::Result<OnHost, &'static str>,
    /// Has guests of a virtual machine do it; or why that would show nothing.
    in_vm: std::result::Result<InVm, &'static str>,
    judge: fn(&[Panel]) -> Vec<Verdict>,
}

/// What is replayed.
pub struct Paper {
    /// Who has published it.
    pub citation: &'static str,
    /// What it found.
    pub says: &'static str,
    /// The figure's shape, drawn after its words.
    shape: fn() -> Vec<Panel>,
}

/// All of them.
pub const LABS: &[&Lab] = &[
    &shared_memory::LAB,
    &urpc::LAB,
    &unmap::LAB,
    &two_phase::LAB,
    &locks::LAB,
    &counters::LAB,
    &hotplug::LAB,
];

/// Where a lab runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Where {
    /// On this computer's own cores and caches
    #[default]
    Host,
    /// In a virtual machine, by whole guests
    Vm,
}

/// Which lab, and where its findings go.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// The lab; left out: a list of them
    pub name: Option<String>,
    /// Where it runs
    #[arg(long, value_enum, default_value_t)]
    pub on: Where,
    /// Small sizes, to see that it works: the figures mean little
    #[arg(long)]
    pub quick: bool,
    /// Write the figures to a file as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a report with charts to a file, as HTML
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Why what is about cache lines shows nothing in an emulator.
const NO_CACHES: &str =
    "Bochs has no caches, so a line costs the same whoever wrote it last and however far away";

/// What is said of figures of a debug build.
const UNOPTIMIZED: &str = "without optimization: `cargo lab NAME` builds it with";

/// The virtual machine: two packages of four cores.
const CORES: u32 = 8;

/// Runs a lab, or lists them.
pub fn run(wish: &LabArgs, machine: &MachineArgs, yes: bool, as_json: bool) -> Result<()> {
    let Some(name) = &wish.name else {
        list(as_json);
        return Ok(());
    };
    let lab = find(name)?;
    let panels = match wish.on {
        Where::Host => {
            let measure = lab.on_host.map_err(|why| refused(lab, why, "`--on vm`"))?;
            let work = progress::spinner(format!("measuring {name}"));
            let bench = Bench::host(wish.quick);
            bench.warm_up()?;
            let panels = measure(&bench)?;
            work.finish_and_clear();
            panels
        }
        Where::Vm => {
            let measure = lab.in_vm.map_err(|why| refused(lab, why, "`--on host`"))?;
            in_vm(lab, measure, machine, yes)?
        }
    };
    let findings = findings(lab, panels);
    if as_json {
        output::say_json(&findings);
    } else {
        output::say(text::text(lab, &findings));
    }
    if let Some(path) = &wish.csv {
        super::bench::modes::write(path, &text::csv(&findings))?;
    }
    if let Some(path) = &wish.report {
        super::bench::modes::write(path, &page::page(lab, &findings))?;
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Lab> {
    LABS.iter().copied().find(|lab| lab.name == name).ok_or_else(|| {
        let names: Vec<&str> = LABS.iter().map(|lab| lab.name).collect();
        Error::new(format!("there is no lab `{name}`"), format!("choose one of: {}", names.join(", ")))
    })
}

/// What is said of a lab that does not run there, but elsewhere.
fn refused(lab: &Lab, why: &'static str, elsewhere: &str) -> Error {
    Error::new(
        format!("the lab `{}` does not run there: {why}", lab.name),
        format!("run it with {elsewhere}"),
    )
}

impl Lab {
    /// What follows from these figures.
    pub fn verdicts(&self, measured: &[Panel]) -> Vec<Verdict> {
        (self.judge)(measured)
    }

    /// Where it runs, by the names of `--on`.
    fn places(&self) -> Vec<&'static str> {
        let places = [("host", self.on_host.is_ok()), ("vm", self.in_vm.is_ok())];
        places.into_iter().filter_map(|(place, runs)| runs.then_some(place)).collect()
    }
}

fn list(as_json: bool) {
    if as_json {
        let told = |lab: &&Lab| {
            serde_json::json!({
                "name": lab.name, "where": lab.places(), "title": lab.title, "paper": lab.paper.citation,
            })
        };
        output::say_json(&LABS.iter().map(told).collect::<Vec<_>>());
        return;
    }
    let mut table = output::table(&["Lab", "Where", "What it measures"]);
    for lab in LABS {
        table.add_row([lab.name, &lab.places().join(", "), lab.title]);
    }
    output::say(output::rendered(table, &[]));
}

/// What was measured beside the paper's shape, and what follows from the former.
fn findings(lab: &Lab, measured: Vec<Panel>) -> Findings {
    let mut verdicts = lab.verdicts(&measured);
    if measured.iter().any(|panel| panel.machine.ends_with(UNOPTIMIZED)) {
        for verdict in &mut verdicts {
            *verdict = Verdict::cannot(verdict.claim, format!("the command was built {UNOPTIMIZED}"));
        }
    }
    let panels = measured.into_iter().chain((lab.paper.shape)()).collect();
    Findings { lab: lab.name, panels, verdicts }
}

/// Boots a machine, and has guests do what the lab is about.
fn in_vm(lab: &Lab, measure: InVm, machine: &MachineArgs, yes: bool) -> Result<Vec<Panel>> {
    let kind = machine.machine.kind();
    setup::ensure(&[kind.name()], yes)?;
    super::can_run(kind)?;
    let images = Images::find(machine.images.as_deref())?;
    let config = Config { packages: Some(2), ..Config::of_guests(CORES, []) };
    let spec = Spec {
        kind,
        cores: config.cores,
        packages: config.packages,
        max_cores: config.max_cores,
        memory_mib: config.memory_mib,
        boot: Boot::of(&images, &config)?,
        processor: None,
        unattended: false,
        directory: places::run_directory("lab"),
    };
    let work = progress::spinner(format!("booting {}", kind.name()));
    let mut session = Session::start(&spec)?;
    work.set_message(format!("measuring {}", lab.name));
    let machine = described(kind, &session)?;
    let panels = measure(&Guests { client: &session.client, machine, label: kind.label() });
    let panels = panels.map_err(|error| session.explain(error))?;
    work.finish_and_clear();
    Ok(panels)
}

fn described(kind: Kind, session: &Session) -> Result<String> {
    let machine = session.client.machine()?;
    let processor = machine.features.first().map_or("", String::as_str);
    Ok(format!("{}, {} cores in 2 packages, {processor}", kind.name(), machine.cores))
}

/// A panel of figures from this computer.
fn hosted(bench: &Bench, title: &str, x: &'static str, y: &str, series: Vec<Series>) -> Panel {
    let built = if cfg!(debug_assertions) { format!(", {UNOPTIMIZED}") } else { String::new() };
    let machine = bench.machine.clone() + &built;
    Panel { title: title.to_owned(), x, y: y.to_owned(), label: "hosted", machine, series }
}

/// A panel that is drawn after a paper's words.
fn drawn(title: &str, x: &'static str, series: Vec<Series>) -> Panel {
    let machine = "drawn after the paper's words, in no unit: only the shape counts".to_owned();
    Panel { title: title.to_owned(), x, y: "no unit".to_owned(), label: "shape", machine, series }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_have_what_they_need() {
        for lab in LABS {
            assert!(
                !lab.title.is_empty() && lab.paper.says.len() > 40 && lab.note.len() > 20,
                "{}",
                lab.name
            );
            let shape = (lab.paper.shape)();
            assert!(
                shape.iter().all(|panel| panel.label == "shape" && !panel.series.is_empty()),
                "{}",
                lab.name
            );
            assert!(find(lab.name).is_ok());
            assert!(!lab.places().is_empty(), "{} runs nowhere", lab.name);
        }
        assert!(find("nothing").err().unwrap().to_string().contains("shared-memory, urpc"));
    }

    #[test]
    fn findings_put_the_shape_behind_what_was_measured() {
        let lab = find("counters").unwrap();
        let series = vec![Series::new("shared", vec![(1.0, 5.0), (2.0, 50.0)])];
        let found = findings(lab, vec![Panel { label: "hosted", ..drawn("An increment", "cores", series) }]);
        assert_eq!(found.panels.iter().map(|panel| panel.label).collect::<Vec<_>>(), ["hosted", "shape"]);
        assert_eq!(found.verdicts[0].outcome, Outcome::Holds);
        assert_eq!(found.verdicts[1].outcome, Outcome::CannotBeJudged, "there is no sloppy one");
    }
}
