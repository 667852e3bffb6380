//! The demo, as a person runs it.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use ladder::{Check, Error, Result, Stage, ensure, wrong};
use toolstack::{
    error::At,
    leftovers::{self, Signal},
    places,
};

pub fn checks() -> Vec<Check> {
    vec![Check::new("r12_demo::the_demo_passes", passes)]
}

fn passes(stage: &mut Stage) -> Result<()> {
    let directory = stage.directory("demo");
    places::make(&directory)?;
    let (said, complained) = (directory.join("stdout"), directory.join("stderr"));
    stage.look_into(said.clone());
    let root = places::clone_root().ok_or_else(|| wrong("this is no clone of Atoll"))?;
    let mut demo = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["atoll", "demo", "--yes", "--machine", "bochs"])
        .stdin(Stdio::null())
        .stdout(create(&said)?)
        .stderr(create(&complained)?)
        .spawn()
        .at("running", Path::new(env!("CARGO")))?;
    // It ends its own emulator when it is told to end.
    leftovers::add(demo.id(), Signal::TERM, Vec::new());
    let status = demo.wait();
    leftovers::forget(demo.id());
    let status = status.at("waiting for", "the demo")?;
    let said = fs::read_to_string(&said).at("reading", &said)?;
    let last = said.lines().next_back().unwrap_or_default();
    ensure!(last == "demo: passed", "its last line is `{last}`");
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

fn create(path: &Path) -> std::result::Result<File, Error> {
    File::create(path).at("writing", path)
}
