//! An emulator's process: it never outlives us, and leaves no lock file behind.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    error::{At, Result},
    leftovers::{self, Signal},
};

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
        leftovers::add(child.id(), Signal::KILL, files.clone());
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
            leftovers::send(self.child.id(), Signal::KILL);
        }
        // The process is ours and is ending: waiting cannot fail in a way that matters.
        let _ = self.child.wait();
        leftovers::forget(self.child.id());
        self.files.drain(..).for_each(|file| leftovers::remove(&file));
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.kill();
    }
}
