//! Bochs: VMX on every core without any help from the host.
//!
//! Debian's package has the debugger compiled in, so it is given a file with the one command `c`; the display is an
//! unwatched RFB server, because there is no headless one; sound must be the dummy driver, or ALSA aborts the start.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use abi::control::transfer;

use super::{Boot, Spec, TransferDisk, emulator::Emulator};
use crate::{
    error::{At, Result},
    iso, leftovers,
};

/// The most that Bochs gives a machine.
pub(super) const MAX_MEMORY_MIB: u32 = 2048;
/// Bochs's name for the processor with the most of VMX.
pub(super) const PROCESSOR: &str = "corei7_skylake_x";

/// The clock that Bochs counts by: so many instructions are a second of the machine's time.
pub(super) const INSTRUCTIONS_PER_SECOND: u32 = 50_000_000;

pub(super) fn start(
    spec: &Spec,
    log: &Path,
    port: Option<u16>,
    disk: Option<&TransferDisk>,
) -> Result<Emulator> {
    let cd = match &spec.boot {
        Boot::Parts { hypervisor, archive, command_line } => {
            let cd = spec.directory.join("boot.iso");
            iso::write(hypervisor, Some(archive.as_slice()), command_line, &spec.directory, &cd)?;
            cd
        }
        Boot::Iso(cd) => cd.clone(),
    };
    let processor = spec.processor.as_deref().unwrap_or(PROCESSOR);
    let hardware = Hardware {
        processor,
        cores: spec.cores,
        packages: spec.packages,
        memory_mib: spec.memory_mib,
        cd: &cd,
        log,
        port,
        disk,
    };
    run(&spec.directory, &hardware)
}

/// What a machine in Bochs is made of.
pub(super) struct Hardware<'files> {
    pub(super) processor: &'files str,
    pub(super) cores: u32,
    pub(super) packages: Option<u32>,
    pub(super) memory_mib: u32,
    /// What it boots from.
    pub(super) cd: &'files Path,
    /// Behind the first serial port.
    pub(super) log: &'files Path,
    /// The TCP port behind the second, if any.
    pub(super) port: Option<u16>,
    pub(super) disk: Option<&'files TransferDisk>,
}

/// Boots Bochs from a CD image.
pub(super) fn run(directory: &Path, hardware: &Hardware) -> Result<Emulator> {
    let settings = directory.join("bochsrc");
    let commands = directory.join("bochs.commands");
    fs::write(&settings, resource_file(directory, hardware)).at("writing", &settings)?;
    fs::write(&commands, "c\n").at("writing", &commands)?;
    let lock = |image: &Path| {
        let mut lock = image.as_os_str().to_owned();
        lock.push(".lock");
        PathBuf::from(lock)
    };
    let images = [Some(hardware.cd), hardware.disk.map(TransferDisk::path)];
    let locks: Vec<PathBuf> = images.into_iter().flatten().map(lock).collect();
    locks.iter().for_each(|lock| leftovers::remove(lock));
    let mut command = Command::new("bochs-bin");
    command.arg("-q").arg("-f").arg(&settings).arg("-rc").arg(&commands);
    Emulator::start(&mut command, directory.join("emulator.log"), locks)
}

fn resource_file(directory: &Path, hardware: &Hardware) -> String {
    let &Hardware { processor, cores, packages, memory_mib, cd, log, port, disk } = hardware;
    // Packages, cores of each, threads of each.
    let count = match packages {
        Some(packages) => format!("{packages}:{}:1", cores / packages.max(1)),
        None => cores.to_string(),
    };
    let second = match port {
        Some(port) => format!("mode=socket-server, dev=localhost:{port}"),
        None => "mode=null".to_owned(),
    };
    let disk = disk.map_or_else(String::new, |disk| {
        let (path, (heads, sectors, cylinders)) = (disk.path().display(), transfer::GEOMETRY);
        format!(
            "ata1: enabled=1, ioaddr1={:#x}, ioaddr2=0x370, irq=15\n\
             ata1-master: type=disk, path=\"{path}\", mode=flat, cylinders={cylinders}, heads={heads}, spt={sectors}\n",
            transfer::COMMAND_PORT
        )
    });
    format!(
        "plugin_ctrl: serial=1, unmapped=1, biosdev=1\n\
         config_interface: textconfig\n\
         display_library: rfb, options=\"timeout=0\"\n\
         cpu: model={processor}, count={count}, ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0\n\
         memory: guest={memory_mib}, host={memory_mib}\n\
         romimage: file=\"/usr/share/bochs/BIOS-bochs-latest\"\n\
         vgaromimage: file=\"/usr/share/bochs/VGABIOS-lgpl-latest\"\n\
         clock: sync=none, time0=local\n\
         boot: cdrom\n\
         ata0-master: type=cdrom, path=\"{cd}\", status=inserted\n\
         {disk}\
         com1: enabled=1, mode=file, dev=\"{log}\"\n\
         com2: enabled=1, {second}\n\
         speaker: enabled=0\n\
         sound: driver=dummy\n\
         log: \"{own}\"\n",
        cd = cd.display(),
        log = log.display(),
        own = directory.join("bochs.log").display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_serial_ports_are_connected() {
        let text = |port| {
            let (cd, log) = (Path::new("/run/b.iso"), Path::new("/run/s.log"));
            let hardware = Hardware {
                processor: PROCESSOR,
                cores: 4,
                packages: None,
                memory_mib: 1024,
                cd,
                log,
                port,
                disk: None,
            };
            resource_file(Path::new("/run"), &hardware)
        };
        assert!(text(None).contains("com2: enabled=1, mode=null\n"));
        let text = text(Some(7001));
        assert!(text.contains("count=4,"));
        assert!(text.contains("com1: enabled=1, mode=file, dev=\"/run/s.log\"\n"));
        assert!(text.contains("com2: enabled=1, mode=socket-server, dev=localhost:7001\n"));
    }
}
