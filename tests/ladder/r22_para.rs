//! What a para guest's calls cost on Atoll, in instructions, and that it is no more than a quarter of what real Xen takes
//! by the same guest in the same emulator. A ring at depth 32 costs less than one exit for ten requests.

use ladder::{Check, Result, Stage, ensure, stage};
use toolstack::{
    machine::{Kind, SERIAL_LOG},
    verbs::bench::para_on_atoll,
};

use crate::r04_figures::figure;
use crate::r21_real_xen::{XEN, sampled};

/// The most that each may cost.
const PROMISES: [(&str, u64); 24] = [
    ("hypercall_null", 150),
    ("exit_cpuid", 170),
    ("exit_rdmsr", 140),
    ("hypercall_pointer", 480),
    ("multicall_entry", 630),
    ("event_self_masked", 490),
    ("event_self", 560),
    ("upcall_entered", 540),
    ("event_peer", 530),
    ("event_peer_receiver", 30),
    ("event_peer_wake", 460),
    ("timer_set", 700),
    ("timer_fired", 720),
    ("grant_query_size", 520),
    ("grant_map_unmap", 3_350),
    ("grant_copy_4k", 1_840),
    ("console_line", 1_900),
    ("xenstore_read", 10_500),
    ("ring_qd1_hypervisor", 800),
    ("ring_qd1_whole", 970),
    ("ring_qd1_exits", 2_000),
    ("ring_qd32_hypervisor", 33),
    ("ring_qd32_whole", 160),
    ("ring_qd32_exits", 99),
];
/// Of what real Xen takes.
const PART: u64 = 4;

pub fn checks() -> Vec<Check> {
    vec![Check::new("r22_para::calls_cost_no_more_than_promised", promised)]
}

fn promised(stage: &mut Stage) -> Result<()> {
    let directory = stage.directory("atoll");
    stage.look_into(directory.join(SERIAL_LOG));
    let rows = para_on_atoll(Kind::Bochs, stage::images()?, directory)?;
    for (name, most) in PROMISES {
        let figure = figure(&rows, name)?;
        ensure!(figure <= most, "{name} is {figure}, and may be {most} at most");
    }
    for (name, xen) in XEN {
        let figure = figure(&rows, name)?;
        ensure!(figure > 0 && figure * PART <= xen, "{name} is {figure}, and takes {xen} on Xen");
    }
    sampled(&rows)
}
