//! The machine that a scene's checks share: booted when the first of them asks for it, and booted anew for the next
//! one after a check has failed on it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use abi::control::wire::MachineConfig;
use toolstack::{
    config::Config,
    images::Images,
    leftovers::{self, Signal},
    machine::{Boot, Kind, Machine, SERIAL_LOG, Spec},
    places,
    session::Session,
};

use crate::{Error, Result, wrong};

/// The images, built once for all.
pub fn images() -> Result<&'static Images> {
    static IMAGES: OnceLock<Result<Images>> = OnceLock::new();
    IMAGES.get_or_init(|| Images::find(None)).as_ref().map_err(Error::clone)
}

/// A machine of this kind that is to run this configuration, with its files in `directory`.
pub fn spec(kind: Kind, config: &Config, directory: PathBuf) -> Result<Spec> {
    Ok(Spec {
        kind,
        cores: config.cores,
        packages: config.packages,
        max_cores: config.max_cores,
        memory_mib: config.memory_mib,
        boot: Boot::of(images()?, config)?,
        processor: None,
        unattended: false,
        directory,
    })
}

/// The scene's emulators, for whoever has to end them when it hangs.
#[derive(Clone, Debug, Default)]
pub struct Emulators(Arc<Mutex<Vec<u32>>>);

impl Emulators {
    /// One more; it may end before the scene does.
    pub fn add(&self, process: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(process);
    }

    /// All those named so far have ended.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Ends them all, so that whatever waits for them fails.
    pub fn kill(&self) {
        for process in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            leftovers::send(process, Signal::KILL);
        }
    }
}

/// What a scene's checks share.
pub struct Stage {
    scene: &'static str,
    kind: Kind,
    config: Option<Config>,
    session: Option<Session>,
    boots: u32,
    log: Option<PathBuf>,
    /// The scene's emulators.
    pub emulators: Emulators,
}

impl Stage {
    /// A stage on which such a machine with this configuration is booted when it is first asked for.
    pub fn new(scene: &'static str, kind: Kind, config: Option<Config>, emulators: Emulators) -> Self {
        Self { scene, kind, config, session: None, boots: 0, log: None, emulators }
    }

    /// The shared machine.
    pub fn session(&mut self) -> Result<&mut Session> {
        if self.session.is_none() {
            let config = self.config.clone().ok_or_else(|| wrong("this scene has no machine to share"))?;
            self.boots += 1;
            let name = if self.boots == 1 { "shared".to_owned() } else { format!("shared-{}", self.boots) };
            let spec = spec(self.kind, &config, self.directory(&name))?;
            let session = self.attend(&spec)?;
            self.session = Some(session);
        }
        self.session.as_mut().ok_or_else(|| wrong("this scene has no machine to share"))
    }

    /// Boots a machine in Bochs for one check alone. Every guest of its configuration runs.
    pub fn boot(&mut self, name: &str, config: &Config) -> Result<Session> {
        let spec = spec(Kind::Bochs, config, self.directory(name))?;
        self.attend(&spec)
    }

    /// Boots a machine and waits for its control domain. Every guest of its configuration runs.
    pub fn attend(&mut self, spec: &Spec) -> Result<Session> {
        let mut machine = self.start(spec)?;
        let client = toolstack::session::connect(&mut machine)?;
        let failed = client.hello(spec.kind.boot_patience() * 2).map_err(|error| machine.explain(error))?;
        if let Some((guest, refusal)) = failed.first() {
            return Err(Error::from(refusal.clone()).during(format!("guest `{guest}` did not start")));
        }
        Ok(Session { client, machine, failed })
    }

    /// Powers a machine on, and makes its serial log the one that a failure names.
    pub fn start(&mut self, spec: &Spec) -> Result<Machine> {
        self.log = Some(spec.directory.join(SERIAL_LOG));
        let machine = Machine::start(spec)?;
        self.emulators.add(machine.process_id());
        Ok(machine)
    }

    /// Another check begins. What emulators the one before had to itself have ended, and their numbers may be others'.
    pub fn begin(&mut self) {
        if self.session.is_none() {
            self.emulators.forget();
        }
    }

    /// Where a run of this scene has its files.
    pub fn directory(&self, name: &str) -> PathBuf {
        places::run_directory("ladder").join(self.scene).join(name)
    }

    /// Says which log a failure is to be read in.
    pub fn look_into(&mut self, log: PathBuf) {
        self.log = Some(log);
    }

    /// The same error, naming the log. What is left of the machine is ended: the next check gets a fresh one.
    pub fn failed(&mut self, error: Error) -> Error {
        let error = match &mut self.session {
            Some(session) => session.explain(error),
            None => error,
        };
        self.session = None;
        match &self.log {
            Some(log) => error.with_log(log),
            None => error,
        }
    }
}

/// A machine without guests.
pub fn no_guests(cores: u32) -> Config {
    Config { machine: MachineConfig::default(), ..Config::of_guests(cores, []) }
}
