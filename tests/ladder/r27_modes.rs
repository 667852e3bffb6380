//! The same work on the bare machine, as a para guest and as a full one: every figure that a column can have is there, exits
//! are those that the way to virtualize implies and no others, and emulated devices cost no more than was promised.

use ladder::{Check, Result, Stage, ensure, stage, wrong};
use toolstack::{
    machine::Kind,
    verbs::bench::modes::{Column, Cost, Figure, WORKS, csv, measure, measure_boot, report},
};

/// The most instructions that work may take where it is emulated, exit and all.
const PROMISES: [(&str, &str, u64); 6] = [
    ("full-ept", "port_uart_status", 350),
    ("full-ept", "port_timer_count", 350),
    ("full-soft-apic", "self_ipi_xapic", 1_500),
    ("full-soft-apic", "mmio_apic_id", 700),
    ("full-shadow", "page_table_update", 800),
    // An INVLPG, and a fault that only fills the shadow: 1,500 at most.
    ("full-shadow", "page_accessed", 2_100),
];
/// Mode and work, and the exits of an operation: of one kind and no other, or none.
type Expected = (&'static str, &'static str, Option<(&'static str, f64)>);

const EXITS: [Expected; 21] = [
    ("para-ept", "null_call", Some(("hypercall", 1.0))),
    ("para-ept", "cpuid", Some(("cpuid", 1.0))),
    ("para-ept", "timer_set", None),
    ("para-ept", "timer_fired", None),
    ("para-ept", "self_ipi_x2apic", None),
    ("para-ept", "page_fault", None),
    ("para-ept", "process", None),
    ("full-ept", "port_uart_status", Some(("io", 1.0))),
    ("full-soft-apic", "mmio_apic_id", Some(("ept-violation", 1.0))),
    ("full-soft-apic", "self_ipi_xapic", Some(("ept-violation", 2.0))),
    ("full-soft-apic", "self_ipi_x2apic", Some(("wrmsr", 2.0))),
    // The processor of the emulator that measures this keeps up local APICs.
    ("full-ept", "mmio_apic_id", None),
    ("full-ept", "self_ipi_xapic", None),
    ("full-ept", "self_ipi_x2apic", None),
    ("full-ept", "timer_fired", Some(("wrmsr", 1.0))),
    ("full-ept", "timer_set", Some(("wrmsr", 1.0))),
    ("full-ept", "page_table_update", None),
    ("para-ept", "notify_guest", Some(("hypercall", 1.0))),
    // Six registers, and for each of eight sectors the status and one string instruction.
    ("full-ept", "block_4k", Some(("io", 22.0))),
    ("full-ept", "context_switch", None),
    ("full-ept", "process", None),
];
/// Work in which a guest does nothing but what every program may: it takes as long as on the bare machine.
const UNTOUCHED: [&str; 8] = [
    "system_call",
    "page_table_update",
    "page_table_batch",
    "page_fault",
    "page_accessed",
    "page_table_load",
    "context_switch",
    "process",
];
/// Exits in a hundred operations that are none of the work's: the hypervisor's own timers.
const STRAY: f64 = 0.02;

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r27_modes::each_way_to_virtualize_costs_what_it_must", compared),
        Check::new("r27_modes::linux_takes_little_longer_than_on_the_bare_machine", boot),
    ]
}

/// Linux to its shell, in per cent of what it takes on the bare machine.
fn boot(stage: &mut Stage) -> Result<()> {
    let directory = stage.directory("boot");
    stage.look_into(directory.join("atoll/serial.log"));
    let figures = measure_boot(Kind::Bochs, stage::images()?, &directory)?;
    let bare = cost(&figures, "bare", "linux_boot")?.median;
    for (mode, percent) in
        [("para-ept", 105), ("full-ept", 125), ("full-soft-apic", 125), ("full-shadow", 250)]
    {
        let linux = cost(&figures, mode, "linux_boot")?;
        ensure!(
            linux.median * 100 <= bare * percent,
            "Linux takes {} in {mode}, more than {percent} % of {bare}",
            linux.median
        );
        let exits = linux.exits.as_ref().and_then(|exits| exits.get("cpuid"));
        ensure!(exits.is_some_and(|count| *count > 100.0), "exits in {mode} are {:?}", linux.exits);
    }
    Ok(())
}

fn compared(stage: &mut Stage) -> Result<()> {
    let directory = stage.directory("modes");
    stage.look_into(directory.join("atoll/serial.log"));
    let figures = measure(Kind::Bochs, stage::images()?, &directory)?;
    complete(&figures)?;
    for (mode, work, most) in PROMISES {
        let median = cost(&figures, mode, work)?.median;
        ensure!(median <= most, "{work} in {mode} is {median}, and may be {most} at most");
    }
    for (mode, work, expected) in EXITS {
        let exits = cost(&figures, mode, work)?.exits.clone();
        let exits = exits.ok_or_else(|| wrong(format!("nobody counted the exits of {work} in {mode}")))?;
        let of = |kind: &str| exits.get(kind).copied().unwrap_or(0.0);
        let sum: f64 = exits.values().sum();
        let wanted = expected.map_or(0.0, |(_, count)| count);
        let right = expected.is_none_or(|(kind, count)| (of(kind) - count).abs() <= STRAY);
        ensure!(right && (sum - wanted).abs() <= STRAY, "exits of {work} in {mode} are {exits:?}");
    }
    for work in UNTOUCHED {
        let bare = cost(&figures, "bare", work)?.median;
        for mode in ["para-ept", "full-ept", "full-soft-apic"] {
            let median = cost(&figures, mode, work)?.median;
            // An interrupt of the hypervisor's may fall into a sample; the counter moves in steps of five.
            ensure!(
                median <= bare + bare / 100 + 1,
                "{work} is {median} in {mode}, and {bare} without Atoll"
            );
        }
    }
    let (lines, page) = (csv(&figures), report(&figures));
    ensure!(lines.lines().count() == figures.len() + 1, "a line is missing in {lines}");
    ensure!(WORKS.iter().all(|work| page.contains(work.name)), "the report lacks work");
    Ok(())
}

fn cost<'figures>(figures: &'figures [Figure], mode: &str, work: &str) -> Result<&'figures Cost> {
    let figure = figures.iter().find(|figure| figure.mode == mode && figure.work == work);
    figure.and_then(Figure::cost).ok_or_else(|| wrong(format!("there is no figure of {work} in {mode}")))
}

/// What a column offers is measured, its exits are counted, and each figure says what it is.
fn complete(figures: &[Figure]) -> Result<()> {
    for column in Column::running() {
        for work in WORKS.iter().filter(|work| work.is_in(column.name)) {
            let cost = cost(figures, column.name, work.name)?;
            let place = format!("{} in {}", work.name, column.name);
            ensure!(cost.median > 0, "{place} is nought");
            ensure!(cost.exits.is_some(), "nobody counted the exits of {place}");
            ensure!(cost.label == "emulated", "{place} is labelled {}", cost.label);
        }
    }
    Ok(())
}
