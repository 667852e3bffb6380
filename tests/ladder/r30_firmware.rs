//! A PC from its reset vector: Debian's SeaBIOS, unmodified, in real mode first, finds its board's memory and disk, and starts
//! GRUB from the latter, which reads files by way of the BIOS, and resets the PC and switches it off by way of it.

use std::{fs, path::PathBuf, time::Duration};

use abi::control::{
    hypercall::ExitKind,
    wire::{GuestConfig, Policy, State, Virt},
};
use abi::xen::sched::reason;
use ladder::{Check, Result, Stage, ensure, linux::becomes, mesh, stage, watch::until_within, wrong};
use toolstack::{
    config::{Config, guest},
    control::{Client, Console},
    error::At,
    iso, places,
};

const NAME: &str = "pc";
const FIRMWARE: &str = "bios-256k.bin";
const DISK: &str = "grub.img";
const ODD_DISK: &str = "odd.img";
const MEMORY_MIB: u32 = 64;
/// From the first instruction to GRUB's prompt, and for any command there.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// What GRUB runs first, and then asks for more.
const SCRIPT: &str = "serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
echo The script runs.
";
/// A file on the disk, larger than a sector, and what its last line is.
const FILE_LINES: usize = 500;
const MODULES: &str =
    "normal iso9660 biosdisk part_msdos serial terminal echo ls cat lsmmap acpi lsacpi halt reboot";

/// A boot sector that enters 32-bit protected mode, and loads a floating-point register from the local APIC: what nobody
/// does, and nothing carries out.
const ODD_SECTOR: [u8; 84] = {
    let mut sector = [0; 84];
    let code = [
        // cli; xor ax, ax; mov ds, ax; lgdt [0x7c34]
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x0f, 0x01, 0x16, 0x34, 0x7c,
        // mov eax, cr0; or al, 1; mov cr0, eax; jmp 0x08:0x7c17
        0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0xea, 0x17, 0x7c, 0x08, 0x00,
        // mov ax, 0x10; mov ds, ax; fld qword ptr [0xfee00020]; jmp $
        0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0xdd, 0x05, 0x20, 0x00, 0xe0, 0xfe, 0xeb, 0xfe,
    ];
    let mut at = 0;
    while at < code.len() {
        sector[at] = code[at];
        at += 1;
    }
    // GDTR: 0x7c3c; code and data, flat.
    let tables = [
        0x17, 0x00, 0x3c, 0x7c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0, 0xff,
        0xff, 0, 0, 0, 0x92, 0xcf, 0,
    ];
    at = 0;
    while at < tables.len() {
        sector[0x34 + at] = tables[at];
        at += 1;
    }
    sector
};

fn directory() -> PathBuf {
    places::state_directory().join("firmware")
}

/// A PC with this disk.
fn pc(disk: &str) -> GuestConfig {
    GuestConfig {
        memory_mib: MEMORY_MIB,
        virt: Virt::Full,
        firmware: true,
        disk: Some(disk.to_owned()),
        mesh: false,
        on_poweroff: Policy::Preserve,
        on_reboot: Policy::Restart,
        ..guest(NAME, FIRMWARE, 1)
    }
}

pub fn machine() -> Config {
    let firmware = PathBuf::from("/usr/share/seabios").join(FIRMWARE);
    let disks = [DISK, ODD_DISK].map(|disk| (disk.to_owned(), directory().join(disk)));
    let files = disks.into_iter().chain([(FIRMWARE.to_owned(), firmware)]).collect();
    Config { files, ..Config::of_guests(2, [pc(DISK)]) }
}

/// Makes the disks. The first is an image as it is written to a stick, with GRUB in its first sectors and a file system behind.
fn make_disk() -> Result<()> {
    let tree = directory().join("tree");
    let grub = tree.join("boot/grub");
    places::make(&grub)?;
    let mut odd = vec![0; 1 << 20];
    odd[..ODD_SECTOR.len()].copy_from_slice(&ODD_SECTOR);
    odd[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = directory().join(ODD_DISK);
    fs::write(&path, odd).at("writing", &path)?;
    let text: String = (0..FILE_LINES).map(|line| format!("line {line} of the file\n")).collect();
    for (path, content) in [(grub.join("grub.cfg"), SCRIPT), (tree.join("file"), &text)] {
        fs::write(&path, content).at("writing", &path)?;
    }
    iso::mkrescue(&tree, MODULES, &directory().join(DISK))
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r30_firmware::seabios_starts_grub_from_the_disk", starts),
        Check::new("r30_firmware::grub_reads_by_way_of_the_bios", reads),
        Check::new("r30_firmware::it_knows_the_board", board),
        Check::new("r30_firmware::a_reset_starts_the_firmware_again", reset),
        Check::new("r30_firmware::it_switches_itself_off", power_off),
        Check::new("r30_firmware::what_cannot_be_emulated_is_shown", shown),
    ]
}

fn client(stage: &mut Stage) -> Result<&Client> {
    static DISK: std::sync::OnceLock<Result<()>> = std::sync::OnceLock::new();
    DISK.get_or_init(|| stage::images().and_then(|_| make_disk())).clone()?;
    Ok(&stage.session()?.client)
}

/// A hand on GRUB's prompt.
struct Prompt<'client> {
    client: &'client Client,
    console: Console<'client>,
    printed: String,
}

impl<'client> Prompt<'client> {
    /// Waits until there is one.
    fn of(client: &'client Client) -> Result<Self> {
        let mut prompt = Self { client, console: Console::new(client, NAME), printed: String::new() };
        prompt.until("GRUB's prompt", 0, "grub>")?;
        Ok(prompt)
    }

    /// Types a command and waits until `expected` is printed behind it: all that was.
    fn run(&mut self, command: &str, expected: &str) -> Result<String> {
        let from = self.printed.len();
        self.client.input(NAME, format!("{command}\r").as_bytes())?;
        self.until(&format!("`{expected}` from `{command}`"), from, expected)
    }

    fn until(&mut self, what: &str, from: usize, expected: &str) -> Result<String> {
        until_within(PATIENCE, what, || {
            self.printed.push_str(&String::from_utf8_lossy(&self.console.read(false)?));
            let new = self.printed.get(from..).unwrap_or_default();
            if new.contains(expected) {
                return Ok(Some(new.to_owned()));
            }
            match self.client.domain(NAME)?.state {
                State::Running => Ok(None),
                State::Crashed => {
                    let (cause, registers) = self.client.crash(NAME)?;
                    Err(wrong(format!("it crashed: {cause}; {registers:x?}")))
                }
                state => Err(wrong(format!("it is {state:?}"))),
            }
        })
        .map_err(|error| wrong(format!("{}; it said: {}", error.what(), self.printed)))
    }
}

fn starts(stage: &mut Stage) -> Result<()> {
    let client = client(stage)?;
    let prompt = Prompt::of(client)?;
    let mut rest = prompt.printed.as_str();
    for line in [
        "SeaBIOS (version ",
        "Booting from Hard Disk...",
        "GRUB loading.",
        "Welcome to GRUB!",
        "The script runs.",
    ] {
        let Some((_, behind)) = rest.split_once(line) else {
            return Err(wrong(format!("`{line}` is missing, or not in its place: {}", prompt.printed)));
        };
        rest = behind;
    }
    let domain = client.domain(NAME)?;
    ensure!(domain.exits[ExitKind::Hypercall as usize] == 0, "it made hypercalls");
    Ok(())
}

fn reads(stage: &mut Stage) -> Result<()> {
    let mut prompt = Prompt::of(client(stage)?)?;
    let disks = prompt.run("ls", "(hd0,msdos1)")?;
    ensure!(disks.contains("(hd0) "), "its disks are {disks}");
    prompt.run("ls (hd0)/boot/grub", "grub.cfg")?;
    let last = format!("line {} of the file", FILE_LINES - 1);
    let text = prompt.run("cat (hd0)/file", &last)?;
    let all = (0..FILE_LINES).all(|line| text.contains(&format!("line {line} of the file")));
    ensure!(all, "lines of the file are missing:\n{text}");
    Ok(())
}

fn board(stage: &mut Stage) -> Result<()> {
    let mut prompt = Prompt::of(client(stage)?)?;
    let map = prompt.run("lsmmap", "base_addr = 0xfffc0000")?;
    // All but what the firmware keeps for its tables at the end.
    let high = map.split_once("base_addr = 0x100000, length = 0x").and_then(|(_, rest)| rest.split_once(','));
    let bytes = high.and_then(|(length, _)| u64::from_str_radix(length, 16).ok());
    let most = u64::from(MEMORY_MIB - 1) << 20;
    ensure!(bytes.is_some_and(|bytes| (most - (1 << 20)..=most).contains(&bytes)), "its memory is\n{map}");
    let tables = prompt.run("lsacpi -1", "APIC")?;
    ensure!(tables.contains("FACP"), "its tables are\n{tables}");
    Ok(())
}

fn reset(stage: &mut Stage) -> Result<()> {
    let client = client(stage)?;
    Prompt::of(client)?;
    let before = client.domain(NAME)?.id;
    client.input(NAME, b"reboot\r")?;
    until_within(PATIENCE, "another life of the guest", || {
        let domain = client.domain(NAME)?;
        Ok((domain.id != before && domain.state == State::Running).then_some(()))
    })?;
    starts(stage)
}

fn power_off(stage: &mut Stage) -> Result<()> {
    let client = client(stage)?;
    Prompt::of(client)?;
    client.input(NAME, b"halt\r")?;
    becomes(client, NAME, State::Shutdown(reason::POWEROFF))?;
    client.destroy(NAME)?;
    mesh::audit(client).map(drop)
}

fn shown(stage: &mut Stage) -> Result<()> {
    let client = client(stage)?;
    client.create(pc(ODD_DISK))?;
    becomes(client, NAME, State::Crashed)?;
    let (cause, registers) = client.crash(NAME)?;
    ensure!(
        cause.ends_with("at RIP 0x7c1d: fld st, qword ptr [0xfee00020]"),
        "it crashed for another reason: {cause}"
    );
    ensure!(
        registers.iter().any(|(name, value)| name == "cr0" && value & 1 == 1),
        "its registers are {registers:x?}"
    );
    client.destroy(NAME)?;
    mesh::audit(client).map(drop)
}
