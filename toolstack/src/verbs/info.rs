//! `info`: the machine.

use abi::control::{hypercall::AuditReport, wire::Domain};
use serde_json::{Value, json};

use crate::{
    error::Result,
    holder,
    output::{self, grouped},
};

/// 4 KiB frames in a MiB.
const FRAMES_PER_MIB: u64 = 256;

/// Prints what the machine says about itself; with `audit` a walk of every EPT as well.
pub fn run(audit: bool, as_json: bool) -> Result<()> {
    let directory = holder::directory();
    let client = super::attached()?;
    let order = holder::order(&directory)?;
    let machine = client.machine()?;
    let domains = client.list()?;
    let audit = if audit { Some(client.audit()?) } else { None };
    let boot_ticks = machine.guests_running_tsc.saturating_sub(machine.boot_tsc);
    let up_ticks = machine.tsc.saturating_sub(machine.boot_tsc);
    if as_json {
        output::say_json(&json!({
            "machine": order.kind.name(),
            "label": order.kind.label(),
            "cores": machine.cores,
            "domains_of_cores": (0..machine.cores).map(|core| on(core, &domains)).collect::<Vec<_>>(),
            "vcpus": domains.iter().map(|domain| domain.cores.len()).sum::<usize>(),
            "memory_mib": order.memory_mib,
            "guest_memory_mib": machine.frames_total / FRAMES_PER_MIB,
            "guest_memory_free_mib": machine.frames_free / FRAMES_PER_MIB,
            "tsc_khz": machine.tsc_khz,
            "boot_ticks": boot_ticks,
            "up_ticks": up_ticks,
            "features": machine.features,
            "audit": audit.map(audit_json),
            "run": directory,
        }));
        return Ok(());
    }
    let mut rows = vec![
        ("machine", format!("{} ({} figures)", order.kind.name(), order.kind.label())),
        ("cores", format!("{}: {}", machine.cores, who_is_where(machine.cores, &domains))),
        (
            "guest memory",
            format!(
                "{} MiB, {} MiB free",
                machine.frames_total / FRAMES_PER_MIB,
                machine.frames_free / FRAMES_PER_MIB
            ),
        ),
        ("TSC", format!("{} kHz", grouped(machine.tsc_khz.into()))),
        ("boot", format!("{} ticks from the first instruction to all guests running", grouped(boot_ticks))),
        ("up", format!("{} ticks{}", grouped(up_ticks), seconds(up_ticks, machine.tsc_khz))),
    ];
    rows.extend(machine.features.iter().map(|line| ("processor", line.clone())));
    if let Some(audit) = audit {
        rows.push(("audit", audit_line(&audit)));
    }
    rows.push(("run", directory.display().to_string()));
    for (name, value) in rows {
        output::say(format!("{name:<13} {value}"));
    }
    Ok(())
}

/// The domain that has a core.
fn on(core: u32, domains: &[Domain]) -> Option<&str> {
    domains.iter().find(|domain| domain.cores.contains(&core)).map(|domain| domain.name.as_str())
}

/// Each core and its domain.
fn who_is_where(cores: u32, domains: &[Domain]) -> String {
    let told: Vec<String> =
        (0..cores).map(|core| format!("{core} {}", on(core, domains).unwrap_or("idle"))).collect();
    told.join(", ")
}

/// The last four figures are nought on a sound machine.
pub fn audit_line(audit: &AuditReport) -> String {
    format!(
        "{} domains, {} pages mapped, {} of them shared; wrong: {} leaked, {} of the hypervisor's, {} of nobody's, {} miscounted",
        audit.domains,
        grouped(audit.mappings),
        grouped(audit.shared),
        audit.leaked,
        audit.hypervisor,
        audit.free,
        audit.miscounted
    )
}

fn audit_json(audit: AuditReport) -> Value {
    json!({
        "domains": audit.domains,
        "mappings": audit.mappings,
        "shared": audit.shared,
        "leaked": audit.leaked,
        "hypervisor": audit.hypervisor,
        "free": audit.free,
        "miscounted": audit.miscounted,
    })
}

fn seconds(ticks: u64, khz: u32) -> String {
    match ticks.checked_div(u64::from(khz)) {
        Some(milliseconds) => format!(" ({}.{} s)", milliseconds / 1000, milliseconds % 1000 / 100),
        None => String::new(),
    }
}
