//! `fuzz`: the targets of `tests/fuzz` as programs of libFuzzer's, which looks for inputs that reach new code.
//!
//! What is built and how is as cargo-fuzz would do it, but for a sanitizer, which stable Rust has not. By itself a run is
//! short: each target on all its seeds, then a number of inputs that is the same on every machine, as is the seed of
//! libFuzzer's random numbers.

use std::{
    collections::VecDeque,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Instant,
};

use crate::{
    error::{At, Error, Result},
    output, places, setup,
};

/// Coverage for libFuzzer: counters at each edge, a table of them, and the operands of comparisons.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];
/// With a target named, build scripts are built without these flags.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "fuzz";

/// Inputs of a short run: a second or two.
const SHORT: u64 = 100_000;
/// The same for targets that take long over one.
const SHORT_OF_SLOW: &[(&str, u64)] = &[("fw_cfg", 20_000), ("shadow", 5_000), ("xenstore", 2_000)];
/// Seconds after which an input counts as one that never ends.
const PATIENCE: u32 = 120;
/// Targets at once, as the smallest host has two cores.
const AT_ONCE: usize = 2;

/// Where everything is.
struct Rooms {
    root: PathBuf,
    target: PathBuf,
}

impl Rooms {
    fn seeds(&self) -> PathBuf {
        self.root.join("tests/fuzz/seeds")
    }

    /// What a target's longer runs have found that reaches new code; each run goes on from there.
    fn corpus(&self, target: &str) -> PathBuf {
        self.target.join("corpus").join(target)
    }

    fn program(&self, target: &str) -> PathBuf {
        self.target.join(TRIPLE).join(PROFILE).join(target)
    }

    /// Inputs that broke a target.
    fn found(&self) -> PathBuf {
        self.target.join("found")
    }
}

/// Runs the named targets, or all: a short run, or one of `runs` inputs that goes on where the last one ended.
pub fn run(yes: bool, targets: &[String], runs: Option<u64>) -> Result<()> {
    let root = places::clone_root().ok_or_else(|| {
        Error::new("fuzz targets are run in a clone of Atoll", "`cargo atoll fuzz` in a clone")
    })?;
    let rooms = Rooms { target: places::target_directory(&root).join("fuzz"), root };
    let targets = chosen(&rooms, targets)?;
    setup::ensure(&["fuzz"], yes)?;
    build(&rooms)?;
    places::make(&rooms.found())?;
    let began = Instant::now();
    let failed = run_all(&rooms, &targets, runs);
    // As libtest sums up, so that who adds up results needs to know one form only.
    output::say(format!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        targets.len() - failed,
        began.elapsed().as_secs_f64()
    ));
    if failed == 0 {
        return Ok(());
    }
    Err(Error::new(
        format!("{failed} of {} fuzz targets failed", targets.len()),
        "repeat what is named above; mended, it becomes a file in tests/fuzz/seeds/TARGET",
    ))
}

/// The targets that are meant: each has a directory of seeds.
fn chosen(rooms: &Rooms, named: &[String]) -> Result<Vec<String>> {
    let seeds = rooms.seeds();
    let entries = fs::read_dir(&seeds).at("reading", &seeds)?;
    let mut all: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        return Err(Error::new(
            format!("there is no fuzz target `{unknown}`"),
            format!("one of: {}", all.join(", ")),
        ));
    }
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

fn build(rooms: &Rooms) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(&cargo)
        .current_dir(&rooms.root)
        .args(["build", "--quiet", "--package", "fuzz", "--features", "libfuzzer", "--bins"])
        .args(["--profile", PROFILE, "--target", TRIPLE, "--target-dir"])
        .arg(&rooms.target)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .env_remove("RUSTFLAGS")
        .status()
        .at("running", Path::new(&cargo))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new("the fuzz targets do not build", "read cargo's messages above"))
    }
}

/// How many failed. A line for each, as it is done.
fn run_all(rooms: &Rooms, targets: &[String], runs: Option<u64>) -> usize {
    let queue = Mutex::new(targets.iter().collect::<VecDeque<_>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for _ in 0..AT_ONCE {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(target) = next() {
                    let _ = sender.send((target, run_one(rooms, target, runs)));
                }
            });
        }
        drop(sender);
        results.iter().filter(|(target, result)| !told(target, result)).count()
    })
}

/// Says how it went: whether well.
fn told(target: &str, result: &Result<String>) -> bool {
    match result {
        Ok(figures) => output::say(format!("test fuzz::{target} ... ok ({figures})")),
        Err(error) => output::say(format!("test fuzz::{target} ... FAILED\n{error}")),
    }
    result.is_ok()
}

/// Runs one target: what libFuzzer says of it at last.
fn run_one(rooms: &Rooms, target: &str, runs: Option<u64>) -> Result<String> {
    let slow = SHORT_OF_SLOW.iter().find(|(name, _)| *name == target);
    let short = slow.map_or(SHORT, |&(_, runs)| runs);
    let corpus = if runs.is_some() { rooms.corpus(target) } else { rooms.target.join("short").join(target) };
    if runs.is_none() && corpus.exists() {
        fs::remove_dir_all(&corpus).at("emptying", &corpus)?;
    }
    places::make(&corpus)?;
    let program = rooms.program(target);
    let prefix = rooms.found().join(format!("{target}-"));
    let mut command = Command::new(&program);
    command
        .arg(format!("-runs={}", runs.unwrap_or(short)))
        .arg(format!("-timeout={PATIENCE}"))
        .arg(format!("-artifact_prefix={}", prefix.display()))
        .args(runs.is_none().then_some("-seed=1"))
        .arg(&corpus)
        .arg(rooms.seeds().join(target));
    let output = command.output().at("running", &program)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(figures(&said));
    }
    // Without an input it was ended from outside, or never began.
    let repeat = input_of(&said).map_or_else(
        || format!("cargo atoll fuzz {target}"),
        |input| format!("{} {input}", program.display()),
    );
    Err(Error::new(format!("{}\nthe fuzz target {target} failed: {}", end_of(&said), output.status), repeat))
}

/// How many inputs, and how many edges of the code they reached.
fn figures(said: &str) -> String {
    let done = said.lines().rfind(|line| line.contains("DONE")).unwrap_or_default();
    let words: Vec<&str> = done.split_whitespace().collect();
    let after = |label: &str| words.iter().position(|word| *word == label).and_then(|at| words.get(at + 1));
    let runs = words.first().and_then(|word| word.strip_prefix('#')).and_then(|word| word.parse().ok());
    format!("{} inputs, {} edges", output::grouped(runs.unwrap_or(0)), after("cov:").unwrap_or(&"no"))
}

/// The file with the input that broke the target.
fn input_of(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, file)| file))
}

/// The last lines of what was said, but for reports of progress: panic, stack, and the input if it is short.
fn end_of(said: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with('#')).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzers_last_line_is_read() {
        let said =
            "#2\tINITED cov: 78 ft: 92\n#20000\tDONE   cov: 124 ft: 453 corp: 147/16343b\nDone 20000 runs";
        assert_eq!(figures(said), "20,000 inputs, 124 edges");
        assert_eq!(figures("nothing"), "0 inputs, no edges");
    }

    #[test]
    fn what_broke_a_target_is_told() {
        let said = "#7\tNEW    cov: 2\npanicked at src/lib.rs\n\
                    artifact_prefix='found/uart-'; Test unit written to found/uart-crash-2b\nBase64: AA==";
        assert_eq!(input_of(said), Some("found/uart-crash-2b"));
        assert!(end_of(said).starts_with("panicked"));
        assert_eq!(input_of("SUMMARY: libFuzzer: run interrupted"), None);
    }
}
