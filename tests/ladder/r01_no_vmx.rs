//! A machine without VMX: QEMU's own emulation. The hypervisor says so, in a sentence, and ends with the code for it.

use abi::exit_code::ExitCode;
use ladder::{Check, Result, Stage, ensure, stage, watch::PATIENCE};
use toolstack::machine::{Kind, SerialLog, Spec};

pub fn checks() -> Vec<Check> {
    vec![Check::new("r01_no_vmx::a_machine_without_vmx_is_told_so", told_so)]
}

fn told_so(stage: &mut Stage) -> Result<()> {
    let spec = stage::spec(Kind::Tcg, &stage::no_guests(2), stage.directory("tcg"))?;
    refused(stage, &spec, ExitCode::NoVmx, "this processor has no VMX")
}

/// The machine ends by itself with this code; its log has the sentence and the remedy; the toolstack repeats both.
pub fn refused(stage: &mut Stage, spec: &Spec, code: ExitCode, sentence: &str) -> Result<()> {
    let mut machine = stage.start(spec)?;
    let outcome = machine.wait(PATIENCE)?;
    let log: &SerialLog = machine.log();
    ensure!(outcome.exit_code() == Some(code), "ended with {:#x} {}", outcome.code, outcome.name);
    ensure!(log.says(sentence), "the log does not say `{sentence}`");
    ensure!(log.says(code.remedy()), "the log has no remedy");
    let error = outcome.as_error();
    ensure!(error.what().contains(sentence), "the toolstack says: {}", error.what());
    ensure!(error.remedy() == code.remedy(), "the toolstack's remedy is: {}", error.remedy());
    Ok(())
}
