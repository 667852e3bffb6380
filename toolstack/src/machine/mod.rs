//! Machines that Atoll runs on: Bochs, QEMU with KVM, QEMU without, and QEMU/KVM nested in Linux in Bochs.
//!
//! A machine is an emulator process, a file with what the first serial port said, and a line to the second one. How a
//! run ended is read from the file's last line, `atoll: exit N NAME`, because not every emulator has a way to say it.

mod bochs;
mod emulator;
mod nested;
mod qemu;
mod serial_log;
mod transfer;
pub mod xen;

use std::{
    fs,
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant},
};

pub use serial_log::{Outcome, SerialLog, parse_exit_line};
pub use transfer::TransferDisk;

use crate::{
    archive,
    config::Config,
    error::{At, Error, Result},
    images::Images,
    line::Line,
    places,
};
use emulator::Emulator;

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// QEMU with the host's VMX.
    Kvm,
    /// Bochs, which emulates VMX.
    Bochs,
    /// QEMU's own emulation, which has no VMX: it shows how Atoll says so.
    Tcg,
    /// QEMU/KVM in Linux in Bochs.
    Nested,
}

impl Kind {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Bochs => "bochs",
            Self::Tcg => "tcg",
            Self::Nested => "nested",
        }
    }

    /// What a figure measured there is: exact instructions, or time under so many hypervisors.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Bochs | Self::Tcg => "emulated",
            // A machine under KVM is always a hypervisor in a hypervisor.
            Self::Kvm | Self::Nested => "nested",
        }
    }

    /// How long a machine of this kind may take from power-on to the control domain's first answer.
    pub const fn boot_patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Kvm => 60,
            Self::Tcg => 120,
            Self::Bochs => 300,
            Self::Nested => 900,
        })
    }

    /// How long the control domain may take over a request before the line counts as dead.
    pub const fn reply_patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Kvm | Self::Tcg => 10,
            Self::Bochs => 60,
            Self::Nested => 180,
        })
    }

    /// The rate of its time-stamp counter, where its processor's CPUID tells of another.
    pub const fn counted_khz(self) -> Option<u32> {
        match self {
            Self::Bochs => Some(bochs::INSTRUCTIONS_PER_SECOND / 1000),
            Self::Kvm | Self::Tcg | Self::Nested => None,
        }
    }

    /// The most memory a machine of this kind can have.
    pub const fn max_memory_mib(self) -> u32 {
        match self {
            Self::Bochs => bochs::MAX_MEMORY_MIB,
            Self::Nested => nested::MAX_MEMORY_MIB,
            Self::Kvm | Self::Tcg => 64 * 1024,
        }
    }
}

/// What to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// Hypervisor and boot archive.
    Parts {
        /// The hypervisor's ELF file.
        hypervisor: Vec<u8>,
        /// The boot archive.
        archive: Vec<u8>,
        /// The hypervisor's command line.
        command_line: String,
    },
    /// A CD image that was made before; Bochs and plain QEMU only.
    Iso(PathBuf),
}

/// The command line of machines that we start: the hypervisor ends the run through the emulator's own exit device.
pub const COMMAND_LINE: &str = "exit=debug";

impl Boot {
    /// These images with this configuration, on a machine that we start.
    pub fn of(images: &Images, config: &Config) -> Result<Self> {
        Ok(Self::Parts {
            hypervisor: archive::read_image(&images.hypervisor)?,
            archive: archive::build(images, config)?,
            command_line: COMMAND_LINE.to_owned(),
        })
    }
}

/// A machine to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Which.
    pub kind: Kind,
    /// Cores, from 1.
    pub cores: u32,
    /// Packages that they are in, as many in each; `None`: as the machine has it by itself.
    pub packages: Option<u32>,
    /// How many cores it may come to have; `None`: no more.
    pub max_cores: Option<u32>,
    /// Memory.
    pub memory_mib: u32,
    /// What to boot.
    pub boot: Boot,
    /// The processor that Bochs shall be, by its own name for it; `None`: the usual one.
    pub processor: Option<String>,
    /// Nothing is behind the second serial port: nobody can speak to the control domain. Bochs only.
    pub unattended: bool,
    /// Where the run's files go; made if need be, and an earlier run's files there are replaced.
    pub directory: PathBuf,
}

impl Spec {
    /// The cores that may come, by number.
    fn to_come(&self) -> Option<Range<u32>> {
        self.max_cores.filter(|&most| most > self.cores).map(|most| self.cores..most)
    }
}

/// A running machine. Dropping it ends it; the files stay.
#[derive(Debug)]
pub struct Machine {
    kind: Kind,
    emulator: Emulator,
    log: SerialLog,
    port: u16,
    line: Option<Line>,
    disk: Option<TransferDisk>,
}

/// The serial log's name in the run's directory.
pub const SERIAL_LOG: &str = "serial.log";

impl Machine {
    /// Powers a machine on.
    pub fn start(spec: &Spec) -> Result<Self> {
        if spec.to_come().is_some() && matches!(spec.kind, Kind::Bochs) {
            return Err(Error::new(
                "Bochs cannot be given cores while it runs",
                "leave max_cores out, or use --machine kvm or --machine nested",
            ));
        }
        if spec.cores == 0 || spec.memory_mib > spec.kind.max_memory_mib() {
            return Err(Error::new(
                format!("{} cannot have {} cores and {} MiB", spec.kind.name(), spec.cores, spec.memory_mib),
                format!("it has at least one core and at most {} MiB", spec.kind.max_memory_mib()),
            ));
        }
        places::make(&spec.directory)?;
        let log = SerialLog::new(spec.directory.join(SERIAL_LOG));
        fs::write(log.path(), "").at("writing", log.path())?;
        let port = crate::line::free_port().at("finding a free port on", "localhost")?;
        let disk = match spec.kind {
            Kind::Bochs | Kind::Kvm | Kind::Tcg => Some(TransferDisk::create(&spec.directory)?),
            // A disk would have to go through the Linux in between.
            Kind::Nested => None,
        };
        let mut emulator = match spec.kind {
            Kind::Bochs => bochs::start(spec, log.path(), (!spec.unattended).then_some(port), disk.as_ref())?,
            Kind::Kvm | Kind::Tcg => qemu::start(spec, log.path(), port, disk.as_ref())?,
            Kind::Nested => nested::start(spec, log.path(), port)?,
        };
        if spec.kind == Kind::Bochs && spec.unattended {
            return Ok(Self { kind: spec.kind, emulator, log, port, line: None, disk });
        }
        let line = match Line::connect_tcp(port, Duration::from_secs(20)) {
            Ok(line) => line,
            Err(error) => {
                emulator.kill();
                return Err(Error::new(
                    format!("{} gives no line to its second serial port: {error}", spec.kind.name()),
                    format!("read {}", emulator.output().display()),
                ));
            }
        };
        Ok(Self { kind: spec.kind, emulator, log, port, line: Some(line), disk })
    }

    /// Which machine it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What its first serial port said.
    pub fn log(&self) -> &SerialLog {
        &self.log
    }

    /// The emulator's process id.
    pub fn process_id(&self) -> u32 {
        self.emulator.process_id()
    }

    /// The line to its second serial port, once.
    pub fn take_line(&mut self) -> Option<Line> {
        self.line.take()
    }

    /// The disk that images get into it by, if it has one.
    pub fn transfer_disk(&self) -> Option<&TransferDisk> {
        self.disk.as_ref()
    }

    /// Where a line that broke off can be made again; Bochs takes one client and no other.
    pub fn reconnect_port(&self) -> Option<u16> {
        matches!(self.kind, Kind::Kvm | Kind::Tcg).then_some(self.port)
    }

    /// Whether the emulator still runs.
    pub fn is_running(&mut self) -> bool {
        self.emulator.is_running()
    }

    /// Waits for the end of the run and ends the emulator where it does not end by itself.
    pub fn wait(&mut self, patience: Duration) -> Result<Outcome> {
        let start = Instant::now();
        let mut watch = self.log.watch();
        loop {
            let running = self.is_running();
            if let Some(outcome) = watch.outcome() {
                self.emulator.end_within(Duration::from_secs(5));
                return Ok(outcome);
            }
            if !running {
                return Err(self.died());
            }
            if start.elapsed() > patience {
                self.emulator.kill();
                let seconds = patience.as_secs();
                return Err(Error::new(format!("the machine still ran after {seconds} s"), "")
                    .with_log(self.log.path()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Why nothing more comes from this machine: the exit line's reason if there is one, else `error` itself.
    pub fn explain(&mut self, error: Error) -> Error {
        // The last line may be on its way while the line has broken off already.
        let ended = (0..20).any(|_| {
            let ended = !self.is_running();
            if !ended && self.log.outcome().is_none() {
                std::thread::sleep(Duration::from_millis(50));
            }
            ended || self.log.outcome().is_some()
        });
        match self.log.outcome() {
            Some(outcome) => outcome.as_error().with_log(self.log.path()),
            None if ended => self.died(),
            None => error.with_log(self.log.path()),
        }
    }

    /// Ends the emulator now.
    pub fn kill(&mut self) {
        self.emulator.kill();
    }

    fn died(&self) -> Error {
        let said = fs::read_to_string(self.emulator.output()).unwrap_or_default();
        let said = said.trim().lines().next_back().unwrap_or("nothing").to_owned();
        Error::new(
            format!("{} ended without an exit line; it said: {said}", self.kind.name()),
            format!("read the emulator's own log, {}", self.emulator.output().display()),
        )
        .with_log(self.log.path())
    }
}
