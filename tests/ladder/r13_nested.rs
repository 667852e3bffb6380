//! Nested: Bochs, in it Linux with KVM, in it QEMU, in it Atoll and its guests. What users with nested virtualization
//! run, on a host that has none.

use abi::exit_code::ExitCode;
use ladder::{Check, Result, Stage, ensure};
use toolstack::machine::{Kind, SERIAL_LOG, SerialLog};

use crate::r04_figures::{figure, measure};

/// The most that each may cost, in ticks; KVM as the inner hypervisor takes 14,528 for CPUID.
const PROMISES: [(&str, u64); 2] = [("hypercall_null", 10_000), ("exit_cpuid", 10_000)];

pub fn checks() -> Vec<Check> {
    vec![Check::new("r13_nested::guests_run_and_talk_under_kvm_in_bochs", nested)]
}

fn nested(stage: &mut Stage) -> Result<()> {
    let rows = measure(stage, Kind::Nested)?;
    let log = SerialLog::new(stage.directory(Kind::Nested.name()).join(SERIAL_LOG));
    ensure!(log.says("nested: qemu starts"), "the log does not say that QEMU started");
    ensure!(log.says("atoll: 2 guests running"), "the log does not say that two guests run");
    let ended = log.outcome().and_then(|outcome| outcome.exit_code());
    ensure!(matches!(ended, None | Some(ExitCode::Success)), "ended with {ended:?}");
    for (name, most) in PROMISES {
        let figure = figure(&rows, name)?;
        ensure!(figure <= most, "{name} is {figure}, and may be {most} at most");
    }
    // A figure with a peer in it is there only if messages went to and fro, and woke who slept.
    for name in ["event_polling", "event_wake_sender", "event_wake_receiver"] {
        ensure!(figure(&rows, name)? > 0, "{name}: no messages went to and fro");
    }
    for row in &rows {
        ensure!(row.label == "nested", "{} is labelled {}", row.name, row.label);
    }
    Ok(())
}
