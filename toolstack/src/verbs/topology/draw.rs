//! Drawings of a machine in text.

use std::collections::BTreeMap;

use abi::control::topology::{Cache, Topology, cache_kind};
use guest_kernel::knowledge::{Knowledge, datalog::Value};

use crate::output::{grouped, rendered, table};

/// A cache's kind, in a word.
pub fn kind(cache: &Cache) -> &'static str {
    match cache.kind {
        cache_kind::DATA => "data",
        cache_kind::INSTRUCTION => "instruction",
        _ => "unified",
    }
}

/// One level of the tree: what it is called, and the group that each core belongs to.
struct Level {
    name: String,
    group: BTreeMap<u32, u64>,
}

/// Nodes, packages, caches, cores; each cache at the level at which it is shared.
pub fn tree<'a>(machine: &Topology, knowledge: &Knowledge, owner: &dyn Fn(u32) -> Option<&'a str>) -> String {
    let level = |name: &str, question: &str| {
        let rows = knowledge.ask(question).unwrap_or_default().rows;
        let pair = |row: Vec<Value>| match &row[..] {
            [core, group] => Some((u32::try_from(core.number()?).ok()?, group.number()?)),
            _ => None,
        };
        Level { name: name.to_owned(), group: rows.into_iter().filter_map(pair).collect() }
    };
    let mut levels = vec![level("node", "node(C, G)"), level("package", "package(C, G)")];
    for cache in machine.cache_kinds().iter().rev().filter(|cache| cache.level > 1) {
        let name = format!("L{} {} KiB,", cache.level, grouped(cache.kib.into()));
        levels.push(level(&name, &format!("cache(C, {}, G)", cache.level)));
    }
    levels.push(level("core", "thread(C, G)"));
    let first: Vec<String> = machine
        .cache_kinds()
        .iter()
        .filter(|cache| cache.level == 1)
        .map(|cache| format!("{} KiB {}", cache.kib, kind(cache)))
        .collect();
    let mut lines = Vec::new();
    let cores: Vec<u32> = (0..machine.core_places().len() as u32).collect();
    branch(&levels, &cores, "", machine, owner, &mut lines);
    if !first.is_empty() {
        lines.push(format!("each core: L1 {}", first.join(", ")));
    }
    for (number, io) in machine.io_apic_places().iter().enumerate() {
        lines.push(format!("I/O APIC {number} at {:#x}, interrupts from {}", io.address, io.first_gsi));
    }
    for f in machine.pci_functions() {
        let (place, name) = (format!("{:02x}:{:02x}.{}", f.bus, f.device, f.function), class_name(f.class));
        lines.push(format!("PCI {place} {name} [{:04x}]: {:04x}:{:04x}", f.class, f.vendor, f.model));
    }
    lines.join("\n") + "\n"
}

/// What the PCI Code and ID Assignment Specification calls it, as far as it is met with often.
fn class_name(class: u16) -> &'static str {
    match class {
        0x0101 => "IDE controller",
        0x0106 => "SATA controller",
        0x0108 => "NVM controller",
        0x0600 => "host bridge",
        0x0601 => "ISA bridge",
        0x0604 => "PCI bridge",
        _ => match class >> 8 {
            0x01 => "mass storage",
            0x02 => "network controller",
            0x03 => "display controller",
            0x04 => "multimedia",
            0x05 => "memory controller",
            0x06 => "bridge",
            0x07 => "communication controller",
            0x08 => "system peripheral",
            0x0c => "serial bus controller",
            _ => "other",
        },
    }
}

fn branch<'a>(
    levels: &[Level],
    cores: &[u32],
    indent: &str,
    machine: &Topology,
    owner: &dyn Fn(u32) -> Option<&'a str>,
    lines: &mut Vec<String>,
) {
    let Some((level, inner)) = levels.split_first() else {
        for (place, &core) in cores.iter().enumerate() {
            let corner = if place + 1 == cores.len() { '└' } else { '├' };
            let apic_id = machine.core.get(core as usize).map_or(0, |place| place.apic_id);
            lines.push(format!(
                "{indent}{corner} {core}: APIC id {apic_id}, {}",
                owner(core).unwrap_or("idle")
            ));
        }
        return;
    };
    let mut groups: Vec<(u64, Vec<u32>)> = Vec::new();
    for &core in cores {
        let group = level.group.get(&core).copied().unwrap_or(0);
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, members)) => members.push(core),
            None => groups.push((group, vec![core])),
        }
    }
    let count = groups.len();
    for (place, (group, members)) in groups.into_iter().enumerate() {
        let (corner, below) = if place + 1 == count { ('└', "  ") } else { ('├', "│ ") };
        lines.push(
            format!("{indent}{corner} {} {group}", level.name.trim_end_matches(','))
                .replace(" KiB ", " KiB, number "),
        );
        branch(inner, &members, &format!("{indent}{below}"), machine, owner, lines);
    }
}

/// A matrix of cores by cores; `-` where there is nothing.
pub fn matrix(name: &str, cores: u32, value: impl Fn(u32, u32) -> Option<u64>) -> String {
    let header: Vec<String> =
        std::iter::once(name.to_owned()).chain((0..cores).map(|core| core.to_string())).collect();
    let mut shown = table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for from in 0..cores {
        let cells = (0..cores).map(|to| value(from, to).map_or("-".to_owned(), grouped));
        shown.add_row(std::iter::once(from.to_string()).chain(cells));
    }
    rendered(shown, &(0..=cores as usize).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::control::topology::CorePlace;

    fn machine() -> Topology {
        let mut machine =
            Topology { cores: 4, nodes: 1, core_shift: 1, package_shift: 1, ..Topology::default() };
        for (core, apic_id) in machine.core.iter_mut().zip(0..4) {
            *core = CorePlace { apic_id, node: 0 };
        }
        machine.cache[0] = Cache { level: 1, kind: 1, shift: 1, kib: 32, line_bytes: 64, reserved: 0 };
        machine.cache[1] = Cache { level: 2, kind: 3, shift: 1, kib: 1024, line_bytes: 64, reserved: 0 };
        machine.caches = 2;
        machine
    }

    #[test]
    fn a_tree_of_two_packages() {
        let machine = machine();
        let knowledge = Knowledge::of_machine(&machine);
        let text = tree(&machine, &knowledge, &|core| (core == 0).then_some("Domain-0"));
        let expected = "└ node 0\n  ├ package 0\n  │ └ L2 1,024 KiB, number 0\n  │   └ core 0\n  │     ├ 0: APIC id 0, Domain-0\n  \
                        │     └ 1: APIC id 1, idle\n  └ package 1\n    └ L2 1,024 KiB, number 1\n      └ core 1\n        \
                        ├ 2: APIC id 2, idle\n        └ 3: APIC id 3, idle\neach core: L1 32 KiB data\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_matrix_has_a_row_for_each_core() {
        let text = matrix("ticks", 2, |a, b| (a != b).then_some(1000 * u64::from(a) + 7));
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["ticks", "0", "1", "0", "-", "7", "1", "1,007", "-"]);
    }
}
