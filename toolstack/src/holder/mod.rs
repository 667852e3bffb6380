//! What keeps a machine running between two commands.
//!
//! An emulator dies with the process that started it, and Bochs lets one client onto its serial line, once. So
//! `atoll up` starts the command again in the background, as the machine's *holder*: it owns the emulator and the
//! control line, and lets any number of later commands share that line through a socket ([`hub`]). The holder ends
//! when its machine does, and its machine ends with it.

pub mod hub;
mod launch;
mod serve;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use launch::{launch, stop};
pub use serve::serve;

use crate::{
    control::Client,
    error::{At, Error, Result},
    line::Line,
    machine::Kind,
    places,
};

/// The socket of the shared control line, in the run's directory.
pub const SOCKET: &str = "control.sock";
/// The hidden verb of the background process.
pub const VERB: &str = "__serve";

const ORDER: &str = "machine.json";
const HYPERVISOR: &str = "hypervisor.elf";
const ARCHIVE: &str = "boot.archive";
const FAILURE: &str = "failure.json";
const PROCESS: &str = "holder.pid";

/// The machine that `up` starts, as later commands may read it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which machine.
    pub kind: Kind,
    /// Its cores.
    pub cores: u32,
    /// Packages that they are in, where that was said.
    #[serde(default)]
    pub packages: Option<u32>,
    /// How many cores it may come to have.
    #[serde(default)]
    pub max_cores: Option<u32>,
    /// Its memory.
    pub memory_mib: u32,
    /// The hypervisor's command line.
    pub command_line: String,
    /// The directory its images came from, where one was named.
    pub images: Option<PathBuf>,
    /// Files that the boot archive has as images, each with its SHA-256 in hexadecimal.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Failure {
    what: String,
    remedy: String,
}

/// Where the machine of `up` has its files.
pub fn directory() -> PathBuf {
    places::run_directory("up")
}

/// The order of the machine in `directory`.
pub fn order(directory: &Path) -> Result<Order> {
    let path = directory.join(ORDER);
    let text = fs::read_to_string(&path).at("reading", &path)?;
    serde_json::from_str(&text)
        .map_err(|error| Error::new(format!("{}: {error}", path.display()), "`atoll down`, then `atoll up`"))
}

/// A client of the running machine.
pub fn attach(directory: &Path) -> Result<Client> {
    let none = || Error::new("no machine is running", "start one with `atoll up`");
    let line = Line::connect_unix(directory, SOCKET).map_err(|_| none())?;
    let patience = order(directory).map_or(Duration::from_secs(60), |order| order.kind.reply_patience());
    // The holder has a deadline of its own; ours is later, so that its answer is the one a person sees.
    let client =
        Client::new(line, patience + Duration::from_secs(5), None).at("using", directory.join(SOCKET))?;
    client.hello(Duration::from_secs(10))?;
    Ok(client)
}

/// The holder's process, if it lives.
pub fn process(directory: &Path) -> Option<u32> {
    let process: u32 = fs::read_to_string(directory.join(PROCESS)).ok()?.trim().parse().ok()?;
    let words = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    // A number may have come round to another process.
    words.split(|&byte| byte == 0).any(|word| word == VERB.as_bytes()).then_some(process)
}
