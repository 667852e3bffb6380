//! Messages: every guest talks to every other over shared memory, nothing is lost, and polling costs no exit.

use abi::control::hypercall::ExitKind;
use ladder::{Check, Result, Stage, ensure, mesh, watch::until};

/// The guests of the shared machine.
pub const GUESTS: [&str; 3] = ["mesh1", "mesh2", "mesh3"];

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r05_mesh::every_guest_meets_every_other", meets),
        Check::new("r05_mesh::messages_go_round_and_none_is_lost", none_lost),
        Check::new("r05_mesh::messages_cost_no_exit", no_exits),
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
        let events = new.events_out - old.events_out;
        for &kind in ExitKind::ALL {
            let exits = new.exits[kind as usize] - old.exits[kind as usize];
            let expected = if kind == ExitKind::Hypercall { events } else { 0 };
            ensure!(exits == expected, "{name}: {exits} exits by {}, where {expected} belong", kind.label());
        }
        let messages = new.messages_in + new.messages_out - old.messages_in - old.messages_out;
        ensure!(events * 100 < messages, "{name} sent {events} events with {messages} messages");
    }
    Ok(())
}
