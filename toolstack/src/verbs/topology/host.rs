//! This computer's own topology: CPUID, asked on each processor in turn, and nodes as the system numbers them.

use std::{fs, thread};

use abi::control::topology::{CorePlace, MAX_NODES, PciFunction, Topology};
use raw_cpuid::CpuId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Error, Result};

/// Processors that this process may use, by the system's numbers.
pub fn processors() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor)).collect()
}

/// Keeps the calling thread on one processor; false where the system does not allow it.
pub fn pin(processor: usize) -> bool {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only).is_ok()
}

/// What is known of the processors that this process may use, in the order of [`processors`].
pub fn topology() -> Result<Topology> {
    let mut topology = boot::topology::of_processor(&CpuId::new());
    for (processor, place) in processors().into_iter().zip(&mut topology.core) {
        // On a thread of its own, so that the caller's stays where it was.
        let apic_id = thread::spawn(move || pin(processor).then(apic_id)).join().ok().flatten();
        let apic_id = apic_id.ok_or_else(|| {
            Error::new(
                format!("this process may not run on processor {processor}"),
                "look at `taskset -p $$`",
            )
        })?;
        *place = CorePlace { apic_id, node: node(processor) };
        topology.cores += 1;
    }
    for from in 0..MAX_NODES {
        let text =
            fs::read_to_string(format!("/sys/devices/system/node/node{from}/distance")).unwrap_or_default();
        for (to, distance) in text.split_whitespace().take(MAX_NODES).enumerate() {
            topology.distances[from][to] = distance.parse().unwrap_or(0);
        }
        topology.nodes = topology.nodes.max(if text.is_empty() { 1 } else { from as u32 + 1 });
    }
    let mut functions: Vec<_> = fs::read_dir("/sys/bus/pci/devices")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| pci(&e))
        .collect();
    functions.sort_unstable_by_key(|function| (function.bus, function.device, function.function));
    for (place, function) in topology.pci.iter_mut().zip(functions) {
        *place = function;
        topology.pci_functions += 1;
    }
    Ok(topology)
}

/// A PCI function of segment 0, as the system tells of it.
fn pci(entry: &fs::DirEntry) -> Option<PciFunction> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let word =
        |file: &str| hex(fs::read_to_string(entry.path().join(file)).ok()?.trim().strip_prefix("0x")?);
    let name = entry.file_name().into_string().ok()?;
    let (bus, place) = name.strip_prefix("0000:")?.split_once(':')?;
    let (device, function) = place.split_once('.')?;
    let [bus, device, function] = [hex(bus)?, hex(device)?, hex(function)?].map(|number| number as u8);
    let (class, vendor, model) = (word("class")?, word("vendor")? as u16, word("device")? as u16);
    let (class, interface) = ((class >> 8) as u16, class as u8);
    Some(PciFunction { bus, device, function, interface, vendor, model, class, reserved: 0 })
}

/// The calling processor's APIC id.
fn apic_id() -> u32 {
    let cpuid = CpuId::new();
    let extended = cpuid.get_extended_topology_info().and_then(|mut levels| levels.next());
    let initial = || cpuid.get_feature_info().map_or(0, |features| features.initial_local_apic_id().into());
    extended.map_or_else(initial, |level| level.x2apic_id())
}

fn node(processor: usize) -> u32 {
    let of = |node: &usize| {
        fs::exists(format!("/sys/devices/system/cpu/cpu{processor}/node{node}")).unwrap_or(false)
    };
    (0..MAX_NODES).find(of).unwrap_or(0) as u32
}

/// The processor's name, how many there are, and whether it is a virtual machine's.
pub fn description() -> String {
    let cpuid = CpuId::new();
    let name = cpuid.get_processor_brand_string();
    let name = name.as_ref().map_or("a processor without a name", |name| name.as_str().trim());
    let features = cpuid.get_feature_info();
    let model = features.as_ref().map_or(String::new(), |features| {
        format!(", family {} model {}", features.family_id(), features.model_id())
    });
    let is_virtual = features.is_some_and(|features| features.has_hypervisor());
    let whose = if is_virtual { " of a virtual machine" } else { "" };
    format!("{name}{model}, {} processors{whose}", processors().len())
}
