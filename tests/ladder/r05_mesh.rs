//! Messages: every guest talks to every other over shared memory, nothing is lost, and polling costs no exit.

use ladder::{Check, Result, Stage, ensure, mesh, watch::until};
use toolstack::config::guest;

/// The guests of the shared machine.
pub const GUESTS: [&str; 3] = ["mesh1", "mesh2", "mesh3"];

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r05_mesh::every_guest_meets_every_other", meets),
        Check::new("r05_mesh::messages_go_round_and_none_is_lost", none_lost),
        Check::new("r05_mesh::messages_cost_no_exit", no_exits),
        Check::new("r05_mesh::a_sleeper_is_woken_without_an_exit", woken),
    ]
}

fn meets(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    for (slot, name) in (1..).zip(GUESTS) {
        for other in (1..=GUESTS.len()).filter(|&other| other != slot) {
            let line = format!("mesh: slot {other} came");
            until(&format!("`{line}` from {name}"), || {
                Ok(mesh::printed(client, name)?.contains(&line).then_some(()))
            })?;
        }
    }
    // Whoever begins the lap, one guest says how many hops it took.
    until("the token's lap", || {
        for name in GUESTS {
            if mesh::printed(client, name)?.contains("the token went round in 3 hops") {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
}

fn none_lost(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    mesh::go_on(client, &GUESTS, "with nothing else going on")?;
    let first = mesh::counts(client, GUESTS[0])?;
    mesh::go_on(client, &GUESTS, "after the first count")?;
    let second = mesh::counts(client, GUESTS[0])?;
    ensure!(second.received > first.received && second.sent > first.sent, "{first:?}, then {second:?}");
    for name in GUESTS {
        let counts = mesh::counts(client, name)?;
        ensure!(counts.lost == 0 && counts.liars == 0, "{name}: {counts:?}");
    }
    Ok(())
}

/// Between guests that poll, no message causes an exit. What exits there are belong to the reports to domain 0, ten a
/// second, because domain 0 sleeps: one event each, and so one hypercall.
fn no_exits(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    mesh::go_on(client, &GUESTS, "before the count of exits")?;
    let before = client.list()?;
    mesh::go_on(client, &GUESTS, "while exits are counted")?;
    let after = client.list()?;
    for name in GUESTS {
        let (old, new) = (mesh::find(&before, name)?, mesh::find(&after, name)?);
        mesh::exits_are_events_sent(old, new)?;
        let events = new.events_out - old.events_out;
        let messages = new.messages_in + new.messages_out - old.messages_in - old.messages_out;
        ensure!(events * 100 < messages, "{name} sent {events} events with {messages} messages");
    }
    Ok(())
}

/// A guest that sleeps between keystrokes is woken for each: an event, and no exit on its side. Nor does sleeping cost
/// one. What it prints is an event to domain 0, and so a hypercall.
fn woken(stage: &mut Stage) -> Result<()> {
    const LINES: u64 = 20;
    let client = &stage.session()?.client;
    let name = "sleeper";
    client.destroy(GUESTS[2])?;
    client.create(guest(name, "hello", 3))?;
    let answered = |line: &str| {
        client.input(name, format!("{line}\n").as_bytes())?;
        let answer = format!("you typed: {line}");
        until(&format!("`{answer}`"), || Ok(mesh::printed(client, name)?.contains(&answer).then_some(())))
    };
    answered("good evening")?;
    let before = client.domain(name)?;
    for line in 0..LINES {
        answered(&format!("line {line}."))?;
    }
    let after = client.domain(name)?;
    mesh::exits_are_events_sent(&before, &after)?;
    let events = after.events_in - before.events_in;
    ensure!(events >= LINES, "{events} events woke it for {LINES} lines");
    client.destroy(name)?;
    client.create(mesh::member(3, 32, "pace=poll"))?;
    mesh::go_on(client, &GUESTS, "after a sleeper's stay")?;
    mesh::none_lost(client, &GUESTS)
}
