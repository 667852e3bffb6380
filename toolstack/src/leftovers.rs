//! What must not stay behind when a signal ends this process: child processes, and files such as lock files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::error::{At, Result};

struct Leftover {
    process: u32,
    signal: Signal,
    files: Vec<PathBuf>,
}

static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

fn leftovers() -> MutexGuard<'static, Vec<Leftover>> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on Ctrl-C, a hang-up and a request to terminate clear up before they end this process.
pub fn clear_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).at("taking over signals in", "this process")?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        for leftover in leftovers().drain(..) {
            send(leftover.process, leftover.signal);
            leftover.files.iter().for_each(|file| remove(file));
        }
        // Where no terminal was taken over this does nothing.
        let _ = crossterm::terminal::disable_raw_mode();
        std::process::exit(128 + signal);
    });
    Ok(())
}

/// A process that gets this signal, and files that are removed.
pub fn add(process: u32, signal: Signal, files: Vec<PathBuf>) {
    leftovers().push(Leftover { process, signal, files });
}

/// That process has ended, or shall stay.
pub fn forget(process: u32) {
    leftovers().retain(|leftover| leftover.process != process);
}

/// Sends a signal to a process that may have ended just now.
pub fn send(process: u32, signal: Signal) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, signal);
    }
}

/// Removes a file that may not be there.
pub fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}
