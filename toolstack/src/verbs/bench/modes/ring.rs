//! Blocks through a ring between two guests: the program `echo`, whose front end measures for both ends.

use std::collections::BTreeMap;

use abi::control::wire::{DeviceConfig, GuestConfig};

use super::super::{Row, wait_for};
use crate::{config::guest, error::Result, session::Session};

const PROGRAM: &str = "echo";
const BACK: &str = "ring-back";
const FRONT: &str = "ring-front";
/// The column of guests that have rings, as they are configured here.
const COLUMN: &str = "para-ept";
/// What is counted by the front end is told in exits of a request; rows of exits have those of so many operations.
const OPERATIONS: u64 = 1000;

/// Lets two guests exchange blocks until the front end has measured. They are for the caller to destroy.
pub fn run(session: &mut Session, work: &indicatif::ProgressBar) -> Result<()> {
    let plain = |name, role: &str, core| {
        let command_line = format!("echo={role} pace=halt");
        GuestConfig { mesh: false, command_line, ..guest(name, PROGRAM, core) }
    };
    let device = DeviceConfig { kind: PROGRAM.to_owned(), backend: BACK.to_owned(), parameters: vec![] };
    session.client.create(plain(BACK, "back", 2))?;
    session.client.create(GuestConfig { devices: vec![device], ..plain(FRONT, "front bench=1", 1) })?;
    wait_for(session, work, |guest| guest.name == FRONT)
}

/// Rows of blocks, out of those that the front end printed: what both ends and the hypervisor spend on a request, and its
/// hypercalls, which are all its exits.
pub fn rows(printed: &[Row]) -> Vec<Row> {
    [("block_4k", 1), ("block_4k_queued", 32)]
        .into_iter()
        .flat_map(|(work, depth)| of(printed, work, depth))
        .collect()
}

fn of(printed: &[Row], work: &str, depth: u32) -> Vec<Row> {
    // The bench warms up first: the last row of a name counts.
    let row = |part: &str| printed.iter().rfind(|row| row.name == format!("ring_depth{depth}_{part}"));
    let (Some(front), Some(back), Some(hypervisor), Some(exits)) =
        (row("front"), row("back"), row("hypervisor"), row("exits"))
    else {
        return Vec::new();
    };
    let parts = [front, back, hypervisor].map(|row| row.median.as_u64().unwrap_or(0));
    let name = format!("{COLUMN}/{work}");
    let calls = (exits.median.as_f64().unwrap_or(0.0) * OPERATIONS as f64).round() as u64;
    let counted = |median: u64, unit: &str| Row {
        name: name.clone(),
        median: median.into(),
        unit: unit.to_owned(),
        exits: None,
        ..front.clone()
    };
    let by_kind = BTreeMap::from([("hypercall".to_owned(), calls)]);
    vec![
        counted(parts.iter().sum(), &front.unit),
        counted(OPERATIONS, "operations"),
        Row { exits: Some(by_kind), ..counted(calls, "exits") },
    ]
}
