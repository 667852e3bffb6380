//! Bochs: VMX on every core without any help from the host.
//!
//! Debian's package has the debugger compiled in, so it is given a file with the one command `c`; the display is an
//! unwatched RFB server, because there is no headless one; sound must be the dummy driver, or ALSA aborts the start.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Boot, Spec, emulator::Emulator};
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

pub(super) fn start(spec: &Spec, log: &Path, port: Option<u16>) -> Result<Emulator> {
    let cd = match &spec.boot {
        Boot::Parts { hypervisor, archive, command_line } => {
            let cd = spec.directory.join("boot.iso");
            iso::write(hypervisor, archive, command_line, &spec.directory, &cd)?;
            cd
        }
        Boot::Iso(cd) => cd.clone(),
    };
    let processor = spec.processor.as_deref().unwrap_or(PROCESSOR);
    run(&spec.directory, processor, spec.cores, spec.memory_mib, &cd, log, port)
}

/// Boots Bochs from a CD image, with `log` behind the first serial port and TCP `port`, if any, behind the second.
pub(super) fn run(
    directory: &Path,
    processor: &str,
    cores: u32,
    memory_mib: u32,
    cd: &Path,
    log: &Path,
    port: Option<u16>,
) -> Result<Emulator> {
    let settings = directory.join("bochsrc");
    let commands = directory.join("bochs.commands");
    fs::write(&settings, resource_file(directory, processor, cores, memory_mib, cd, log, port))
        .at("writing", &settings)?;
    fs::write(&commands, "c\n").at("writing", &commands)?;
    let mut lock = cd.as_os_str().to_owned();
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    leftovers::remove(&lock);
    let mut command = Command::new("bochs-bin");
    command.arg("-q").arg("-f").arg(&settings).arg("-rc").arg(&commands);
    Emulator::start(&mut command, directory.join("emulator.log"), vec![lock])
}

fn resource_file(
    directory: &Path,
    processor: &str,
    cores: u32,
    memory_mib: u32,
    cd: &Path,
    log: &Path,
    port: Option<u16>,
) -> String {
    let second = match port {
        Some(port) => format!("mode=socket-server, dev=localhost:{port}"),
        None => "mode=null".to_owned(),
    };
    format!(
        "plugin_ctrl: serial=1, unmapped=1, biosdev=1\n\
         config_interface: textconfig\n\
         display_library: rfb, options=\"timeout=0\"\n\
         cpu: model={processor}, count={cores}, ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0\n\
         memory: guest={memory_mib}, host={memory_mib}\n\
         romimage: file=\"/usr/share/bochs/BIOS-bochs-latest\"\n\
         vgaromimage: file=\"/usr/share/bochs/VGABIOS-lgpl-latest\"\n\
         clock: sync=none, time0=local\n\
         boot: cdrom\n\
         ata0-master: type=cdrom, path=\"{cd}\", status=inserted\n\
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
            let (directory, cd, log) = (Path::new("/run"), Path::new("/run/b.iso"), Path::new("/run/s.log"));
            resource_file(directory, PROCESSOR, 4, 1024, cd, log, port)
        };
        assert!(text(None).contains("com2: enabled=1, mode=null\n"));
        let text = text(Some(7001));
        assert!(text.contains("count=4,"));
        assert!(text.contains("com1: enabled=1, mode=file, dev=\"/run/s.log\"\n"));
        assert!(text.contains("com2: enabled=1, mode=socket-server, dev=localhost:7001\n"));
    }
}
