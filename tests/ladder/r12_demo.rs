//! The demo, as a person runs it.

use ladder::{Check, Result, Stage, command::atoll, ensure};

pub fn checks() -> Vec<Check> {
    vec![Check::new("r12_demo::the_demo_passes", passes)]
}

fn passes(stage: &mut Stage) -> Result<()> {
    let directory = stage.directory("demo");
    stage.look_into(directory.join("stdout"));
    let (status, said) = atoll(&["demo", "--yes", "--machine", "bochs"], &directory)?;
    let last = said.lines().next_back().unwrap_or_default();
    ensure!(last == "demo: passed", "its last line is `{last}`");
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
