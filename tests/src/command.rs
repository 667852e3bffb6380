//! The command `atoll`, as a person in a clone runs it.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use toolstack::{
    error::At,
    leftovers::{self, Signal},
    places,
};

use crate::{Result, wrong};

/// Runs `cargo atoll` with these arguments and waits for its end: its status, and what it said on standard output. Both
/// its outputs stay in `directory`.
pub fn atoll(arguments: &[&str], directory: &Path) -> Result<(ExitStatus, String)> {
    places::make(directory)?;
    let root = places::clone_root().ok_or_else(|| wrong("this is no clone of Atoll"))?;
    let (said, complained) = (directory.join("stdout"), directory.join("stderr"));
    let mut command = Command::new(env!("CARGO"))
        .current_dir(root)
        .arg("atoll")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&said).at("writing", &said)?)
        .stderr(File::create(&complained).at("writing", &complained)?)
        .spawn()
        .at("running", env!("CARGO"))?;
    // It ends its own emulator when it is told to end.
    leftovers::add(command.id(), Signal::TERM, Vec::new());
    let status = command.wait();
    leftovers::forget(command.id());
    Ok((status.at("waiting for", "cargo atoll")?, fs::read_to_string(&said).at("reading", &said)?))
}
