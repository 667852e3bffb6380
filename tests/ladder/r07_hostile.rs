//! Hostile guests, each act in its turn on the same core: two innocent guests on other cores exchange messages before,
//! during and after, and lose none; the core is good for the next guest.

use abi::control::wire::{GuestConfig, State};
use ladder::{Check, Result, Stage, ensure, mesh, stage::no_guests, watch::until, wrong};
use toolstack::{
    config::{Config, guest},
    control::Client,
};

/// Those who must not notice.
const INNOCENT: [&str; 2] = ["mesh1", "mesh2"];
/// The hostile guest, and its core.
const BAD: &str = "bad";
const CORE: u32 = 3;
/// The act for which it has a second virtual CPU, and that one's core.
const RACE: &str = "race";
const SECOND_CORE: u32 = 4;

/// How an act ends.
#[derive(Clone, Copy)]
enum End {
    /// The hypervisor stops the guest, and says why.
    Crash(&'static str),
    /// The guest survives, refused or ignored, and says so.
    Survives,
    /// The guest comes to the end of it, or to its own: what it asks for may well be that.
    Ends,
    /// The guest never comes back, and keeps its core busy until it is destroyed.
    Hangs,
}

const ACTS: [(&str, End); 22] = [
    ("triple-fault", End::Crash("triple fault")),
    ("wild-ept-write", End::Crash("0xd0000000")),
    ("msr-sweep", End::Survives),
    ("port-sweep", End::Survives),
    ("hypercall-fuzz", End::Ends),
    ("cli-loop", End::Hangs),
    ("ring-lies", End::Survives),
    ("queue-lies", End::Survives),
    ("timer-storm", End::Survives),
    ("reservation-storm", End::Survives),
    ("grant-lies", End::Survives),
    ("wild-pointers", End::Survives),
    ("call-lists", End::Survives),
    (RACE, End::Survives),
    ("store-flood", End::Survives),
    ("event-storm", End::Survives),
    ("icr-storm", End::Survives),
    ("cr-abuse", End::Survives),
    ("vmx-instructions", End::Survives),
    ("lvt-reserved", End::Survives),
    ("spurious-vector", End::Hangs),
    ("real-mode", End::Hangs),
];

/// The innocents; the third core is for the others, and the fourth for the second virtual CPU of one of them.
pub fn machine() -> Config {
    let mut config = no_guests(5);
    config.machine.guests = vec![mesh::member(1, 32, "pace=poll"), mesh::member(2, 32, "")];
    config
}

pub fn checks() -> Vec<Check> {
    let mut checks: Vec<Check> = ACTS
        .into_iter()
        .map(|(act, end)| {
            let name = format!("r07_hostile::{}_harms_nobody", act.replace('-', "_"));
            Check::new(&name, move |stage| harms_nobody(stage, act, end))
        })
        .collect();
    checks.push(Check::new("r07_hostile::an_honest_guest_takes_the_core_afterwards", honest));
    checks
}

fn harms_nobody(stage: &mut Stage, act: &str, end: End) -> Result<()> {
    let client = &stage.session()?.client;
    mesh::go_on(client, &INNOCENT, &format!("before {act}"))?;
    let free = client.machine()?.frames_free;
    let cores = if act == RACE { vec![CORE, SECOND_CORE] } else { vec![CORE] };
    let (vcpus, command_line) = (cores.len() as u32, format!("act={act} seed=7"));
    client.create(GuestConfig { command_line, vcpus, cores, ..guest(BAD, "bad", CORE) })?;
    let began = || mesh::printed(client, BAD);
    until(&format!("`bad: {act}`"), || Ok(began()?.contains(&format!("bad: {act}\n")).then_some(())))?;
    if matches!(end, End::Crash(_) | End::Hangs) {
        mesh::go_on(client, &INNOCENT, &format!("during {act}"))?;
    }
    ends(client, act, end)?;
    mesh::go_on(client, &INNOCENT, &format!("after {act}"))?;
    mesh::none_lost(client, &INNOCENT)?;
    client.destroy(BAD)?;
    mesh::go_on(client, &INNOCENT, &format!("after the end of whom did {act}"))?;
    mesh::none_lost(client, &INNOCENT)?;
    mesh::audit(client)?;
    let now = client.machine()?.frames_free;
    ensure!(now == free, "{free} frames were free before {act}, and {now} after");
    Ok(())
}

/// Waits for the act's end, while the innocents go on all the time.
fn ends(client: &Client, act: &str, end: End) -> Result<()> {
    let state = || -> Result<State> {
        let domains = client.list()?;
        let bad = domains.iter().find(|domain| domain.name == BAD);
        bad.map(|bad| bad.state).ok_or_else(|| wrong(format!("{BAD} is in no list")))
    };
    match end {
        End::Crash(why) => {
            until(&format!("the crash of {act}"), || Ok((state()? == State::Crashed).then_some(())))?;
            let (cause, registers) = client.crash(BAD)?;
            ensure!(cause.contains(why), "it crashed for another reason: {cause}");
            ensure!(
                registers.iter().any(|(name, _)| name == "rip"),
                "the crash has no registers: {registers:?}"
            );
        }
        End::Survives => {
            let done = format!("bad: {act} done");
            until(&format!("`{done}`"), || {
                let state = state()?;
                if state != State::Running {
                    let why = client.crash(BAD).map_or_else(|error| error.to_string(), |(cause, _)| cause);
                    return Err(wrong(format!("{act} ended its guest ({state:?}): {why}")));
                }
                mesh::go_on(client, &INNOCENT, &format!("during {act}"))?;
                Ok(mesh::printed(client, BAD)?.contains(&done).then_some(()))
            })?;
        }
        End::Ends => {
            let done = format!("bad: {act} done");
            until(&format!("the end of {act}"), || {
                mesh::go_on(client, &INNOCENT, &format!("during {act}"))?;
                let ended = state()? != State::Running || mesh::printed(client, BAD)?.contains(&done);
                Ok(ended.then_some(()))
            })?;
        }
        End::Hangs => {
            ensure!(state()? == State::Running, "{act} is {:?}", state()?);
            ensure!(!mesh::printed(client, BAD)?.contains("done"), "{act} came back");
        }
    }
    Ok(())
}

/// The core that all of them had runs an honest guest, whom the innocents meet.
fn honest(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    client.create(mesh::member(CORE, 32, ""))?;
    mesh::go_on(client, &["mesh1", "mesh2", "mesh3"], "with an honest guest on the hostile ones' core")?;
    mesh::none_lost(client, &["mesh1", "mesh2", "mesh3"])?;
    let machine_still_sound = mesh::audit(client)?;
    ensure!(machine_still_sound.domains == 4, "there are {} domains", machine_still_sound.domains);
    Ok(())
}
