//! `test`: all tests, from the host's own to the machines'.

use std::{env, path::Path, process::Command};

use crate::{
    error::{At, Error, Result},
    output, places, setup,
    verbs::fuzz,
};

/// The machines that the emulator tests run on, what they run, and the fuzz targets.
const NEEDED_FOR: &[&str] = &["bochs", "tcg", "nested", "linux", "fuzz"];

/// Sets up, then runs every stage; the first that fails ends it. `arguments` are the emulator tests' own.
pub fn run(yes: bool, arguments: &[String]) -> Result<()> {
    let root = places::clone_root()
        .ok_or_else(|| Error::new("tests are run in a clone of Atoll", "`cargo atoll test` in a clone"))?;
    setup::ensure(NEEDED_FOR, yes)?;
    output::say("== host tests");
    cargo(&root, "host tests", &["test"], &[])?;
    output::say("== orderings of the rings, and of the labs' queue lock (loom)");
    let target = places::target_directory(&root).join("loom").display().to_string();
    for package in ["io-rings", "guest-kernel"] {
        let loom = ["test", "--package", package, "--release", "--target-dir", &target, "--test", "loom"];
        cargo(&root, "loom tests", &loom, &[("RUSTFLAGS", "--cfg loom")])?;
    }
    output::say("== fuzz targets (libFuzzer, a short run)");
    fuzz::run(yes, &[], None)?;
    output::say("== emulator tests");
    let mut ladder = vec!["test", "--package", "ladder", "--"];
    ladder.extend(arguments.iter().map(String::as_str));
    cargo(&root, "emulator tests", &ladder, &[])?;
    Ok(())
}

fn cargo(root: &Path, stage: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(&program)
        .current_dir(root)
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .at("running", Path::new(&program))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(
            format!("the {stage} failed"),
            "read their messages above; serial logs are kept and named there",
        ))
    }
}
