//! `list`: all domains, a line each.

use abi::control::{
    hypercall::ExitKind,
    wire::{Domain, State},
};
use serde_json::{Map, Value, json};

use crate::{
    error::Result,
    output::{self, grouped},
};

/// Prints the table, or an array of objects.
pub fn run(as_json: bool) -> Result<()> {
    let domains = super::attached()?.list()?;
    if as_json {
        output::say_json(&domains.iter().map(domain_json).collect::<Vec<Value>>());
        return Ok(());
    }
    output::say(table(&domains));
    Ok(())
}

fn table(domains: &[Domain]) -> String {
    let mut table = output::table(&[
        "Name", "ID", "Mem", "VCPUs", "Cores", "State", "Image", "Exits", "Events", "Messages",
    ]);
    for domain in domains {
        table.add_row([
            domain.name.clone(),
            domain.id.to_string(),
            domain.memory_mib.to_string(),
            domain.vcpus.to_string(),
            if domain.cores.is_empty() { String::from("-") } else { cores(&domain.cores) },
            state(domain.state),
            domain.image.clone(),
            grouped(exits(domain)),
            grouped(domain.events_in.saturating_add(domain.events_out)),
            grouped(domain.messages_in.saturating_add(domain.messages_out)),
        ]);
    }
    output::rendered(table, &[1, 2, 3, 4, 7, 8, 9])
}

/// Cores, that of virtual CPU 0 first; three and more in a row as a range.
pub fn cores(cores: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = cores;
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|&(&core, expected)| core == expected).count();
        let (run, last) = if run > 2 { (run, Some(first + run as u32 - 1)) } else { (1, None) };
        rest = rest.get(run..).unwrap_or_default();
        let comma = if text.is_empty() { "" } else { "," };
        text += &format!("{comma}{first}");
        text += &last.map(|last| format!("-{last}")).unwrap_or_default();
    }
    text
}

/// All exits of a domain.
pub fn exits(domain: &Domain) -> u64 {
    domain.exits.iter().fold(0, |sum, &count| sum.saturating_add(count))
}

/// A state in a word.
pub fn state(state: State) -> String {
    match state {
        State::Running => "running".into(),
        State::Paused => "paused".into(),
        State::Kept => "kept".into(),
        State::Crashed => "crashed".into(),
        State::Shutdown(reason) => {
            use abi::xen::sched::reason;
            let why = match reason {
                reason::POWEROFF => "poweroff",
                reason::REBOOT => "reboot",
                reason::SUSPEND => "suspend",
                reason::CRASH => "crash",
                reason::WATCHDOG => "watchdog",
                _ => "unknown",
            };
            format!("shutdown ({why})")
        }
    }
}

/// A domain as an object.
pub fn domain_json(domain: &Domain) -> Value {
    let by_kind: Map<String, Value> = ExitKind::ALL
        .iter()
        .zip(domain.exits)
        .map(|(kind, count)| (kind.label().to_owned(), Value::from(count)))
        .collect();
    json!({
        "name": domain.name,
        "id": domain.id,
        "image": domain.image,
        "cores": domain.cores,
        "memory_mib": domain.memory_mib,
        "vcpus": domain.vcpus,
        "state": state(domain.state),
        "exits_total": exits(domain),
        "exits": by_kind,
        "events_in": domain.events_in,
        "events_out": domain.events_out,
        "messages_in": domain.messages_in,
        "messages_out": domain.messages_out,
        "messages_lost": domain.messages_lost,
        "liars": domain.liars,
        "restarts": domain.restarts,
        "recovery_ticks": domain.recovery_ticks,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn cores_in_a_row_are_a_range() {
        let told = [&[][..], &[3], &[1, 2], &[1, 2, 3], &[4, 1, 2, 3, 7, 6]].map(super::cores);
        assert_eq!(told, ["", "3", "1,2", "1-3", "4,1-3,7,6"]);
    }
}
