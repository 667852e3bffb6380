//! Xen's ABI, call by call: a guest makes every hypercall there is, with good arguments and bad, and checks each answer;
//! and the ends that a guest may come to by calls.

use abi::control::wire::{GuestConfig, State};
use abi::xen::sched::reason;
use ladder::{Check, Result, Stage, ensure, mesh, stage::no_guests, watch::until};
use toolstack::config::{Config, guest};

/// The guest, and its core.
const NAME: &str = "abi";
const CORE: u32 = 1;

pub fn machine() -> Config {
    no_guests(2)
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r18_abi::every_call_answers_as_on_xen", conforms),
        Check::new("r18_abi::a_guest_ends_for_the_reason_it_gives", ends),
    ]
}

/// Ends, and the reasons that domain 0 is told.
const ENDS: [(&str, u32); 4] =
    [("watchdog", reason::WATCHDOG), ("watchdog-blocked", reason::WATCHDOG), ("code", 77), ("reason", 77)];

fn ends(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    for (end, reason) in ENDS {
        client.create(GuestConfig { command_line: format!("end={end}"), ..guest(NAME, NAME, CORE) })?;
        let state = until(end, || {
            let state = client.domain(NAME)?.state;
            Ok((state != State::Running).then_some(state))
        })?;
        ensure!(state == State::Shutdown(reason), "after {end} it is {state:?}");
        client.destroy(NAME)?;
    }
    Ok(())
}

fn conforms(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let free = client.machine()?.frames_free;
    client.create(guest(NAME, NAME, CORE))?;
    until("the end of the checks", || Ok((client.domain(NAME)?.state != State::Running).then_some(())))?;
    let printed = mesh::printed(client, NAME)?;
    let failed: Vec<&str> = printed.lines().filter(|line| line.contains("FAILED")).collect();
    ensure!(failed.is_empty(), "{} answers are not Xen's:\n{}", failed.len(), failed.join("\n"));
    let last = printed.lines().last().unwrap_or_default();
    ensure!(last.ends_with("checks, 0 failed"), "it did not come to its end: `{last}`");
    let state = client.domain(NAME)?.state;
    ensure!(state == State::Shutdown(0), "it is {state:?}");
    client.destroy(NAME)?;
    mesh::audit(client)?;
    let now = client.machine()?.frames_free;
    ensure!(now == free, "{free} frames were free before it, and {now} after");
    Ok(())
}
