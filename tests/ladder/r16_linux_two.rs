//! Debian's kernel with two virtual CPUs, started in a machine that runs already; lives and deaths of Linux guests; an
//! image that is uploaded. It goes on with the machine of the rung below.

use abi::control::wire::State;
use abi::xen::sched::reason;
use ladder::{
    Check, Result, Stage, ensure,
    linux::{self, Shell},
    mesh,
};
use toolstack::{config::guest, control::Client, upload, verbs::stop};

use crate::r15_linux::{OTHERS, session};

const TWO: &str = "two";
/// Where it is: the core of the first Linux, and that of a guest kernel.
const CORES: [u32; 2] = [2, 3];
/// How often a guest is created and destroyed.
const TIMES: u32 = 4;

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r16_linux_two::both_cpus_work", both_work),
        Check::new("r16_linux_two::it_reboots_when_the_toolstack_asks", reboots),
        Check::new("r16_linux_two::powered_off_from_inside_it_is_seen", powers_off),
        Check::new("r16_linux_two::lives_and_deaths_cost_no_frame", churn),
        Check::new("r16_linux_two::an_image_is_uploaded_while_guests_run", uploaded),
    ]
}

/// The guest, running; the cores that it takes are freed first.
fn two(stage: &mut Stage) -> Result<&Client> {
    let client = &session(stage)?.client;
    let domains = client.list()?;
    if domains.iter().any(|domain| domain.name == TWO && domain.state == State::Running) {
        return Ok(client);
    }
    for domain in domains.iter().filter(|domain| domain.cores.iter().any(|core| CORES.contains(core))) {
        client.destroy(&domain.name)?;
    }
    let (_, cores, _) = client.create(linux::member(TWO, &CORES))?;
    ensure!(cores == CORES, "it was put on {cores:?}");
    Ok(client)
}

/// The guest kernel beside it, which has no peer left to talk to, answers when it is asked.
fn answers(client: &Client) -> Result<()> {
    let counts = mesh::counts(client, OTHERS[0])?;
    ensure!(counts.lost == 0 && counts.liars == 0, "{}: {counts:?}", OTHERS[0]);
    Ok(())
}

fn both_work(stage: &mut Stage) -> Result<()> {
    let client = two(stage)?;
    let mut shell = Shell::of(client, TWO)?;
    ensure!(shell.run("nproc")? == "2", "it has not two CPUs");
    let online = shell.run("cat /sys/devices/system/cpu/online")?;
    ensure!(online == "0-1", "online are {online}");
    for cpu in ["0", "1"] {
        let ran = shell.run(&format!("taskset -c {cpu} sh -c 'cut -d\" \" -f39 /proc/self/stat'"))?;
        ensure!(ran == cpu, "what belongs on CPU {cpu} ran on {ran}");
    }
    // Both at once, each with its own timer.
    shell.run("taskset -c 0 sleep 1 & taskset -c 1 sleep 1 & wait")?;
    let interrupts = shell.run("cat /proc/interrupts")?;
    for source in ["timer0", "timer1", "resched0", "resched1", "callfunc1"] {
        ensure!(interrupts.contains(source), "there is no {source} among its interrupts:\n{interrupts}");
    }
    answers(client)
}

fn reboots(stage: &mut Stage) -> Result<()> {
    let client = two(stage)?;
    Shell::of(client, TWO)?;
    let before = client.domain(TWO)?.id;
    let became = stop::ask_and_wait(client, stop::Wish::Reboot, TWO, linux::BOOT)?;
    ensure!(
        matches!(became, stop::Became::Restarted(id) if id != before),
        "asked to reboot it became {became:?}"
    );
    let domain = client.domain(TWO)?;
    ensure!(domain.cores == CORES, "it came again on {:?}", domain.cores);
    let mut shell = Shell::of(client, TWO)?;
    ensure!(shell.run("nproc")? == "2", "after the reboot it has not two CPUs");
    Ok(())
}

fn powers_off(stage: &mut Stage) -> Result<()> {
    let client = two(stage)?;
    Shell::of(client, TWO)?.last("poweroff")?;
    linux::becomes(client, TWO, State::Shutdown(reason::POWEROFF))?;
    client.destroy(TWO)?;
    mesh::audit(client).map(|_| ())
}

/// A guest that is destroyed in the midst of its start, on one core and on two.
fn churn(stage: &mut Stage) -> Result<()> {
    let client = two(stage)?;
    client.destroy(TWO)?;
    let free = client.machine()?.frames_free;
    for time in 0..TIMES {
        let cores = &CORES[..1 + time as usize % 2];
        client.create(linux::member(TWO, cores))?;
        let during = client.machine()?.frames_free;
        ensure!(during < free, "a guest of 192 MiB took no memory");
        client.destroy(TWO)?;
        let now = client.machine()?.frames_free;
        ensure!(now == free, "{free} frames were free before life {time}, and {now} after");
    }
    mesh::audit(client)?;
    answers(client)
}

fn uploaded(stage: &mut Stage) -> Result<()> {
    let images = ladder::stage::images()?;
    let session = session(stage)?;
    let (client, disk) = (&session.client, session.machine.transfer_disk());
    let bytes = toolstack::archive::read_image(&images.guests["hello"])?;
    let sum = upload::sha256(&bytes);
    let mut wrong_sum = sum;
    wrong_sum[0] ^= 1;
    let refused = client.upload("other", &bytes, wrong_sum, None, |_| {});
    ensure!(refused.is_err(), "an image came with another sum than it was announced with");
    client.upload("other", &bytes, sum, disk, |_| {})?;
    let there = client.images()?;
    let other = there.iter().find(|image| image.name == "other");
    ensure!(other.is_some_and(|image| image.sha256 == Some(sum)), "the list of images is {there:?}");
    for domain in client.list()?.iter().filter(|domain| domain.cores.contains(&CORES[0])) {
        client.destroy(&domain.name)?;
    }
    client.create(guest("uploaded", "other", CORES[0]))?;
    ladder::watch::until("the greeting of the uploaded guest", || {
        Ok((!mesh::printed(client, "uploaded")?.is_empty()).then_some(()))
    })?;
    client.destroy("uploaded")?;
    client.remove_image("other")?;
    ensure!(client.create(guest("uploaded", "other", CORES[0])).is_err(), "what was removed is still there");
    answers(client)?;
    mesh::audit(client).map(|_| ())
}
