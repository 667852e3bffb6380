//! `up`: boots a machine that stays when the command ends.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    archive,
    cli::MachineArgs,
    config::Config,
    error::{Error, Result},
    holder::{self, Order},
    machine::COMMAND_LINE,
    output, upload,
};

/// Boots, waits for the control domain, and says how to go on.
pub fn run(file: Option<&Path>, machine: &MachineArgs) -> Result<()> {
    let directory = holder::directory();
    if holder::process(&directory).is_some() {
        return Err(Error::new("a machine is running already", "stop it first with `atoll down`"));
    }
    let (config, images, kind) = super::prepare(file, machine)?;
    let archive = archive::build(&images, &config)?;
    let order = Order {
        kind,
        cores: config.cores,
        packages: config.packages,
        max_cores: config.max_cores,
        memory_mib: config.memory_mib,
        command_line: format!("{COMMAND_LINE} dom0_mem={}", control_mib(archive.len())),
        images: machine.images.clone(),
        files: sums(&config)?,
    };
    let hypervisor = archive::read_image(&images.hypervisor)?;
    let client = holder::launch(&directory, &order, &hypervisor, &archive)?;
    for (name, refusal) in client.hello(kind.reply_patience())? {
        eprintln!("atoll: guest `{name}` did not start: {}", Error::from(refusal));
    }
    let domains = client.list()?;
    output::say(format!(
        "up: {} with {} cores, {} domains (`atoll list`, `atoll top`, `atoll down`)",
        kind.name(),
        config.cores,
        domains.len()
    ));
    Ok(())
}

/// Domain 0's memory: twice the archive and its own needs, as without being told; and room for a kernel that is uploaded
/// later and unpacked there, within what the description reserves.
fn control_mib(archive_bytes: usize) -> usize {
    const OWN: usize = 48;
    const WITH_UPLOADS: usize = 112;
    WITH_UPLOADS.max(OWN + 2 * (archive_bytes >> 20))
}

/// The files that go into the boot archive, and their checksums, so that `create` need not upload them again.
fn sums(config: &Config) -> Result<BTreeMap<String, String>> {
    let sum = |(name, path): (&String, &PathBuf)| {
        Ok((name.clone(), upload::hexadecimal(&upload::sha256(&archive::read_file(path)?))))
    };
    config.files.iter().map(sum).collect()
}
