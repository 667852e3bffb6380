//! How scenes are run: some at once, each in a thread of its own; their checks are told to libtest's printer in the
//! ladder's order, whichever comes first.
//!
//! A scene's thread is watched. A check that is over its patience loses its emulators, upon which it fails with the
//! reason; one that does not even notice that is given up, and the rest of its scene with it.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use toolstack::{config::Config, leftovers, machine::Kind, places};

use crate::{
    Error, Result, skips,
    stage::{self, Emulators, Stage},
    wrong,
};

/// How a check that did not fail went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// This host cannot make it, and why.
    Skipped(String),
}

type Body = Box<dyn FnOnce(&mut Stage) -> Result<Verdict> + Send>;

/// One thing that is checked.
pub struct Check {
    name: String,
    patience: Duration,
    body: Body,
}

impl Check {
    /// A check that passes unless it returns an error.
    pub fn new(name: &str, body: impl FnOnce(&mut Stage) -> Result<()> + Send + 'static) -> Self {
        Self::skippable(name, |stage| body(stage).map(|()| Verdict::Passed))
    }

    /// A check that a host may be unable to make.
    pub fn skippable(name: &str, body: impl FnOnce(&mut Stage) -> Result<Verdict> + Send + 'static) -> Self {
        Self { name: name.to_owned(), patience: Duration::from_secs(15 * 60), body: Box::new(body) }
    }
}

/// One machine and what is checked on it, in order; or checks with a machine each, one after the other.
pub struct Scene {
    /// Its name, and its directory's.
    pub name: &'static str,
    /// The machine that its checks share, if they do.
    pub config: Option<Config>,
    /// Which machine that is.
    pub kind: Kind,
    /// The checks.
    pub checks: Vec<Check>,
    /// Begin with this scene before shorter ones.
    pub long: bool,
}

impl Scene {
    /// A scene whose checks have machines of their own.
    pub fn new(name: &'static str, checks: Vec<Check>) -> Self {
        Self { name, config: None, kind: Kind::Bochs, checks, long: false }
    }

    /// A scene whose checks share a machine in Bochs.
    pub fn on(name: &'static str, config: Config, checks: Vec<Check>) -> Self {
        Self { config: Some(config), ..Self::new(name, checks) }
    }
}

type Told = (std::result::Result<Verdict, String>, Duration);

/// Scenes at once where nobody says otherwise: an emulator keeps a core busy, and the smallest host has two.
const AT_ONCE: usize = 2;
/// How long a check may take to notice that its emulators are gone.
const GRACE: Duration = Duration::from_secs(60);

/// Runs what the arguments choose, as libtest would.
pub fn run(mut arguments: Arguments, scenes: Vec<Scene>) -> ExitCode {
    let (mut trials, mut queue) = (Vec::new(), VecDeque::new());
    for mut scene in scenes {
        let mut senders = HashMap::new();
        for check in &scene.checks {
            let (sender, told) = channel();
            let trial = trial(&check.name, told);
            if !arguments.is_filtered_out(&trial) {
                senders.insert(check.name.clone(), sender);
            }
            trials.push(trial);
        }
        scene.checks.retain(|check| senders.contains_key(&check.name));
        if !scene.checks.is_empty() {
            let at = if scene.long { 0 } else { queue.len() };
            queue.insert(at, (scene, senders));
        }
    }
    let mut workers = Vec::new();
    if !arguments.list && !queue.is_empty() {
        // Now, so that cargo's messages come before the printer's. An error is each check's own.
        let _ = stage::images();
        leftovers::remove(&times());
        let at_once = arguments.test_threads.unwrap_or(AT_ONCE).max(1);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..at_once {
            let queue = Arc::clone(&queue);
            workers.push(thread::spawn(move || {
                while let Some((scene, senders)) = next(&queue) {
                    supervise(scene, &senders);
                }
            }));
        }
    }
    // Results are printed in order, each when it is there.
    arguments.test_threads = Some(1);
    let conclusion = libtest_mimic::run(&arguments, trials);
    // No emulator outlives us: each scene ends its own, once its last check has been told.
    for worker in workers {
        // One that panicked has nothing to end any more.
        let _ = worker.join();
    }
    conclusion.exit_code()
}

fn next<Item>(queue: &Mutex<VecDeque<Item>>) -> Option<Item> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn trial(name: &str, told: Receiver<Told>) -> Trial {
    let check = name.to_owned();
    Trial::ignorable_test(name, move || {
        let (verdict, took) = told.recv().map_err(|_| Failed::from("its scene was given up"))?;
        let seconds = took.as_secs();
        match verdict {
            Ok(Verdict::Passed) => Ok(Completion::Completed),
            Ok(Verdict::Skipped(why)) if skips::is_allowed(&check) => Ok(Completion::ignored_with(why)),
            Ok(Verdict::Skipped(why)) => {
                Err(format!("skipped, and nothing in tests/src/skips.rs allows that: {why}").into())
            }
            Err(why) => Err(format!("{why} (after {seconds} s)").into()),
        }
    })
}

/// Runs one scene in a thread and sees to it that it ends.
fn supervise(scene: Scene, senders: &HashMap<String, Sender<Told>>) {
    let names: Vec<(String, Duration)> =
        scene.checks.iter().map(|check| (check.name.clone(), check.patience)).collect();
    let emulators = Emulators::default();
    let theirs = emulators.clone();
    let (sender, verdicts) = channel();
    thread::spawn(move || play(scene, theirs, &sender));
    for (name, patience) in names {
        let start = Instant::now();
        let (verdict, given_up) = match verdicts.recv_timeout(patience) {
            Ok(verdict) => (verdict, false),
            Err(RecvTimeoutError::Disconnected) => (Err("its scene ended before it".to_owned()), true),
            Err(RecvTimeoutError::Timeout) => {
                emulators.kill();
                let told = verdicts.recv_timeout(GRACE);
                let why = told.as_ref().ok().and_then(|verdict| verdict.as_ref().err().cloned());
                let why = why.unwrap_or_else(|| "and it said nothing more".to_owned());
                (Err(format!("hung for {} s: {why}", patience.as_secs())), told.is_err())
            }
        };
        note_time(&name, start.elapsed());
        if let Some(sender) = senders.get(&name) {
            // The printer may have ended, if somebody stopped it.
            let _ = sender.send((verdict, start.elapsed()));
        }
        if given_up {
            return;
        }
    }
    // The scene's own end: its thread lets go of the shared machine, and then of the channel.
    if verdicts.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
        emulators.kill();
    }
}

/// The file with what each check took, in the order in which they ended. A check that boots the machine takes longer.
fn times() -> std::path::PathBuf {
    places::run_directory("ladder").join("times.txt")
}

fn note_time(check: &str, took: Duration) {
    let file = fs::OpenOptions::new().create(true).append(true).open(times());
    // It is for whoever wants to know; no check depends on it.
    let _ = file.and_then(|mut file| writeln!(file, "{:7.1} s  {check}", took.as_secs_f32()));
}

/// The scene's thread.
fn play(scene: Scene, emulators: Emulators, verdicts: &Sender<std::result::Result<Verdict, String>>) {
    let mut stage = Stage::new(scene.name, scene.kind, scene.config, emulators);
    for check in scene.checks {
        stage.begin();
        let body = AssertUnwindSafe(|| (check.body)(&mut stage));
        let verdict: Result<Verdict> = catch_unwind(body).unwrap_or_else(|panic| Err(panicked(&*panic)));
        let verdict = verdict.map_err(|error| stage.failed(error).to_string());
        if verdicts.send(verdict).is_err() {
            return;
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    wrong(format!(
        "the check itself panicked: {}",
        said.or_else(|| panic.downcast_ref().copied()).unwrap_or("")
    ))
}
