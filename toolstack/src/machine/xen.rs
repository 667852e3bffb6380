//! Real Xen in Bochs: Debian's hypervisor as it is, with one of our guest kernels as its PVH domain 0, for comparison.
//!
//! Xen wants the multiboot protocol's first version and a text console; Bochs has no IOMMU, so domain 0 is told not to
//! look for one. With two CPUs Xen stops in its set-up of Bochs's x2APICs and never leaves a deep idle state, so it is told
//! to use neither; each virtual CPU stays on its processor. Mitigations are off, as everywhere instructions are counted.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{SerialLog, bochs};
use crate::{
    error::{At, Error, Result},
    iso,
    linux::package::{compress, fetch, find, missing, raw_output},
    places,
};

/// Debian's package with the hypervisor.
const PACKAGE: &str = "xen-hypervisor-4.17-amd64";
/// What Xen is told, domain 0's memory apart.
const OPTIONS: &str = "placeholder com1=115200,8n1 console=com1 loglvl=warning noreboot dom0=pvh dom0_mem=256M \
    dom0_vcpus_pin dom0-iommu=none x2apic=no cpuidle=0 mwait-idle=0 spec-ctrl=no xpti=no";
/// How Xen ends a run whose domain 0 has shut down, or has failed.
const ENDS: &[&str] = &["Hardware Dom0", "halted: halting", "Panic on CPU"];
/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Boots `kernel` with `command_line` as Xen's domain 0 on so many cores, and waits for the end: what the serial port said.
pub fn run(kernel: &[u8], command_line: &str, cores: u32, directory: &Path) -> Result<String> {
    let tree = directory.join("iso");
    let grub = tree.join("boot/grub");
    places::make(&grub)?;
    let xen = raw_output(Command::new("zcat").arg(hypervisor()?))?;
    fs::write(tree.join("boot/xen"), xen).at("writing", tree.join("boot/xen"))?;
    compress(kernel, "-9", &tree.join("boot/kernel.gz"))?;
    fs::write(grub.join("grub.cfg"), menu(command_line, cores)).at("writing", grub.join("grub.cfg"))?;
    let cd = directory.join("boot.iso");
    iso::mkrescue(&tree, "normal iso9660 multiboot serial biosdisk part_msdos all_video", &cd)?;
    let log = SerialLog::new(directory.join("serial.log"));
    fs::write(log.path(), "").at("writing", log.path())?;
    let hardware = bochs::Hardware {
        processor: bochs::PROCESSOR,
        cores,
        packages: None,
        memory_mib: 1024,
        cd: &cd,
        log: log.path(),
        port: None,
        disk: None,
    };
    let mut emulator = bochs::run(directory, &hardware)?;
    let start = Instant::now();
    loop {
        let text = log.text();
        if ENDS.iter().any(|end| text.contains(end)) {
            return Ok(text);
        }
        if !emulator.is_running() || start.elapsed() > PATIENCE {
            return Err(Error::new(
                format!("Xen's domain 0 did not come to an end within {} s", start.elapsed().as_secs()),
                format!("read {}", log.path().display()),
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn menu(command_line: &str, cores: u32) -> String {
    format!(
        "set timeout=0\n\
         set gfxpayload=text\n\
         serial --unit=0 --speed=115200\n\
         terminal_output serial\n\
         menuentry Xen {{\n\
         \x20 multiboot /boot/xen {OPTIONS} dom0_max_vcpus={cores}\n\
         \x20 module --nounzip /boot/kernel.gz placeholder {command_line}\n\
         \x20 boot\n\
         }}\n"
    )
}

/// Xen's image, compressed, out of its package.
fn hypervisor() -> Result<PathBuf> {
    let image = |unpacked: &Path| find(unpacked, |name| name.starts_with("xen-") && name.ends_with(".gz"));
    let unpacked = fetch("xen", "package", || Ok(PACKAGE.to_owned()), |unpacked| image(unpacked).is_some())?;
    image(&unpacked).ok_or_else(|| missing("Xen's image"))
}

#[cfg(test)]
mod tests {
    use super::menu;

    #[test]
    fn domain_0_gets_its_command_line() {
        let menu = menu("role=para", 2);
        assert!(menu.contains("module --nounzip /boot/kernel.gz placeholder role=para\n"));
        assert!(menu.contains("dom0=pvh") && menu.contains("dom0_max_vcpus=2\n"));
    }
}
