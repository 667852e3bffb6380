//! QEMU: with the host's VMX (KVM), or with none at all (TCG).

use std::{fs, path::Path, process::Command};

use super::{Boot, Kind, Spec, TransferDisk, emulator::Emulator};
use crate::error::{At, Result};

/// Where the hypervisor ends the run; `isa-debug-exit` listens there.
pub(super) const EXIT_DEVICE: &str = "isa-debug-exit,iobase=0xf4,iosize=0x4";

pub(super) fn start(spec: &Spec, log: &Path, port: u16, disk: Option<&TransferDisk>) -> Result<Emulator> {
    let mut command = Command::new("qemu-system-x86_64");
    match spec.kind {
        Kind::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
        _ => command.args(["-accel", "tcg", "-cpu", "max"]),
    };
    let mut cores = spec.cores.to_string();
    if let Some(packages) = spec.packages {
        cores.push_str(&format!(",sockets={packages},cores={},threads=1", spec.cores / packages.max(1)));
    }
    command
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-device", EXIT_DEVICE])
        .args(["-smp", &cores, "-m", &spec.memory_mib.to_string()])
        .args(["-chardev", &format!("file,id=log,path={}", option(log)), "-serial", "chardev:log"])
        .args(["-chardev", &format!("socket,id=control,host=127.0.0.1,port={port},server=on,wait=off")])
        .args(["-serial", "chardev:control"]);
    if let Some(disk) = disk {
        // The host writes while the machine runs: QEMU reads the file anew each time.
        command
            .arg("-drive")
            .arg(format!("file={},format=raw,if=ide,index=2,readonly=off", option(disk.path())));
    }
    match &spec.boot {
        Boot::Parts { hypervisor, archive, command_line } => {
            let (kernel, initrd) = (spec.directory.join("atoll"), spec.directory.join("archive"));
            fs::write(&kernel, hypervisor).at("writing", &kernel)?;
            fs::write(&initrd, archive).at("writing", &initrd)?;
            command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).args(["-append", command_line]);
        }
        Boot::Iso(cd) => {
            command.arg("-drive").arg(format!("file={},media=cdrom,format=raw,readonly=on", option(cd)));
        }
    }
    Emulator::start(&mut command, spec.directory.join("emulator.log"), Vec::new())
}

/// A path inside a QEMU option, where a comma ends a value unless it is doubled.
fn option(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
