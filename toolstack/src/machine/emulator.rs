//! An emulator's process: it never outlives us, and leaves no lock file behind.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::error::{At, Result};

/// Processes to kill and files to remove if a signal ends us.
static LEFTOVERS: Mutex<Vec<(u32, Vec<PathBuf>)>> = Mutex::new(Vec::new());

fn leftovers() -> std::sync::MutexGuard<'static, Vec<(u32, Vec<PathBuf>)>> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on Ctrl-C, a hang-up and a request to terminate end all emulators before they end this process.
pub fn stop_all_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).at("taking over signals in", "this process")?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        for (process, files) in leftovers().drain(..) {
            kill(process);
            files.iter().for_each(|file| super::remove(file));
        }
        // Where no terminal was taken over this does nothing.
        let _ = crossterm::terminal::disable_raw_mode();
        std::process::exit(128 + signal);
    });
    Ok(())
}

fn kill(process: u32) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // It may have ended just now.
        let _ = kill_process(process, Signal::KILL);
    }
}

#[derive(Debug)]
pub(super) struct Emulator {
    child: Child,
    output: PathBuf,
    files: Vec<PathBuf>,
}

impl Emulator {
    /// Starts `command` with what it says in `output`; `files` are removed when it has ended.
    pub(super) fn start(command: &mut Command, output: PathBuf, files: Vec<PathBuf>) -> Result<Self> {
        let sink = File::create(&output).at("writing", &output)?;
        let errors = sink.try_clone().at("writing", &output)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(sink)
            .stderr(errors)
            .spawn()
            .at("running", command.get_program())?;
        leftovers().push((child.id(), files.clone()));
        Ok(Self { child, output, files })
    }

    pub(super) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// The file with what the emulator itself said.
    pub(super) fn output(&self) -> &Path {
        &self.output
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Lets it end by itself for a while.
    pub(super) fn end_within(&mut self, grace: Duration) {
        let start = Instant::now();
        while self.is_running() && start.elapsed() < grace {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    pub(super) fn kill(&mut self) {
        if self.is_running() {
            kill(self.child.id());
        }
        // The process is ours and is ending: waiting cannot fail in a way that matters.
        let _ = self.child.wait();
        leftovers().retain(|(process, _)| *process != self.child.id());
        self.files.drain(..).for_each(|file| super::remove(&file));
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.kill();
    }
}
