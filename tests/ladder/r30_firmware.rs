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

fn directory() -> PathBuf {
    places::state_directory().join("firmware")
}

pub fn machine() -> Config {
    let pc = GuestConfig {
        memory_mib: MEMORY_MIB,
        virt: Virt::Full,
        firmware: true,
        disk: Some(DISK.to_owned()),
        mesh: false,
        on_poweroff: Policy::Preserve,
        on_reboot: Policy::Restart,
        ..guest(NAME, FIRMWARE, 1)
    };
    let firmware = PathBuf::from("/usr/share/seabios").join(FIRMWARE);
    let files = [(FIRMWARE.to_owned(), firmware), (DISK.to_owned(), directory().join(DISK))];
    Config { files: files.into(), ..Config::of_guests(2, [pc]) }
}

/// Makes the disk: an image as it is written to a stick, with GRUB in its first sectors and a file system behind.
fn make_disk() -> Result<()> {
    let tree = directory().join("tree");
    let grub = tree.join("boot/grub");
    places::make(&grub)?;
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
