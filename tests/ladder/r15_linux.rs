//! Debian's kernel, unmodified, as a para guest with one virtual CPU, beside Atoll's own guest kernels: its shell
//! answers, it knows where it runs, reads xenstore, keeps time, and stops when it is asked.

use abi::control::wire::State;
use abi::xen::sched::reason;
use ladder::{
    Check, Result, Stage, ensure,
    linux::{self, Shell},
    mesh, wrong,
};
use toolstack::{config::Config, session::Session, verbs::stop};

/// The guest of the shared machine, and its core.
const LINUX: &str = "linux";
const CORE: u32 = 2;
/// Those beside it sleep between messages, or they would keep the emulator from Linux.
const PACE: &str = "pace=sleep";
/// The guest kernels beside it.
pub const OTHERS: [&str; 2] = ["mesh1", "mesh3"];

/// Linux on core 2, guest kernels on 1 and 3.
pub fn machine() -> Config {
    let guests = vec![mesh::member(1, 32, PACE), linux::member(LINUX, &[CORE]), mesh::member(3, 32, PACE)];
    linux::machine(4, guests)
}

/// The machine that all checks here share.
pub fn session(stage: &mut Stage) -> Result<&mut Session> {
    linux::files()?;
    stage.session()
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r15_linux::debian_boots_to_a_shell_beside_guest_kernels", shell),
        Check::new("r15_linux::it_knows_that_it_is_a_guest_of_xen", hypervisor),
        Check::new("r15_linux::it_keeps_time", time),
        Check::new("r15_linux::xenstore_is_shared_with_the_toolstack", xenstore),
        Check::new("r15_linux::a_long_output_comes_whole", long_output),
        Check::new("r15_linux::shut_down_by_the_toolstack_it_powers_off", shutdown),
    ]
}

fn shell(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let mut shell = Shell::of(client, LINUX)?;
    let uname = shell.run("uname -sr")?;
    ensure!(uname.starts_with("Linux 6.") || uname.starts_with("Linux 7."), "it says it is {uname}");
    ensure!(uname.ends_with("-cloud-amd64"), "it says it is {uname}");
    ensure!(shell.run("nproc")? == "1", "it has not one CPU");
    for trouble in ["BUG:", "WARNING: CPU", "Call Trace", "Kernel panic", "soft lockup"] {
        ensure!(!shell.printed().contains(trouble), "its log has `{trouble}`: {}", shell.printed());
    }
    let domain = client.domain(LINUX)?;
    ensure!(domain.cores == [CORE], "it is on {:?}", domain.cores);
    mesh::go_on(client, &OTHERS, "beside Linux")?;
    mesh::none_lost(client, &OTHERS)
}

fn hypervisor(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let mut shell = Shell::of(client, LINUX)?;
    ensure!(shell.run("cat /sys/hypervisor/type")? == "xen", "it does not know Xen");
    let version = shell.run("cd /sys/hypervisor/version; echo $(cat major minor).$(cat extra)")?;
    ensure!(version.starts_with("4 "), "the version is {version}");
    // The one in xenstore, and not nought.
    let uuid = shell.run("cat /sys/hypervisor/uuid")?;
    let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
    ensure!(parts == [8, 4, 4, 4, 12] && uuid.contains(|c| c != '0' && c != '-'), "the uuid is {uuid}");
    let features = shell.run("cat /sys/hypervisor/properties/features")?;
    ensure!(u64::from_str_radix(&features, 16).is_ok_and(|bits| bits != 0), "the features are {features}");
    shell.run("ls /sys/hypervisor/compilation /sys/hypervisor/properties")?;
    let interrupts = shell.run("cat /proc/interrupts")?;
    for source in ["xen-percpu", "timer0", "xenbus", "hvc_console"] {
        ensure!(interrupts.contains(source), "there is no {source} among its interrupts:\n{interrupts}");
    }
    for line in ["Hypervisor detected: Xen", "kernel on Xen PVH", "console [hvc0] enabled"] {
        ensure!(shell.run(&format!("dmesg | grep -cF '{line}'"))? != "0", "its log does not say `{line}`");
    }
    Ok(())
}

fn time(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let mut shell = Shell::of(client, LINUX)?;
    let clock = shell.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    ensure!(clock == "xen" || clock == "tsc", "its clock is {clock}");
    let now = || -> Result<u64> {
        let passed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ok(passed.map_err(|_| wrong("this host's clock is before 1970"))?.as_secs())
    };
    let seconds: u64 = shell.run("date +%s")?.parse().map_err(|_| wrong("date prints no number"))?;
    // The emulated clock may be in local time, and runs as slowly as the emulator does.
    ensure!(seconds.abs_diff(now()?) < 2 * 24 * 3600, "its date is {seconds}");
    let slept =
        shell.run("a=$(cut -d. -f1 /proc/uptime); sleep 2; echo $(($(cut -d. -f1 /proc/uptime) - a))")?;
    ensure!(matches!(slept.as_str(), "2" | "3"), "two seconds' sleep took {slept}");
    Ok(())
}

fn xenstore(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let mut shell = Shell::of(client, LINUX)?;
    let id = client.domain(LINUX)?.id;
    let home = format!("/local/domain/{id}");
    ensure!(shell.run("xs read domid")? == id.to_string(), "it read another domid");
    ensure!(shell.run("xs read name")? == LINUX, "it read another name");
    ensure!(shell.run(&format!("xs ls {home}"))?.contains("control"), "its home has no control");
    let value = |path: &str| Ok::<_, ladder::Error>(client.xenstore_node(path)?.value);
    ensure!(value(&format!("{home}/name"))? == LINUX.as_bytes(), "the toolstack reads another name");

    shell.run("xs write data/from-guest hello")?;
    ensure!(value(&format!("{home}/data/from-guest"))? == b"hello", "what it wrote is not there");
    client.xenstore_write(&format!("{home}/data/from-host"), b"moin")?;
    ensure!(shell.run("xs read data/from-host")? == "moin", "it reads something else than was written");
    client.xenstore_remove(&format!("{home}/data/from-host"))?;
    let (status, said) = shell.status_of("xs read data/from-host")?;
    ensure!(status != 0 && said.contains("ENOENT"), "what is gone reads as {said}");
    // Its home is its own, and no other's.
    let (status, said) = shell.status_of("xs write /local/domain/0/name mine")?;
    ensure!(status != 0 && said.contains("EACCES"), "it wrote into domain 0's home: {said}");
    let tree = client.xenstore_list(&home)?;
    ensure!(tree.iter().any(|node| node.path == format!("{home}/data/from-guest")), "the list lacks a node");
    Ok(())
}

fn long_output(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    let mut shell = Shell::of(client, LINUX)?;
    let lines = shell.run("i=0; while [ $i -lt 600 ]; do echo line $i; i=$((i+1)); done")?;
    let expected: Vec<String> = (0..600).map(|line| format!("line {line}")).collect();
    ensure!(lines.lines().eq(expected.iter().map(String::as_str)), "lines were lost:\n{lines}");
    Ok(())
}

fn shutdown(stage: &mut Stage) -> Result<()> {
    let client = &session(stage)?.client;
    Shell::of(client, LINUX)?;
    let became = stop::ask_and_wait(client, stop::Wish::Shutdown, LINUX, linux::BOOT)?;
    let expected = stop::Became::Stopped(State::Shutdown(reason::POWEROFF));
    ensure!(became == expected, "asked to shut down it became {became:?}");
    let said = mesh::printed(client, LINUX)?;
    ensure!(said.contains("guest: poweroff"), "it did not power off by itself: {said}");
    mesh::go_on(client, &OTHERS, "after Linux's end")?;
    mesh::audit(client)?;
    client.destroy(LINUX)
}
