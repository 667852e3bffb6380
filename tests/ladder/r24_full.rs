//! Debian's kernel, unmodified, as full guests that believe that they own a PC: one with one processor, one with two. No
//! word of a hypervisor, a shell on the serial port, interrupts by the I/O APIC, and the power switch.

use std::{fs, path::PathBuf};

use abi::{
    control::wire::{GuestConfig, State, Virt},
    xen::sched::reason,
};
use ladder::{
    Check, Result, Stage, ensure,
    linux::{self, Shell},
    mesh, multiboot,
    watch::until_within,
    wrong,
};
use toolstack::{
    config::{self, Config},
    control::{Client, Console},
    places,
    session::Session,
};

/// The guest with one processor.
pub const ONE: &str = "pc1";
const TWO: &str = "pc2";

/// A full guest on these cores.
pub fn member(name: &str, cores: &[u32]) -> GuestConfig {
    GuestConfig {
        virt: Virt::Full,
        command_line: "console=ttyS0 quiet initcall_blacklist=trace_eval_init".to_owned(),
        ..linux::member(name, cores)
    }
}

/// A file, and what makes it.
type Made = (&'static str, fn() -> Vec<u8>);

/// The smallest kernels there can be.
const SMALL: [Made; 2] = [("flat", multiboot::flat), ("elf32", multiboot::elf32)];

fn small_file(name: &str) -> PathBuf {
    places::state_directory().join("multiboot").join(name)
}

pub fn machine() -> Config {
    let mut config = linux::machine(4, vec![member(ONE, &[1]), member(TWO, &[2, 3])]);
    config.files.extend(SMALL.map(|(name, _)| (name.to_owned(), small_file(name))));
    config
}

/// The session, once there is a kernel to start.
pub fn session(stage: &mut Stage) -> Result<&mut Session> {
    linux::files()?;
    for (name, make) in SMALL {
        let file = small_file(name);
        places::make(file.parent().unwrap_or(&file))?;
        fs::write(&file, make()).map_err(|error| wrong(format!("{}: {error}", file.display())))?;
    }
    stage.session()
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r24_full::debian_boots_to_a_shell_on_its_serial_port", shell),
        Check::new("r24_full::it_finds_no_hypervisor", no_hypervisor),
        Check::new("r24_full::its_interrupts_come_by_the_apics", interrupts),
        Check::new("r24_full::it_keeps_time_and_its_output_whole", time_and_output),
        Check::new("r24_full::two_processors_work_and_interrupt_each_other", two),
        Check::new("r24_full::it_restarts_when_it_resets_its_pc", reset),
        Check::new("r24_full::it_switches_itself_off", power_off),
        Check::new("r24_full::kernels_that_multiboot_starts_find_their_command_line", small),
    ]
}

fn shell(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    healthy(client, ONE, "1")?;
    healthy(client, TWO, "2")
}

/// Whether Debian has come up, with so many processors and without trouble.
pub fn healthy(client: &Client, name: &str, cpus: &str) -> Result<()> {
    let mut shell = Shell::of(client, name)?;
    ensure!(shell.run("uname -r")?.ends_with("-cloud-amd64"), "{name} is no Debian kernel");
    ensure!(shell.run("nproc")? == cpus, "{name} has not {cpus} processors");
    for trouble in ["BUG:", "WARNING: CPU", "Call Trace", "Kernel panic", "soft lockup", "unstable"] {
        let lines = shell.run(&format!("dmesg | grep -F '{trouble}' || true"))?;
        ensure!(lines.is_empty(), "{name}'s log has {lines}");
    }
    Ok(())
}

pub fn no_hypervisor(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let mut shell = Shell::of(client, ONE)?;
    ensure!(shell.run("grep -c hypervisor /proc/cpuinfo || true")? == "0", "its processor has the bit");
    ensure!(shell.run("cat /sys/hypervisor/type || echo none")?.ends_with("none"), "it has /sys/hypervisor");
    ensure!(shell.run("dmesg | grep -c 'Hypervisor detected' || true")? == "0", "its kernel detected one");
    let domain = client.domain(ONE)?;
    ensure!(domain.exits[abi::control::hypercall::ExitKind::Hypercall as usize] == 0, "it made hypercalls");
    Ok(())
}

pub fn interrupts(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let mut shell = Shell::of(client, ONE)?;
    let table = shell.run("cat /proc/interrupts")?;
    for line in ["4-edge      ttyS0", "8-edge      rtc0", "9-fasteoi   acpi", "Local timer interrupts"] {
        ensure!(table.contains(line), "there is no `{line}` among its interrupts:\n{table}");
    }
    let counted = |table: &str| -> Option<u64> {
        table.lines().find(|line| line.contains("ttyS0"))?.split_whitespace().nth(1)?.parse().ok()
    };
    let again = shell.run("cat /proc/interrupts")?;
    ensure!(counted(&again) > counted(&table), "its serial port does not interrupt:\n{again}");
    let clock = shell.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    ensure!(clock == "tsc", "its clock is {clock}");
    Ok(())
}

pub fn time_and_output(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let mut shell = Shell::of(client, ONE)?;
    let slept =
        shell.run("a=$(cut -d. -f1 /proc/uptime); sleep 2; echo $(($(cut -d. -f1 /proc/uptime) - a))")?;
    ensure!(matches!(slept.as_str(), "2" | "3"), "two seconds' sleep took {slept}");
    let hardware = shell.run("cat /sys/class/rtc/rtc0/since_epoch; date +%s")?;
    let seconds: Vec<i64> = hardware.lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(
        matches!(seconds[..], [clock, system] if (clock - system).abs() <= 2),
        "its clock and its system's time differ: {hardware}"
    );
    let lines = shell.run("i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done")?;
    let expected: Vec<String> = (0..300).map(|line| format!("line {line}")).collect();
    ensure!(lines.lines().eq(expected.iter().map(String::as_str)), "lines were lost:\n{lines}");
    Ok(())
}

fn two(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let mut shell = Shell::of(client, TWO)?;
    for cpu in ["0", "1"] {
        let mask = if cpu == "0" { "1" } else { "2" };
        let on = shell.run(&format!("taskset {mask} cut -d' ' -f39 /proc/self/stat"))?;
        ensure!(on == cpu, "a task for CPU {cpu} runs on {on}");
    }
    let count = |table: &str, name: &str| -> u64 {
        let line = table.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).sum()
    };
    let before = shell.run("cat /proc/interrupts")?;
    shell.run("i=0; while [ $i -lt 20 ]; do taskset 2 true; taskset 1 true; i=$((i+1)); done")?;
    let after = shell.run("cat /proc/interrupts")?;
    let sum = |table: &str| count(table, "RES:") + count(table, "CAL:");
    ensure!(sum(&after) > sum(&before), "its processors do not interrupt each other:\n{after}");
    Ok(())
}

pub fn reset(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let before = client.domain(ONE)?.id;
    Shell::of(client, ONE)?.last("reboot -f")?;
    until_within(linux::BOOT, "another life of the guest", || {
        let domain = client.domain(ONE)?;
        Ok((domain.id != before && domain.state == State::Running).then_some(()))
    })?;
    ensure!(Shell::of(client, ONE)?.run("nproc")? == "1", "it is another after its reset");
    Ok(())
}

fn small(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    mesh::audit(client)?;
    for left in client.list()?.iter().filter(|domain| domain.id != 0) {
        client.destroy(&left.name)?;
    }
    for (name, _) in SMALL {
        let command_line = format!("{name} was started");
        let guest = config::guest(name, name, 1);
        client.create(GuestConfig {
            virt: Virt::Full,
            mesh: false,
            command_line: command_line.clone(),
            ..guest
        })?;
        linux::becomes(client, name, State::Shutdown(reason::POWEROFF))?;
        let said = Console::new(client, name).read(false)?;
        let said = String::from_utf8_lossy(&said);
        ensure!(said.contains(&command_line), "{name} said {said}");
        mesh::audit(client)?;
        client.destroy(name)?;
    }
    mesh::audit(client)?;
    Ok(())
}

fn power_off(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    for name in [ONE, TWO] {
        Shell::of(client, name)?.last("poweroff -f")?;
        until_within(linux::BOOT, "the guest's end", || {
            let state = client.domain(name)?.state;
            Ok((state == State::Shutdown(reason::POWEROFF)).then_some(()))
        })?;
        client.destroy(name)?;
    }
    mesh::audit(client)?;
    Ok(())
}
