//! What exits cost, in instructions. Bochs counts them exactly, so a figure is as repeatable as any other fact, and a
//! change that makes an exit dearer than was promised fails here.

use ladder::{Check, Result, Stage, ensure, stage, wrong};
use toolstack::{
    machine::{Kind, SERIAL_LOG},
    verbs::bench::{Row, measure_exits},
};

/// The most that each may cost.
const PROMISES: [(&str, u64); 9] = [
    ("hypercall_null", 150),
    ("exit_cpuid", 250),
    ("exit_rdmsr", 220),
    ("event_self", 600),
    ("hypercall_pointer", 500),
    ("steady_exits", 0),
    ("event_wake_sender_exits", 1),
    ("event_wake_receiver_exits", 0),
    ("boot_total", 20_000_000),
];
/// Figures without a promise, which must be there: a row that is missing measured nothing.
const PRESENT: [&str; 4] = ["event_polling", "message_one_way", "event_wake_sender", "event_wake_receiver"];
/// The least samples that a median is taken of.
pub const SAMPLES: u64 = 1000;

pub fn checks() -> Vec<Check> {
    vec![Check::new("r04_figures::exits_cost_no_more_than_promised", promised)]
}

fn promised(stage: &mut Stage) -> Result<()> {
    let rows = measure(stage, Kind::Bochs)?;
    for (name, most) in PROMISES {
        let figure = figure(&rows, name)?;
        ensure!(figure <= most, "{name} is {figure}, and may be {most} at most");
    }
    for name in PRESENT {
        ensure!(figure(&rows, name)? > 0, "{name} is nought");
    }
    for row in &rows {
        ensure!(row.label == "emulated", "{} is labelled {}", row.name, row.label);
        let counted = row.unit == "exits" || row.name == "boot_total";
        ensure!(counted || row.samples >= SAMPLES, "{} has {} samples", row.name, row.samples);
    }
    Ok(())
}

/// Measures on a machine of this kind.
pub fn measure(stage: &mut Stage, kind: Kind) -> Result<Vec<Row>> {
    let directory = stage.directory(kind.name());
    stage.look_into(directory.join(SERIAL_LOG));
    measure_exits(kind, stage::images()?, directory)
}

/// The figure of this name.
pub fn figure(rows: &[Row], name: &str) -> Result<u64> {
    let row = rows.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| wrong(format!("there is no figure {name}")))?;
    row.median.as_u64().ok_or_else(|| wrong(format!("{name} is no whole number: {}", row.median)))
}
