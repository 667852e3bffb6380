//! Descriptions as they may be written, and mistakes in them.

use super::*;
use abi::control::wire::{Paging, Placement, Virt};

fn parse(text: &str) -> Result<Config> {
    let images = ["bench", "hello", "mesh"].map(str::to_owned).to_vec();
    Config::parse(text, Path::new("web.toml"), &Surroundings { images, ..Surroundings::default() })
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = parse(text).unwrap_err();
    let first = error.what().lines().next().unwrap_or_default();
    assert_eq!(first, expected);
    assert!(!error.remedy().is_empty());
}

#[test]
fn a_whole_description() {
    let config = parse(
        "[machine]\ncores = 2\nmemory_mib = 512\nstop_when_done = true\n\
         [[guest]]\nname = \"web\"\nimage = \"hello\"\ncore = 1\nmemory_mib = 64\ncommand_line = \"a=b\"\n",
    )
    .unwrap();
    assert_eq!((config.cores, config.memory_mib, config.machine.stop_when_done), (2, 512, true));
    let expected = GuestConfig { memory_mib: 64, command_line: "a=b".into(), ..guest("web", "hello", 1) };
    assert_eq!(config.machine.guests, [expected]);
}

#[test]
fn what_is_left_out_has_a_usual_value() {
    let config = parse("[[guest]]\nname = \"a\"\nimage = \"mesh\"\n").unwrap();
    assert_eq!((config.cores, config.memory_mib), (DEFAULT_CORES, DEFAULT_MEMORY_MIB));
    assert_eq!(
        (&config.machine.guests[0].cores[..], config.machine.guests[0].memory_mib),
        (&[][..], DEFAULT_GUEST_MIB)
    );
}

#[test]
fn every_mistake_has_its_line() {
    let guest = "[[guest]]\nname = \"a\"\nimage = \"mesh\"\ncore = 1\n";
    refused(
        "[machine]\ncoers = 4\n",
        "web.toml:2: unknown field `coers`, expected one of `cores`, `packages`, `max_cores`, `memory_mib`, `stop_when_done`",
    );
    refused("[machine]\ncores = \"four\"\n", "web.toml:2: invalid type: string \"four\", expected i64");
    refused("[machine]\n\ncores = 99\n", "web.toml:3: cores = 99 is out of range");
    refused(
        "[machine]\ncores = 4\npackages = 3\n",
        "web.toml:3: 4 cores are not in 3 packages of 1, 2, 4 or 8 each",
    );
    refused(
        "[machine]\ncores = 6\npackages = 2\n",
        "web.toml:3: 6 cores are not in 2 packages of 1, 2, 4 or 8 each",
    );
    refused("[machine]\ncores = 4\nmax_cores = 3\n", "web.toml:3: max_cores = 3 is out of range");
    refused("[machine\n", "web.toml:1: unclosed table, expected `]`");
    refused("[[guest]]\nimage = \"mesh\"\n", "web.toml:1: missing field `name`");
    refused(
        &format!("{guest}devices = [\"echo,backend=b\"]\n[[guest]]\nname = \"b\"\nimage = \"mesh\"\n"),
        "web.toml:5: no guest `b` is described before `a`",
    );
    refused(&guest.replace("core = 1", "core = 0"), "web.toml:4: core 0 is domain 0's");
    refused(
        &guest.replace("core = 1", "core = 4"),
        "web.toml:4: there is no core 4 on a machine with 4 cores",
    );
    refused(
        &guest.replace("core = 1", "core = -1"),
        "web.toml:4: there is no core -1 on a machine with 4 cores",
    );
    refused(&guest.replace("mesh", "mush"), "web.toml:3: there is no image `mush`");
    refused(&guest.replace("\"a\"", "\"a b\""), "web.toml:2: `a b` is no name for a guest");
    refused(&guest.replace("\"a\"", "\"Domain-0\""), "web.toml:2: `Domain-0` is the control domain's name");
    refused(&format!("{guest}memory_mib = 1\n"), "web.toml:5: memory_mib = 1 is out of range");
    refused(
        &format!("{guest}memory_mib = 2000\n"),
        "web.toml:5: guest `a` asks for 2000 MiB, and 896 MiB of the machine's 1024 are left",
    );
    refused(
        &format!("{guest}command_line = \"a\\nb\"\n"),
        "web.toml:5: this command line cannot be handed over",
    );
    let twice = format!("{guest}{}", guest.replace("core = 1", "core = 2"));
    refused(&twice, "web.toml:6: a second guest has the name `a`");
    let same_core = format!("{guest}{}", guest.replace("\"a\"", "\"b\""));
    refused(&same_core, "web.toml:8: guests `a` and `b` are both on core 1");
    refused(
        &format!("[machine]\ncores = 1\n{}", guest.replace("core = 1\n", "")),
        "web.toml:4: 1 virtual CPUs do not fit on 1 cores, of which domain 0 has one",
    );
}

/// A directory with a kernel and a ramdisk, and a description in it.
fn parse_with_files(text: &str) -> Result<Config> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("vmlinux"), b"\x7fELF\x02...").unwrap();
    fs::write(directory.path().join("initrd.gz"), b"...").unwrap();
    fs::write(directory.path().join("bios.bin"), vec![0; 128 << 10]).unwrap();
    fs::write(directory.path().join("mesh"), b"\x7fELF\x02...").unwrap();
    fs::create_dir(directory.path().join("other")).unwrap();
    fs::write(directory.path().join("other/vmlinux"), b"\x7fELF\x02...").unwrap();
    let surroundings = Surroundings { images: vec!["mesh".into()], ..Surroundings::default() };
    Config::parse(text, &directory.path().join("web.toml"), &surroundings)
}

const FIRMWARE: &str = "[[guest]]\nname = \"a\"\nfirmware = \"bios.bin\"\n";
const LINUX: &str = "[[guest]]\nname = \"a\"\nkernel = \"vmlinux\"\nramdisk = \"initrd.gz\"\n";

#[test]
fn a_kernel_of_ones_own() {
    let text = format!("{LINUX}cores = [3, 1]\ncmdline = \"console=hvc0\"\non_crash = \"restart\"\n");
    let config = parse_with_files(&text).unwrap();
    let expected = GuestConfig {
        name: "a".into(),
        image: "vmlinux".into(),
        ramdisk: Some("initrd.gz".into()),
        firmware: false,
        disk: None,
        cores: vec![3, 1],
        vcpus: 2,
        placement: Placement::Lowest,
        memory_mib: DEFAULT_KERNEL_MIB,
        command_line: "console=hvc0".into(),
        mesh: false,
        virt: Virt::Para,
        paging: Paging::Ept,
        emulated_apic: false,
        devices: vec![],
        on_poweroff: Policy::Preserve,
        on_reboot: Policy::Restart,
        on_crash: Policy::Restart,
        on_watchdog: Policy::Preserve,
        watchdog: 0,
    };
    assert_eq!(config.machine.guests, [expected]);
    let names: Vec<&String> = config.files.keys().collect();
    assert_eq!(names, ["initrd.gz", "vmlinux"]);
    assert!(config.files["vmlinux"].is_absolute(), "a file is looked for where the description is");

    let near = parse_with_files(&format!("{LINUX}near = \"b\"\n")).unwrap();
    assert_eq!(near.machine.guests[0].placement, Placement::Near("b".into()));
    let far = parse_with_files(&format!("{LINUX}far = \"b\"\n")).unwrap();
    assert_eq!(far.machine.guests[0].placement, Placement::Far("b".into()));
    let any = parse_with_files(&format!("{LINUX}vcpus = 3\nmesh = true\n")).unwrap();
    let any = &any.machine.guests[0];
    assert_eq!((any.vcpus, any.cores.len(), any.mesh), (3, 0, true));
    let full = parse_with_files(&format!("{LINUX}virt = \"full\"\n")).unwrap();
    assert_eq!((full.machine.guests[0].virt, full.machine.guests[0].paging), (Virt::Full, Paging::Ept));
    let shadowed = parse_with_files(&format!("{LINUX}virt = \"full\"\npaging = \"shadow\"\n")).unwrap();
    assert_eq!(shadowed.machine.guests[0].paging, Paging::Shadow);
    let emulated = parse_with_files(&format!("{LINUX}virt = \"full\"\nassisted_apic = false\n")).unwrap();
    assert!(emulated.machine.guests[0].emulated_apic);
    let disk = parse_with_files(&format!("{LINUX}virt = \"full\"\ndisk = \"initrd.gz\"\n")).unwrap();
    assert_eq!(disk.machine.guests[0].disk.as_deref(), Some("initrd.gz"));
    let pc = parse_with_files(&format!("{FIRMWARE}disk = \"initrd.gz\"\n")).unwrap();
    let pc = &pc.machine.guests[0];
    assert_eq!((pc.image.as_str(), pc.firmware, pc.virt), ("bios.bin", true, Virt::Full));
    assert_eq!((pc.memory_mib, pc.mesh), (DEFAULT_KERNEL_MIB, false));
}

#[test]
fn a_kernel_of_ones_own_may_be_wrong() {
    let refused = |text: &str, expected: &str| {
        let error = parse_with_files(text).unwrap_err().to_string();
        let line = error.lines().next().unwrap_or_default();
        assert!(line.contains("/web.toml:") && line.ends_with(expected), "{error}");
    };
    refused(&LINUX.replace("kernel", "image"), "there is no image `vmlinux`");
    refused(
        "[[guest]]\nname = \"a\"\n",
        "web.toml:2: guest `a` has neither `image`, `kernel` nor `firmware`",
    );
    refused(
        &format!("{LINUX}disk = \"initrd.gz\"\n"),
        "web.toml:5: only a guest with `virt = \"full\"` has a PC's disk",
    );
    refused(&format!("{LINUX}virt = \"half\"\n"), "`half` is no way to virtualize a guest");
    refused(&format!("{LINUX}mesh = true\nvirt = \"full\"\n"), "guest `a` is a member of the mesh");
    refused(&format!("{LINUX}paging = \"thin\"\n"), "`thin` is no way to page");
    refused(
        &format!("{LINUX}paging = \"shadow\"\n"),
        "guest `a` has shadow page tables, and is a para guest",
    );
    refused(
        &format!("{LINUX}vcpus = 2\nvirt = \"full\"\npaging = \"shadow\"\n"),
        "guest `a` has shadow page tables and 2 virtual CPUs",
    );
    refused(&format!("{LINUX}image = \"mesh\"\n"), "this guest has an `image` and a `kernel`");
    refused(&LINUX.replace("vmlinux", "initrd.gz"), "initrd.gz is neither an ELF64 file nor a bzImage");
    refused(&LINUX.replace("\"vmlinux", "\"mesh"), "`mesh` is the name of an image of Atoll's own");
    let twice = format!("{LINUX}{}", LINUX.replace("\"a\"", "\"b\"").replace("vmlinux", "other/vmlinux"));
    refused(&twice, "web.toml:7: two files have the name `vmlinux`, and an image's name is its file's");
    refused(&format!("{LINUX}cores = [1, 1]\n"), "web.toml:5: core 1 is named twice");
    refused(&format!("{LINUX}cores = []\n"), "web.toml:5: `cores` names 0 cores");
    refused(&format!("{LINUX}core = 1\ncores = [1]\n"), "this guest has `core` and `cores`");
    refused(
        &format!("{LINUX}cores = [1, 2]\nvcpus = 3\n"),
        "web.toml:6: vcpus = 3, and the guest is pinned to 2: a virtual CPU has one core",
    );
    refused(
        &format!("{LINUX}vcpus = 4\n"),
        "4 virtual CPUs do not fit on 4 cores, of which domain 0 has one",
    );
    refused(&format!("{LINUX}on_reboot = \"explode\"\n"), "`explode` is nothing that becomes of a guest");
    refused(&format!("{FIRMWARE}virt = \"para\"\n"), "which a para guest does not have");
    refused(&format!("{FIRMWARE}paging = \"shadow\"\n"), "which there is not with shadow page tables");
    refused(&format!("{FIRMWARE}mesh = true\n"), "guest `a` is a member of the mesh");
    refused(&format!("{FIRMWARE}kernel = \"vmlinux\"\n"), "`firmware` and something else to start");
    refused(&format!("{FIRMWARE}ramdisk = \"initrd.gz\"\n"), "goes with `kernel`, not with `firmware`");
    refused(&FIRMWARE.replace("bios.bin", "initrd.gz"), "has 3 bytes, which is no firmware's size");
    let mesh = "[[guest]]\nname = \"a\"\nimage = \"mesh\"\n";
    refused(&format!("{mesh}core = 1\nnear = \"b\"\n"), "web.toml:5: guest `a` has its cores already");
    refused(&format!("{mesh}near = \"a\"\n"), "web.toml:4: guest `a` is always near itself");
    refused(
        &format!("{mesh}near = \"b\"\nfar = \"c\"\n"),
        "guest `a` is to be near one and far from another",
    );
    refused(&format!("{mesh}vcpus = 2\n"), "guest `a` asks for 2 virtual CPUs");
    refused(
        &format!("{mesh}ramdisk = \"initrd.gz\"\n"),
        "web.toml:4: `ramdisk` goes with `kernel`, not with `image`",
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = parse("[[guest]]\nname = \"\"\nimage = \"nope\"\n").unwrap_err().to_string();
    assert!(error.contains("web.toml:2:") && error.contains("web.toml:3:"), "{error}");
    assert_eq!(error.matches("remedy:").count(), 2);
}

#[test]
fn the_running_machine_sets_the_limits() {
    let text = "[[guest]]\nname = \"a\"\nimage = \"mesh\"\ncore = 3\n";
    let surroundings =
        Surroundings { images: vec!["mesh".into()], running: Some((2, 1024)), ..Surroundings::default() };
    let error = Config::parse(text, Path::new("a.toml"), &surroundings).unwrap_err();
    assert!(error.what().starts_with("a.toml:4: there is no core 3"), "{error}");
}

#[test]
fn when_a_guest_is_restarted() {
    let text = |lines: &str| format!("[[guest]]\nname = \"a\"\nimage = \"mesh\"\n{lines}");
    let policies = |lines: &str| {
        let config = parse_with_files(&text(lines)).unwrap();
        let guest = &config.machine.guests[0];
        (guest.on_reboot, guest.on_crash, guest.on_watchdog, guest.watchdog)
    };
    let (keep, again) = (Policy::Preserve, Policy::Restart);
    assert_eq!(policies(""), (again, keep, keep, 0));
    assert_eq!(policies("restart = \"always\"\nwatchdog = 5\n"), (again, again, again, 5));
    assert_eq!(policies("restart = \"never\"\n"), (keep, keep, keep, 0));
    let some = policies("restart = \"always\"\non_watchdog = \"destroy\"\n");
    assert_eq!(some, (again, again, Policy::Destroy, 0));
    for (lines, word) in [
        ("restart = \"often\"\n", "choose always or never"),
        ("watchdog = 0\n", "watchdog = 0 is out of range"),
        ("watchdog = 5\nmesh = false\n", "would not feed it"),
    ] {
        let error = parse_with_files(&text(lines)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
