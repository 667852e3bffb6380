//! A domain of two virtual CPUs: the second is started both ways, they interrupt each other, it goes down and up; it is
//! paused and destroyed as a whole; and a crash of the second is the domain's.

use abi::control::wire::{GuestConfig, State};
use ladder::{Check, Result, Stage, ensure, mesh, stage::no_guests, watch::until, wrong};
use toolstack::{
    config::{Config, guest},
    control::Client,
};

const NAME: &str = "siblings";
const CORES: [u32; 2] = [1, 2];

pub fn machine() -> Config {
    no_guests(3)
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r19_siblings::a_domain_spans_two_cores", spans),
        Check::new("r19_siblings::a_crash_of_the_second_is_the_domains", crashes),
    ]
}

/// Creates the guest and waits for its last line.
fn begin(client: &Client, end: &str) -> Result<()> {
    let (vcpus, cores) = (CORES.len() as u32, CORES.to_vec());
    let command_line = format!("end={end}");
    client.create(GuestConfig { vcpus, cores, command_line, ..guest(NAME, "siblings", CORES[0]) })?;
    let verdict = until("the siblings' verdict", || {
        let printed = mesh::printed(client, NAME)?;
        Ok(printed.lines().find(|line| line.ends_with(" wrong")).map(str::to_owned))
    })?;
    let printed = mesh::printed(client, NAME)?;
    let wrongs: Vec<&str> = printed.lines().filter(|line| line.contains("WRONG")).collect();
    ensure!(verdict.ends_with(" 0 wrong"), "{verdict}: {wrongs:?}");
    Ok(())
}

fn spans(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let free = client.machine()?.frames_free;
    begin(client, "spin")?;
    let domain = client.domain(NAME)?;
    ensure!(domain.cores == CORES, "it is on {:?}", domain.cores);
    client.pause(NAME)?;
    let (before, after) = (client.domain(NAME)?, client.domain(NAME)?);
    ensure!(before.state == State::Paused && before.exits == after.exits, "{before:?}, then {after:?}");
    client.unpause(NAME)?;
    ensure!(client.domain(NAME)?.state == State::Running, "it did not go on");
    mesh::audit(client)?;
    // Both of its cores are busy: neither is waiting for the hypervisor when it ends.
    client.destroy(NAME)?;
    let now = client.machine()?.frames_free;
    ensure!(now == free, "{free} frames were free before it came, and {now} after it went");
    mesh::audit(client)?;
    Ok(())
}

fn crashes(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    begin(client, "crash")?;
    until("its crash", || Ok((client.domain(NAME)?.state == State::Crashed).then_some(())))?;
    let (cause, registers) = client.crash(NAME)?;
    ensure!(cause.contains("triple fault"), "it crashed for another reason: {cause}");
    let cr3 = registers.iter().find(|(name, _)| name == "cr3").ok_or_else(|| wrong("no CR3"))?;
    ensure!(cr3.1 != 0, "a virtual CPU without page tables crashed");
    client.destroy(NAME)?;
    // The cores are good for the next.
    begin(client, "spin")?;
    client.destroy(NAME)
}
