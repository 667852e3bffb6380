//! Boot on one core, on two and on four: all cores in use, every guest on its own, memory never both writable and
//! executable, and an orderly end.

use abi::{control::wire::State, exit_code::ExitCode};
use ladder::{Check, Result, Stage, ensure, mesh};

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r03_boot::one_core_runs_domain_0_alone", |stage| boots(stage, 1)),
        Check::new("r03_boot::two_cores_run_one_guest", |stage| boots(stage, 2)),
        Check::new("r03_boot::four_cores_run_three_guests", |stage| boots(stage, 4)),
    ]
}

fn boots(stage: &mut Stage, cores: u32) -> Result<()> {
    let mut session = stage.boot(&format!("cores-{cores}"), &mesh::machine(cores, ""))?;
    let log = session.machine.log().clone();
    for line in [
        format!("atoll: {cores} cores, TSC at "),
        format!("atoll: {} guests running", cores - 1),
        "none both writable and executable".to_owned(),
    ] {
        ensure!(log.says(&line), "the log does not say `{line}`");
    }
    let machine = session.client.machine().map_err(|error| session.explain(error))?;
    ensure!(machine.cores == cores, "the machine says it has {} cores", machine.cores);
    ensure!(machine.frames_free < machine.frames_total, "the guests have no memory: {machine:?}");
    let domains = session.client.list()?;
    ensure!(domains.len() == cores as usize, "there are {} domains", domains.len());
    for (core, domain) in (0..).zip(&domains) {
        let in_place = domain.cores == [core] && domain.state == State::Running;
        ensure!(in_place, "{} is {:?} on {:?}", domain.name, domain.state, domain.cores);
    }
    if cores > 2 {
        mesh::go_on(&session.client, &["mesh1"], "after boot")?;
    }
    let outcome = session.stop()?;
    ensure!(outcome.exit_code() == Some(ExitCode::Success), "ended with {:#x}", outcome.code);
    Ok(())
}
