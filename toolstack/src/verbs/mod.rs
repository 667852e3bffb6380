//! The verbs, a file each.

pub mod bench;
pub mod console;
pub mod core;
pub mod crash;
pub mod create;
pub mod demo;
pub mod dmesg;
pub mod doctor;
pub mod down;
pub mod fuzz;
pub mod image;
pub mod info;
pub mod lab;
pub mod linux;
pub mod list;
pub mod orders;
pub mod stop;
pub mod test;
pub mod top;
pub mod topology;
pub mod up;
pub mod xenstore;

use std::path::Path;

use crate::{
    cli::MachineArgs,
    config::{Config, Surroundings},
    control::Client,
    error::{Error, Result},
    holder, host,
    images::{self, Images},
    machine::Kind,
};

/// The running machine's control domain.
fn attached() -> Result<Client> {
    holder::attach(&holder::directory())
}

/// The description in a file, checked against the images that can be had.
fn load(file: Option<&Path>, images: Option<&Path>) -> Result<Config> {
    Config::load(file, &Surroundings { images: images::names(images)?, ..Surroundings::default() })
}

/// What is needed to boot: a description that passed, images, and a machine this host can run.
fn prepare(file: Option<&Path>, machine: &MachineArgs) -> Result<(Config, Images, Kind)> {
    let config = load(file, machine.images.as_deref())?;
    let kind = machine.machine.kind();
    can_run(kind)?;
    if config.memory_mib > kind.max_memory_mib() {
        return Err(Error::new(
            format!("{} cannot give a machine {} MiB", kind.name(), config.memory_mib),
            format!("lower [machine] memory_mib to {} or less", kind.max_memory_mib()),
        ));
    }
    Ok((config, Images::find(machine.images.as_deref())?, kind))
}

/// Refuses a machine that this host cannot run, with what is missing.
fn can_run(kind: Kind) -> Result<()> {
    let findings = host::findings();
    let lacking = host::lacking(kind, &findings);
    let Some(first) = lacking.first() else { return Ok(()) };
    let told: Vec<String> =
        lacking.iter().map(|finding| format!("{} ({})", finding.name, finding.detail)).collect();
    let packages: Vec<&str> = lacking.iter().filter_map(|finding| finding.package).collect();
    let remedy = if packages.len() == lacking.len() {
        format!("apt-get install --no-install-recommends {}", host::packages_for(&[kind.name()]).join(" "))
    } else {
        first.remedy.clone()
    };
    Err(Error::new(
        format!("this host cannot run the machine `{}`: {}", kind.name(), told.join("; ")),
        remedy,
    ))
}
