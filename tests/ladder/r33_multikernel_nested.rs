//! The multikernel nested, in the machine of rung 17: members agree, a core goes and comes, a kernel is replaced, and QEMU puts
//! in a processor. All cores take turns on one processor there, so what is not to be seen here is how long anything takes.

use abi::control::wire::{GuestConfig, Kept, Presence};
use ladder::{Check, Result, Stage, ensure, mesh, watch::until, wrong};
use toolstack::{control::Client, verbs::core::ask_offline};

use crate::r28_multikernel::{self as multi, MEMBERS};

/// The core that is put in while the machine runs.
const NEW: usize = 4;
/// Operations of a bench.
const OPERATIONS: u64 = 20;

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r33_multikernel_nested::members_meet_and_agree", agree),
        Check::new("r33_multikernel_nested::a_core_goes_and_comes_while_they_agree", cycles),
        Check::new("r33_multikernel_nested::a_kernel_is_replaced_under_calls", replaces),
        Check::new("r33_multikernel_nested::a_processor_that_is_put_in_gets_a_member", put_in),
    ]
}

/// Who polls keeps the processor from whom it waits for.
fn member(slot: usize) -> GuestConfig {
    GuestConfig { command_line: "pace=sleep".into(), ..multi::member(slot) }
}

/// So many messages for each member but the initiator.
fn bench(client: &Client, members: usize) -> Result<()> {
    for (phases, each) in [("1pc", 2), ("2pc", 4)] {
        let lines = || (1..=members).map(|slot| Ok(multi::counts(client, slot)?.0)).sum::<Result<u64>>();
        let before = lines()?;
        let line = multi::ask(client, 1, &format!("bench {phases} {OPERATIONS}"), "bench")?;
        let sent = lines()? - before;
        println!("{}", line.trim());
        let expected = OPERATIONS * each * (members as u64 - 1);
        ensure!(sent == expected, "{sent} messages where {expected} belong: {line}");
    }
    Ok(())
}

fn agree(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    for slot in 1..=3 {
        multi::start_as(client, member(slot), slot, &(1..=slot).collect::<Vec<_>>())?;
    }
    bench(client, 3)
}

/// The last epoch that a member told of.
fn epoch(client: &Client, slot: usize) -> Result<String> {
    let printed = mesh::printed(client, MEMBERS[slot - 1])?;
    Ok(printed.lines().rfind(|line| line.contains("epoch")).unwrap_or_default().to_owned())
}

fn all_in(client: &Client, members: &str) -> Result<()> {
    until(&format!("all of {members} in one epoch"), || {
        let told = (1..=3).map(|slot| epoch(client, slot)).collect::<Result<Vec<_>>>()?;
        Ok((told[0].ends_with(members) && told.iter().all(|epoch| *epoch == told[0])).then_some(()))
    })
}

fn cycles(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    multi::ask(client, 3, "register service/disk", "register service/disk: done")?;
    client.input(MEMBERS[0], b"bench 2pc 400\n")?;
    for _ in 0..4 {
        let off = ask_offline(client, 2)?;
        ensure!(off.guest == Some((MEMBERS[1].into(), Kept::Suspended)), "core 2 keeps {:?}", off.guest);
        let (_, guest, ticks) = client.core_online(2, None, false)?;
        ensure!(guest.as_deref() == Some(MEMBERS[1]), "core 2 came with {guest:?}");
        println!("offline in {} ticks, online in {ticks}", off.ticks);
    }
    multi::said(client, 1, "bench 2pc: 400 operations")?;
    all_in(client, ": {1, 2, 3}")?;
    for slot in 1..=3 {
        let names = multi::ask(client, slot, "names", "names:")?;
        ensure!(names.trim() == "multikernel: names: service/disk@3", "{slot} says {names}");
    }
    Ok(())
}

fn replaces(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    multi::ask(client, 2, "serve service/sum", "serve service/sum: done")?;
    multi::replaces_under_calls(client, 3, 10, 500)
}

/// The machine's script has put it in when all guests of the description were running.
fn put_in(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let presence = || {
        let cores = client.cores()?;
        cores.get(NEW).map(|core| (core.presence, core.is_online)).ok_or_else(|| wrong(format!("{cores:?}")))
    };
    until("a new processor", || Ok((presence()? == (Presence::New, false)).then_some(())))?;
    let refused = client.create(member(NEW)).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("atoll core online 4"), "{refused}");
    let (_, guest, ticks) = client.core_online(NEW as u32, None, false)?;
    println!("online for the first time in {ticks} ticks");
    ensure!(guest.is_none() && presence()? == (Presence::Known, true), "{guest:?}, {:?}", presence()?);
    multi::start_as(client, member(NEW), NEW, &[1, 2, 3, 4])?;
    bench(client, 4)?;
    ask_offline(client, NEW as u32)?;
    all_in(client, ": {1, 2, 3}")?;
    client.core_online(NEW as u32, None, false)?;
    all_in(client, ": {1, 2, 3, 4}")?;
    for name in MEMBERS {
        client.destroy(name)?;
    }
    mesh::audit(client).map(drop)
}
