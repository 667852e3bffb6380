//! What this host has: the processor's VMX, KVM, and the programs and firmware that machines need.

use std::{fs, path::Path, process::Command};

use serde::Serialize;

use crate::{machine::Kind, places};

/// One thing that was looked for.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// Whether it is there and usable.
    pub ok: bool,
    /// Where it is, or what is wrong.
    pub detail: String,
    /// What to do if it is not; empty if it is.
    pub remedy: String,
    /// The Debian package that has it, for what a package can mend.
    pub package: Option<&'static str>,
    /// Machines, or verbs, that cannot do without.
    pub needed_by: &'static [&'static str],
}

/// A program or file that a package brings.
struct Thing {
    name: &'static str,
    place: Place,
    package: &'static str,
    needed_by: &'static [&'static str],
}

enum Place {
    Program(&'static str),
    File(&'static str),
}

const BOCHS: &[&str] = &["bochs", "nested"];
const QEMU: &[&str] = &["kvm", "tcg", "nested"];
const ISO: &[&str] = &["bochs", "nested", "image"];
const LINUX: &[&str] = &["nested", "linux"];

const THINGS: &[Thing] = &[
    Thing { name: "Bochs", place: Place::Program("bochs-bin"), package: "bochs", needed_by: BOCHS },
    Thing {
        name: "Bochs's BIOS",
        place: Place::File("/usr/share/bochs/BIOS-bochs-latest"),
        package: "bochsbios",
        needed_by: BOCHS,
    },
    Thing {
        name: "VGA BIOS",
        place: Place::File("/usr/share/bochs/VGABIOS-lgpl-latest"),
        package: "vgabios",
        needed_by: BOCHS,
    },
    Thing {
        name: "QEMU",
        place: Place::Program("qemu-system-x86_64"),
        package: "qemu-system-x86",
        needed_by: QEMU,
    },
    Thing {
        name: "QEMU's BIOS",
        place: Place::File("/usr/share/seabios/bios-256k.bin"),
        package: "seabios",
        needed_by: QEMU,
    },
    Thing {
        name: "grub-mkrescue",
        place: Place::Program("grub-mkrescue"),
        package: "grub-common",
        needed_by: ISO,
    },
    Thing {
        name: "GRUB for BIOS machines",
        place: Place::File("/usr/lib/grub/i386-pc/multiboot2.mod"),
        package: "grub-pc-bin",
        needed_by: ISO,
    },
    Thing { name: "xorriso", place: Place::Program("xorriso"), package: "xorriso", needed_by: ISO },
    Thing { name: "mtools", place: Place::Program("mformat"), package: "mtools", needed_by: ISO },
    Thing { name: "busybox", place: Place::Program("busybox"), package: "busybox-static", needed_by: LINUX },
    Thing { name: "a C++ compiler", place: Place::Program("c++"), package: "g++", needed_by: &["fuzz"] },
];

/// Everything that was looked for, found or not.
pub fn findings() -> Vec<Finding> {
    let mut findings: Vec<Finding> = THINGS.iter().map(look).collect();
    findings.push(toolchain());
    findings.push(vmx());
    findings.push(kvm());
    findings.push(nested_kvm());
    findings
}

/// What of `findings` a machine lacks.
pub fn lacking(kind: Kind, findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| !finding.ok && finding.needed_by.contains(&kind.name())).collect()
}

/// The machine to take where nobody chose: KVM where it works, else Bochs.
pub fn best_machine() -> Kind {
    if [vmx(), kvm(), nested_kvm()].iter().all(|finding| finding.ok) { Kind::Kvm } else { Kind::Bochs }
}

/// Packages that bring what the named machines or verbs lack.
pub fn packages_for(users: &[&str]) -> Vec<&'static str> {
    let needed = |finding: &Finding| finding.needed_by.iter().any(|user| users.contains(user));
    let lacks: Vec<Finding> =
        THINGS.iter().map(look).filter(|finding| !finding.ok && needed(finding)).collect();
    let mut packages: Vec<&'static str> = lacks.iter().filter_map(|finding| finding.package).collect();
    if packages.contains(&"bochs") {
        // Bochs wants one of its displays, and apt would choose the one that brings a desktop with it.
        packages.push("bochs-term");
    }
    packages.dedup();
    packages
}

fn look(thing: &Thing) -> Finding {
    let found = match thing.place {
        Place::Program(name) => places::program(name),
        Place::File(path) => Path::new(path).exists().then(|| path.into()),
    };
    let ok = found.is_some();
    Finding {
        name: thing.name,
        ok,
        detail: found.map_or_else(|| "not found".to_owned(), |path| path.display().to_string()),
        remedy: if ok {
            String::new()
        } else {
            format!("apt-get install --no-install-recommends {}", thing.package)
        },
        package: Some(thing.package),
        needed_by: thing.needed_by,
    }
}

fn finding(
    name: &'static str,
    problem: Option<(&str, &str)>,
    detail: &str,
    needed_by: &'static [&'static str],
) -> Finding {
    let (detail, remedy) = problem.unwrap_or((detail, ""));
    Finding {
        name,
        ok: problem.is_none(),
        detail: detail.into(),
        remedy: remedy.into(),
        package: None,
        needed_by,
    }
}

/// The toolchain, with the linker that bare images are linked with.
fn toolchain() -> Finding {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().ok();
    let sysroot = sysroot.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let lld =
        |root: &String| Path::new(root).join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld").is_file();
    let problem = match &sysroot {
        None => Some(("rustc not found", "install stable Rust: https://rustup.rs")),
        Some(root) if !lld(root) => Some((
            "this toolchain has no rust-lld for x86_64",
            "use rustup's stable toolchain: `rustup toolchain install stable`",
        )),
        Some(_) => None,
    };
    finding("Rust", problem, sysroot.as_deref().unwrap_or_default(), &["building"])
}

fn vmx() -> Finding {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let problem = (!flags.split_whitespace().any(|flag| flag == "vmx")).then_some((
        "the processor shows no VMX here",
        "turn on VT-x in the firmware, or nested virtualization for this virtual machine; --machine bochs needs neither",
    ));
    finding("VMX", problem, "the processor has it", &["kvm"])
}

fn kvm() -> Finding {
    let opened = fs::File::options().read(true).write(true).open("/dev/kvm");
    let remedy =
        "load kvm_intel (`modprobe kvm_intel nested=1`) and join the group kvm (`usermod -aG kvm $USER`)";
    let told = opened.as_ref().err().map(|error| format!("/dev/kvm: {error}"));
    finding("KVM", told.as_deref().map(|told| (told, remedy)), "/dev/kvm opens", &["kvm"])
}

fn nested_kvm() -> Finding {
    let parameter = fs::read_to_string("/sys/module/kvm_intel/parameters/nested");
    let problem = match parameter.as_deref().map(str::trim) {
        Ok("Y" | "1") => None,
        Ok(_) => Some((
            "kvm_intel does not hand VMX on to its guests",
            "`modprobe -r kvm_intel; modprobe kvm_intel nested=1`",
        )),
        Err(_) => {
            Some(("kvm_intel is not loaded", "`modprobe kvm_intel nested=1`, where the processor has VMX"))
        }
    };
    finding("KVM's nesting", problem, "kvm_intel nested=1", &["kvm"])
}

/// The processor's name, for measurements.
pub fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}
