//! Atoll nested, on a host that has no virtualization at all: Bochs emulates VMX for Debian's cloud kernel, whose KVM
//! runs Debian's own QEMU, which boots Atoll. This is what a user with nested virtualization runs, made reproducible.
//!
//! The Linux side is a kernel and a file system in memory. Its larger part ([`linux`]) never changes and is kept; the
//! run's own part (hypervisor, archive, and the script that is process 1) is a second cpio archive behind it, which
//! Linux unpacks over the first. Inside, QEMU's first serial port is Linux's console and so ours, and its second is
//! Linux's second, which Bochs connects to us: the control line goes through the whole nest.

mod linux;

use std::{fs, path::Path};

use super::{Boot, Spec, bochs, emulator::Emulator, qemu};
use crate::{
    cpio::{Entry, newc},
    error::{At, Error, Result},
    iso, places,
};

/// Bochs's limit, less what Linux and QEMU themselves need.
pub(super) const MAX_MEMORY_MIB: u32 = 1536;

/// What domain 0 says last when it starts.
const RUNNING: &str = "guests running";

pub(super) fn start(spec: &Spec, log: &Path, port: u16) -> Result<Emulator> {
    let Boot::Parts { hypervisor, archive, command_line } = &spec.boot else {
        return Err(Error::new(
            "the nested machine boots no CD image: reading one through two BIOSes would take many minutes",
            "use --machine bochs for a CD image",
        ));
    };
    let linux = linux::prepare(&places::state_directory().join("nested"))?;

    let mut initrd = fs::read(&linux.initrd).at("reading", &linux.initrd)?;
    // Linux wants each archive to start at a multiple of four.
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    let script = init_script(spec, command_line);
    let ours = newc(&[
        Entry::file("atoll", 0o644, hypervisor),
        Entry::file("archive", 0o644, archive),
        Entry::file("init", 0o755, script.as_bytes()),
    ]);
    initrd.extend(ours.at("packing", "the nested machine's files")?);
    let kernel = fs::read(&linux.kernel).at("reading", &linux.kernel)?;
    let cd = spec.directory.join("boot.iso");
    iso::write_linux(&kernel, &initrd, &linux_command_line(), &spec.directory, &cd)?;
    let hardware = bochs::Hardware {
        processor: bochs::PROCESSOR,
        cores: 1,
        packages: None,
        memory_mib: bochs::MAX_MEMORY_MIB,
        cd: &cd,
        log,
        port: Some(port),
        disk: None,
    };
    bochs::run(&spec.directory, &hardware)
}

/// The processor's own CPUID tells Linux 3.5 GHz, which in Bochs is 70 times too fast: every time slice and every timeout
/// would be 70 times too long. So Linux is told the clock that Bochs counts by.
fn linux_command_line() -> String {
    let clock_khz = bochs::INSTRUCTIONS_PER_SECOND / 1000;
    format!(
        "console=ttyS0 nokaslr mitigations=off no_timer_check tsc=reliable tsc_early_khz={clock_khz} panic=1 quiet"
    )
}

/// Process 1 of the Linux in between.
fn init_script(spec: &Spec, command_line: &str) -> String {
    let (cores, memory_mib, exit_device) = (qemu::processors(spec), spec.memory_mib, qemu::EXIT_DEVICE);
    let (plug, monitor) = plug(spec);
    format!(
        "#!/bin/sh\n\
         mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys\n\
         export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu\n\
         insmod /mod/irqbypass.ko; insmod /mod/kvm.ko; insmod /mod/kvm-intel.ko nested=1\n\
         stty -F /dev/ttyS1 raw -echo 115200\n\
         {plug}\
         echo nested: qemu starts\n\
         qemu-system-x86_64 -accel kvm -cpu host -smp {cores} -m {memory_mib} -nodefaults -display none -no-reboot \\\n\
         \x20 -L /usr/share/qemu -device {exit_device} \\\n\
         \x20 -chardev file,id=log,path=/dev/ttyS0,logfile=/log -serial chardev:log \\\n\
         \x20 -chardev serial,id=control,path=/dev/ttyS1 -serial chardev:control \\\n\
         {monitor}\
         \x20 -kernel /atoll -initrd /archive -append '{command_line}'\n\
         echo nested: qemu ended with status $?\n\
         poweroff -f\n"
    )
}

/// Nobody reaches QEMU's monitor in there. So what puts in the cores that may come is the script, once all guests run; and
/// QEMU's options for it.
fn plug(spec: &Spec) -> (String, &'static str) {
    let Some(to_come) = spec.to_come() else { return Default::default() };
    let orders: String = to_come.map(|core| format!("echo {}; ", qemu::device_add(spec, core))).collect();
    let script = format!(
        "busybox mkfifo /monitor.in /monitor.out\n\
         (until busybox grep -q '{RUNNING}' /log; do busybox sleep 1; done; {orders}) > /monitor.in &\n"
    );
    (script, " -chardev pipe,id=monitor,path=/monitor -mon chardev=monitor,mode=readline \\\n")
}
