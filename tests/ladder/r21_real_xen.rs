//! The other way round: our guest kernel, the very file that boots on Atoll, is PVH domain 0 of real Xen, in the same
//! emulator, with two virtual CPUs, and measures there.

use ladder::{Check, Result, Stage, ensure, stage};
use toolstack::{
    machine::SERIAL_LOG,
    verbs::bench::{Row, para_on_xen},
};

use crate::r04_figures::{SAMPLES, figure};

/// What real Xen takes at least, in instructions: a tenth below what was measured on Debian's 4.17. A figure below it, or
/// twice above, is one of something else.
pub const XEN: [(&str, u64); 21] = [
    ("hypercall_null", 1_050),
    ("exit_cpuid", 1_080),
    ("exit_rdmsr", 960),
    ("hypercall_pointer", 11_300),
    ("multicall_entry", 10_700),
    ("event_self_masked", 6_000),
    ("event_self", 6_400),
    ("upcall_entered", 6_400),
    ("event_peer", 6_600),
    ("event_peer_receiver", 1_600),
    ("event_peer_wake", 10_000),
    ("timer_set", 6_200),
    ("timer_fired", 7_200),
    ("grant_query_size", 11_100),
    ("grant_map_unmap", 32_800),
    ("grant_copy_4k", 13_800),
    ("console_line", 9_300),
    ("ring_qd1_hypervisor", 14_000),
    ("ring_qd1_whole", 20_500),
    ("ring_qd32_hypervisor", 440),
    ("ring_qd32_whole", 730),
];
/// Samples of what takes long.
const FEW: [(&str, u64); 2] = [("console_line", 100), ("event_peer_wake", 200)];

pub fn checks() -> Vec<Check> {
    vec![Check::new("r21_real_xen::our_image_boots_there_and_measures", measures)]
}

fn measures(stage: &mut Stage) -> Result<()> {
    let directory = stage.directory("xen");
    stage.look_into(directory.join(SERIAL_LOG));
    let rows = para_on_xen(stage::images()?, directory)?;
    for (name, least) in XEN {
        let figure = figure(&rows, name)?;
        ensure!((least..2 * least).contains(&figure), "{name} is {figure} on Xen");
    }
    sampled(&rows)
}

/// That each row has its samples, and is labelled as what it is.
pub fn sampled(rows: &[Row]) -> Result<()> {
    for row in rows {
        ensure!(row.label == "emulated", "{} is labelled {}", row.name, row.label);
        let few = FEW.iter().find(|(name, _)| row.name.starts_with(name));
        let least = few.map_or(SAMPLES, |(_, few)| *few);
        ensure!(row.samples >= least || row.name == "boot_total", "{} has {} samples", row.name, row.samples);
    }
    Ok(())
}
