//! QEMU: with the host's VMX (KVM), or with none at all (TCG).

use std::{fs, path::Path, process::Command};

use super::{Boot, Kind, Spec, TransferDisk, emulator::Emulator};
use crate::error::{At, Result};

/// Where the hypervisor ends the run; `isa-debug-exit` listens there.
pub(super) const EXIT_DEVICE: &str = "isa-debug-exit,iobase=0xf4,iosize=0x4";

/// The socket of QEMU's monitor in the run's directory, where cores may come.
const MONITOR: &str = "monitor.sock";

/// What `-smp` says: how many processors there are, and which may come.
pub(super) fn processors(spec: &Spec) -> String {
    let mut text = spec.cores.to_string();
    let most = spec.to_come().map_or(spec.cores, |to_come| to_come.end);
    if most > spec.cores {
        text.push_str(&format!(",maxcpus={most}"));
    }
    if most > spec.cores || spec.packages.is_some() {
        let packages = spec.packages.unwrap_or(1).max(1);
        text.push_str(&format!(",sockets={packages},cores={},threads=1", most / packages));
    }
    text
}

/// What puts a processor in, at QEMU's monitor, where QEMU runs on the host's own kind.
pub(super) fn device_add(spec: &Spec, core: u32) -> String {
    let most = spec.to_come().map_or(spec.cores, |to_come| to_come.end);
    let each = (most / spec.packages.unwrap_or(1).max(1)).max(1);
    let (socket, core) = (core / each, core % each);
    format!("device_add host-x86_64-cpu,socket-id={socket},core-id={core},thread-id=0")
}

pub(super) fn start(spec: &Spec, log: &Path, port: u16, disk: Option<&TransferDisk>) -> Result<Emulator> {
    let mut command = Command::new("qemu-system-x86_64");
    match spec.kind {
        Kind::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
        _ => command.args(["-accel", "tcg", "-cpu", "max"]),
    };
    let cores = processors(spec);
    if spec.to_come().is_some() {
        // For `device_add`.
        let monitor = format!("unix:{},server=on,wait=off", option(&spec.directory.join(MONITOR)));
        command.args(["-monitor", &monitor]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_that_are_there_and_that_may_come() {
        let spec = |cores, packages, max_cores| Spec {
            kind: Kind::Kvm,
            cores,
            packages,
            max_cores,
            memory_mib: 512,
            boot: Boot::Iso("boot.iso".into()),
            processor: None,
            unattended: false,
            directory: "run".into(),
        };
        assert_eq!(processors(&spec(4, None, None)), "4");
        assert_eq!(processors(&spec(4, None, Some(4))), "4");
        assert_eq!(processors(&spec(4, Some(2), None)), "4,sockets=2,cores=2,threads=1");
        assert_eq!(processors(&spec(2, None, Some(3))), "2,maxcpus=3,sockets=1,cores=3,threads=1");
        let two = spec(3, Some(2), Some(4));
        assert_eq!(processors(&two), "3,maxcpus=4,sockets=2,cores=2,threads=1");
        assert_eq!(device_add(&two, 3), "device_add host-x86_64-cpu,socket-id=1,core-id=1,thread-id=0");
    }
}
