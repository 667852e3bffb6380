//! `info topology`: where cores, caches and memory are, what follows from it, and what messages between cores cost.
//!
//! The facts are domain 0's, or with `--host` this computer's own; conclusions are drawn here, by the rules of the
//! knowledge base, and so are answers to questions that a person asks.

mod draw;
pub mod host;

use std::{
    thread,
    time::{Duration, Instant},
};

use abi::control::{topology::Known, wire::Domain};
use guest_kernel::knowledge::{Knowledge, datalog::Answer};
use serde_json::{Value, json};

use crate::{
    control::Client,
    error::{Error, Result},
    holder,
    output::{self, table},
};

/// As long as guests may take to measure.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether they are done.
const LOOK: Duration = Duration::from_millis(50);

/// What is asked for.
pub struct Wish<'a> {
    /// This computer's own, not the running machine's.
    pub host: bool,
    /// No measuring: what was measured before.
    pub as_is: bool,
    /// A question to the knowledge base, instead of all of it.
    pub question: Option<&'a str>,
    /// JSON.
    pub json: bool,
}

/// What is known, and of what.
struct Subject {
    known: Known,
    /// Who has which core.
    domains: Vec<Domain>,
    machine: String,
    label: &'static str,
}

/// Shows it, or answers the question.
pub fn run(wish: &Wish<'_>) -> Result<()> {
    let subject = if wish.host { of_host()? } else { of_machine(wish)? };
    let mut knowledge = Knowledge::of_machine(&subject.known.topology);
    knowledge.measured(&subject.known.latencies);
    if let Some(question) = wish.question {
        return answer(&knowledge, question, wish.json);
    }
    if wish.json {
        output::say_json(&as_json(&subject, &knowledge));
        return Ok(());
    }
    output::say(format!("{} ({} figures)", subject.machine, subject.label));
    output::say(draw::tree(&subject.known.topology, &knowledge, &|core| on(core, &subject.domains)));
    output::say(draw::matrix("distance", subject.known.topology.cores, |a, b| knowledge.distance(a, b)));
    output::say(
        "1 threads of a core, 2 below one L2, 3 below one L3, 4 in a package, 5 on a node, 6 elsewhere\n",
    );
    if subject.known.latencies.is_empty() {
        output::say("No latencies: nobody in the mesh has measured any.");
    } else {
        output::say(draw::matrix("ticks", subject.known.topology.cores, |a, b| {
            latency(&subject.known, a, b)
        }));
        output::say(format!(
            "A message from row to column, measured by the guests in the mesh: {}",
            unit(subject.label)
        ));
    }
    Ok(())
}

fn of_host() -> Result<Subject> {
    let topology = host::topology()?;
    let machine = format!("this computer: {}", host::description());
    Ok(Subject {
        known: Known { topology, latencies: Vec::new() },
        domains: Vec::new(),
        machine,
        label: "hosted",
    })
}

fn of_machine(wish: &Wish<'_>) -> Result<Subject> {
    let order = holder::order(&holder::directory())?;
    let client = super::attached()?;
    let known = if wish.as_is || wish.question.is_some() { client.topology()?.0 } else { measured(&client)? };
    Ok(Subject {
        known,
        domains: client.list()?,
        machine: order.kind.name().to_owned(),
        label: order.kind.label(),
    })
}

/// What is known once all members of the mesh have measured.
pub fn measured(client: &Client) -> Result<Known> {
    client.measure()?;
    let begun = Instant::now();
    loop {
        let (known, measuring) = client.topology()?;
        if !measuring {
            return Ok(known);
        }
        if begun.elapsed() > PATIENCE {
            return Err(Error::new(
                "a guest in the mesh does not measure what its messages cost",
                "`atoll top` shows who works; `atoll info topology --as-is` does not wait",
            ));
        }
        thread::sleep(LOOK);
    }
}

/// The domain that has a core.
fn on(core: u32, domains: &[Domain]) -> Option<&str> {
    domains.iter().find(|domain| domain.cores.contains(&core)).map(|domain| domain.name.as_str())
}

fn latency(known: &Known, from: u32, to: u32) -> Option<u64> {
    known
        .latencies
        .iter()
        .find(|latency| (latency.from, latency.to) == (from, to))
        .map(|latency| latency.ticks)
}

fn unit(label: &str) -> &'static str {
    if label == "emulated" {
        "emulated, so ticks are instructions and know no caches"
    } else {
        "ticks of the TSC"
    }
}

fn answer(knowledge: &Knowledge, question: &str, as_json: bool) -> Result<()> {
    let remedy = "ask as in `distance(0, B, D), D < 4`: see `atoll info --help` for the relations";
    let Answer { variables, rows } =
        knowledge.ask(question).map_err(|mistake| Error::new(mistake.to_string(), remedy))?;
    if as_json {
        let row = |row: &Vec<_>| {
            variables.iter().cloned().zip(row.iter().map(ToString::to_string).map(Value::from)).collect()
        };
        output::say_json(&rows.iter().map(row).collect::<Vec<serde_json::Map<_, _>>>());
    } else if variables.is_empty() {
        output::say(if rows.is_empty() { "no" } else { "yes" });
    } else {
        let mut shown = table(&variables.iter().map(String::as_str).collect::<Vec<_>>());
        for row in &rows {
            shown.add_row(row.iter().map(ToString::to_string));
        }
        output::say(output::rendered(shown, &[]));
    }
    Ok(())
}

fn as_json(subject: &Subject, knowledge: &Knowledge) -> Value {
    let machine = &subject.known.topology;
    let groups = |name: &str, core: u32| {
        let found = knowledge.ask(&format!("{name}({core}, G)")).unwrap_or_default();
        found.rows.first().and_then(|row| row.first()?.number())
    };
    let distances =
        (0..machine.cores).map(|a| (0..machine.cores).map(|b| knowledge.distance(a, b)).collect::<Vec<_>>());
    json!({
        "machine": subject.machine,
        "label": subject.label,
        "cores": machine.core_places().iter().zip(0u32..).map(|(place, core)| json!({
            "core": core,
            "apic_id": place.apic_id,
            "package": groups("package", core),
            "node": groups("node", core),
            "thread_of": groups("thread", core),
            "domain": on(core, &subject.domains),
        })).collect::<Vec<_>>(),
        "caches": machine.cache_kinds().iter().map(|cache| json!({
            "level": cache.level,
            "kind": draw::kind(cache),
            "kib": cache.kib,
            "line_bytes": cache.line_bytes,
            "shared_by": 1u64.checked_shl(cache.shift.into()),
        })).collect::<Vec<_>>(),
        "node_distances": machine.distances.iter().take(machine.nodes as usize)
            .map(|row| row.iter().take(machine.nodes as usize).copied().collect::<Vec<_>>()).collect::<Vec<_>>(),
        "io_apics": machine.io_apic_places(),
        "pci": machine.pci_functions(),
        "distances": distances.collect::<Vec<_>>(),
        "latencies": subject.known.latencies,
        "tree_levels": knowledge.levels().iter()
            .map(|level| level.iter().map(|group| group.iter().collect::<Vec<_>>()).collect::<Vec<_>>()).collect::<Vec<_>>(),
    })
}
