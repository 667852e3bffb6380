//! An unmodified Linux as a guest: Debian's kernel with a busybox root, and a hand on its shell.

use std::{
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use abi::control::wire::{GuestConfig, Paging, Placement, Policy, State, Virt};
use toolstack::{
    config::Config,
    control::{Client, Console},
    linux::guest::{self, Files, READY},
    places,
};

use crate::{Result, watch::until_within, wrong};

/// How long Linux may take from its first instruction to its shell, beside other guests on a slow host.
pub const BOOT: Duration = Duration::from_secs(10 * 60);
/// How long it may take over a command.
const COMMAND: Duration = Duration::from_secs(3 * 60);

fn directory() -> PathBuf {
    places::state_directory().join("linux/guest")
}

/// Kernel and ramdisk, fetched and packed once for all.
pub fn files() -> Result<&'static Files> {
    static FILES: OnceLock<Result<Files>> = OnceLock::new();
    FILES.get_or_init(|| guest::write(&directory())).as_ref().map_err(Clone::clone)
}

/// Linux on these cores, one virtual CPU on each.
pub fn member(name: &str, cores: &[u32]) -> GuestConfig {
    GuestConfig {
        name: name.to_owned(),
        image: "vmlinuz".to_owned(),
        ramdisk: Some("initrd.gz".to_owned()),
        firmware: false,
        disk: None,
        cores: cores.to_vec(),
        vcpus: cores.len() as u32,
        placement: Placement::Lowest,
        memory_mib: 192,
        // Half of the start would be spent on names for tracing.
        command_line: "console=hvc0 quiet initcall_blacklist=trace_eval_init".to_owned(),
        mesh: false,
        virt: Virt::Para,
        paging: Paging::Ept,
        emulated_apic: false,
        devices: vec![],
        on_poweroff: Policy::Preserve,
        on_reboot: Policy::Restart,
        on_crash: Policy::Preserve,
        on_watchdog: Policy::Preserve,
        watchdog: 0,
    }
}

/// A machine whose boot archive has Linux among its images. The files themselves are made by [`files`].
pub fn machine(cores: u32, guests: Vec<GuestConfig>) -> Config {
    let file = |name: &str| (name.to_owned(), directory().join(name));
    Config { files: ["vmlinuz", "initrd.gz"].map(file).into(), ..Config::of_guests(cores, guests) }
}

/// A shell on a guest's console, and all that the guest has printed.
pub struct Shell<'client> {
    client: &'client Client,
    name: String,
    console: Console<'client>,
    printed: String,
}

impl<'client> Shell<'client> {
    /// Waits until the guest's shell is there.
    pub fn of(client: &'client Client, name: &str) -> Result<Self> {
        let console = Console::new(client, name);
        let mut shell = Self { client, name: name.to_owned(), console, printed: String::new() };
        shell.until(BOOT, READY, |printed| printed.contains(READY).then_some(()))?;
        Ok(shell)
    }

    /// Types a command and waits for its end: what it printed. It must succeed.
    pub fn run(&mut self, command: &str) -> Result<String> {
        match self.status_of(command)? {
            (0, printed) => Ok(printed),
            (status, printed) => {
                Err(wrong(format!("{}: `{command}` ended with {status}: {printed}", self.name)))
            }
        }
    }

    /// The same with its status, whichever it is.
    ///
    /// The shell prints what is typed, too. So the marks around the output are sums, and what is typed is not them.
    pub fn status_of(&mut self, command: &str) -> Result<(u32, String)> {
        // Never the same twice: what an earlier hand on this shell has printed is still there.
        static COMMANDS: AtomicU32 = AtomicU32::new(1001);
        let number = COMMANDS.fetch_add(1, Ordering::Relaxed);
        let sum = format!("$((1+{}))", number - 1);
        let (begin, end) = (format!("begin{number}\r\n"), format!("end{number}="));
        self.client
            .input(&self.name, format!("echo begin{sum}; {command}; echo end{sum}=$?\n").as_bytes())?;
        self.until(COMMAND, &format!("the end of `{command}`"), |printed| {
            let (_, rest) = printed.rsplit_once(&begin)?;
            let (output, status) = rest.split_once(&end)?;
            let (status, _) = status.split_once("\r\n")?;
            Some((status.parse().ok()?, output.replace("\r\n", "\n").trim_end().to_owned()))
        })
    }

    /// Types a command that the guest does not survive.
    pub fn last(&mut self, command: &str) -> Result<()> {
        self.client.input(&self.name, format!("{command}\n").as_bytes())
    }

    /// All that the guest has printed.
    pub fn printed(&self) -> &str {
        &self.printed
    }

    fn until<Seen>(
        &mut self,
        patience: Duration,
        what: &str,
        find: impl Fn(&str) -> Option<Seen>,
    ) -> Result<Seen> {
        let what = format!("{what} from {}", self.name);
        until_within(patience, &what, || {
            let new = self.console.read(false)?;
            self.printed.push_str(&String::from_utf8_lossy(&new));
            if let Some(seen) = find(&self.printed) {
                return Ok(Some(seen));
            }
            match self.client.domain(&self.name)?.state {
                State::Running => Ok(None),
                State::Crashed => {
                    let (cause, registers) = self.client.crash(&self.name)?;
                    Err(wrong(format!(
                        "{} crashed: {cause}; {registers:x?}; it said: {}",
                        self.name,
                        self.tail()
                    )))
                }
                state => Err(wrong(format!("{} is {state:?}; it said: {}", self.name, self.tail()))),
            }
        })
        .map_err(|error| wrong(format!("{}; it said: {}", error.what(), self.tail())))
    }

    /// The last lines of what was printed, for whoever reads of a failure.
    fn tail(&self) -> String {
        let lines: Vec<&str> = self.printed.lines().rev().take(12).collect();
        lines.into_iter().rev().map(|line| format!("\n    | {line}")).collect()
    }
}

/// Waits until a guest is in this state.
pub fn becomes(client: &Client, name: &str, state: State) -> Result<()> {
    until_within(COMMAND, &format!("{name} as {state:?}"), || {
        let now = client.domain(name)?.state;
        Ok((now == state).then_some(()))
    })
}
