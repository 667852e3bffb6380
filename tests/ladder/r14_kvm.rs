//! QEMU with the host's own KVM, where that hands VMX on.

use abi::exit_code::ExitCode;
use ladder::{Check, Result, Stage, Verdict, ensure, mesh, stage};
use toolstack::{host, machine::Kind};

use crate::r05_mesh::GUESTS;

pub fn checks() -> Vec<Check> {
    vec![Check::skippable("r14_kvm::guests_run_under_the_hosts_own_kvm", kvm)]
}

fn kvm(stage: &mut Stage) -> Result<Verdict> {
    let findings = host::findings();
    if let Some(missing) = host::lacking(Kind::Kvm, &findings).first() {
        return Ok(Verdict::Skipped(format!("{}: {}", missing.name, missing.detail)));
    }
    let spec = stage::spec(Kind::Kvm, &mesh::machine(4, ""), stage.directory("kvm"))?;
    let session = stage.attend(&spec)?;
    mesh::go_on(&session.client, &GUESTS, "under KVM")?;
    mesh::none_lost(&session.client, &GUESTS)?;
    mesh::audit(&session.client)?;
    let outcome = session.stop()?;
    ensure!(outcome.exit_code() == Some(ExitCode::Success), "ended with {:#x}", outcome.code);
    Ok(Verdict::Passed)
}
