//! The multikernel: monitors that meet, agree in one phase and in two, and what an operation costs with 2, 3 and 4 of them.

use crate::r32_replace;
use abi::control::wire::{Account, GuestConfig};
use ladder::{Check, Result, Stage, ensure, load::Load, mesh, stage::no_guests, watch::until, wrong};
use toolstack::{
    config::{Config, guest},
    control::{Client, Console},
    verbs::core::ask_replace,
};

pub const MEMBERS: [&str; 4] = ["multi1", "multi2", "multi3", "multi4"];
/// Operations of a bench.
const OPERATIONS: u64 = 200;

/// A core for domain 0, and four for members.
pub fn machine() -> Config {
    no_guests(5)
}

pub fn checks() -> Vec<Check> {
    let mut checks = vec![
        Check::new("r28_multikernel::an_operation_costs_alike_for_each_member_more", costs),
        Check::new("r28_multikernel::names_are_seen_everywhere", names),
        Check::new("r28_multikernel::of_conflicting_retypes_one_wins", retypes),
        Check::new("r28_multikernel::what_is_unmapped_is_in_no_page_tables", frames),
        Check::new("r28_multikernel::a_server_s_time_is_its_clients", accounts),
        Check::new("r28_multikernel::pages_change_hands_and_are_not_copied", pages),
        Check::new("r28_multikernel::a_kernel_is_replaced_under_calls", replaces),
    ];
    checks.extend(r32_replace::checks());
    checks.push(Check::new("r28_multikernel::a_member_that_dies_is_out_and_comes_back", death));
    checks.extend(r32_replace::checks_at_the_end());
    checks.push(Check::new(
        "r28_multikernel::a_member_that_does_not_answer_is_left_out_and_comes_in_anew",
        silence,
    ));
    checks
}

pub fn member(slot: usize) -> GuestConfig {
    let core = u32::try_from(slot).unwrap_or(u32::MAX);
    GuestConfig { command_line: "pace=poll".into(), ..guest(MEMBERS[slot - 1], "multikernel", core) }
}

/// Starts a member, and waits until all that there are then have begun the epoch with it.
pub fn start(client: &Client, slot: usize, all: &[usize]) -> Result<()> {
    start_as(client, member(slot), slot, all)
}

/// The same, of a member that is described so.
pub fn start_as(client: &Client, member: GuestConfig, slot: usize, all: &[usize]) -> Result<()> {
    let mut consoles: Vec<(usize, Console, String)> = Vec::new();
    for &other in all.iter().filter(|&&other| other != slot) {
        let mut console = Console::new(client, MEMBERS[other - 1]);
        console.read(false)?;
        consoles.push((other, console, String::new()));
    }
    client.create(member)?;
    consoles.push((slot, Console::new(client, MEMBERS[slot - 1]), String::new()));
    if all == [slot] {
        return said(client, slot, &format!("core {slot} of")).map(drop);
    }
    let members: Vec<String> = all.iter().map(usize::to_string).collect();
    let epoch = format!(": {{{}}}", members.join(", "));
    for (other, console, text) in &mut consoles {
        until(&format!("epoch{epoch} at {other}"), || {
            text.push_str(&String::from_utf8_lossy(&console.read(false)?));
            Ok(text.contains(&epoch).then_some(()))
        })?;
    }
    Ok(())
}

/// Waits until a member has said this; the line.
pub fn said(client: &Client, slot: usize, what: &str) -> Result<String> {
    let name = MEMBERS[slot - 1];
    until(&format!("`{what}` of {name}"), || {
        let printed = mesh::printed(client, name)?;
        Ok(printed
            .split_inclusive('\n')
            .find(|line| line.ends_with('\n') && line.contains(what))
            .map(str::to_owned))
    })
}

/// Types a line at a member and waits for the answer, which begins like `answer`.
pub fn ask(client: &Client, slot: usize, line: &str, answer: &str) -> Result<String> {
    mesh::ask(client, MEMBERS[slot - 1], line, &format!("multikernel: {answer}"))
}

/// A member that agrees with the others without end, so often at a time.
pub fn agreements(client: &Client, slot: usize, operations: u32) -> Result<Load<'_>> {
    let answer = ("bench 2pc: ", format!("{operations} operations"));
    Load::new(client, MEMBERS[slot - 1], &format!("bench 2pc {operations}"), answer)
}

/// A member that calls a service without end, so often at a time, with eight calls in flight.
pub fn calls<'client>(client: &'client Client, slot: usize, calls: u32) -> Result<Load<'client>> {
    let answer = ("call service/sum: ", format!("{calls} calls, 0 wrong"));
    Load::new(client, MEMBERS[slot - 1], &format!("call service/sum {calls} 8"), answer)
}

/// What a monitor has done: lines sent, and ticks.
pub fn counts(client: &Client, slot: usize) -> Result<(u64, u64)> {
    let line = ask(client, slot, "counts", "counts:")?;
    let number = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.trim().split(',').next()?.parse().ok()
    };
    number("lines out").zip(number("ticks")).ok_or_else(|| wrong(format!("no counts: {line}")))
}

/// What one kind of operation costs.
#[derive(Debug)]
struct Cost {
    members: u64,
    messages: u64,
    initiator: u64,
    other: u64,
    ticks: u64,
}

fn cost(client: &Client, members: usize, phases: &str) -> Result<Cost> {
    // All has been done once before it is counted.
    ask(client, 1, &format!("bench {phases} 10"), "bench")?;
    let look = || (1..=members).map(|slot| counts(client, slot)).collect::<Result<Vec<_>>>();
    let before = look()?;
    let exits_before = client.list()?;
    let line = ask(client, 1, &format!("bench {phases} {OPERATIONS}"), "bench")?;
    let exits_after = client.list()?;
    let after = look()?;
    for name in &MEMBERS[1..members] {
        let (old, new) = (mesh::find(&exits_before, name)?, mesh::find(&exits_after, name)?);
        ensure!(old.exits == new.exits, "{name} had exits: {:?}, then {:?}", old.exits, new.exits);
    }
    // The one that is told to by its console answers there: events, and nothing else.
    mesh::exits_are_events_sent(
        mesh::find(&exits_before, MEMBERS[0])?,
        mesh::find(&exits_after, MEMBERS[0])?,
    )?;
    let ticks = line.split(", ").find_map(|part| part.strip_suffix(" ticks")?.parse::<u64>().ok());
    let ticks = ticks.ok_or_else(|| wrong(format!("not the end of a bench: {line}")))?;
    let spent = |slot: usize| (after[slot].1 - before[slot].1) / OPERATIONS;
    let lines: u64 = before.iter().zip(&after).map(|(before, after)| after.0 - before.0).sum();
    ensure!(lines.is_multiple_of(OPERATIONS), "{lines} lines for {OPERATIONS} operations");
    Ok(Cost {
        members: members as u64,
        messages: lines / OPERATIONS,
        initiator: spent(0),
        other: (1..members).map(spent).sum::<u64>() / (members as u64 - 1),
        ticks: ticks / OPERATIONS,
    })
}

/// The messages are 2 or 4 for each member but the initiator; so is the initiator's work the same for each more, and the
/// work of the others does not depend on how many they are. Nobody has an exit for it.
fn costs(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    start(client, 1, &[1])?;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for members in 2..=4 {
        let all: Vec<usize> = (1..=members).collect();
        start(client, members, &all)?;
        one.push(cost(client, members, "1pc")?);
        two.push(cost(client, members, "2pc")?);
    }
    for (name, each, costs) in [("1pc", 2, &one), ("2pc", 4, &two)] {
        for cost in costs {
            let Cost { members, messages, initiator, other, ticks } = cost;
            println!(
                "{name}, {members} members: {messages} messages, {initiator} instructions of the initiator's monitor, \
                 {other} of each other, {ticks} ticks in all"
            );
            ensure!(cost.messages == each * (cost.members - 1), "{name}: {cost:?}");
        }
        if let [first, second, third] = &costs[..] {
            let (more, still_more) = (second.initiator - first.initiator, third.initiator - second.initiator);
            ensure!(
                more.abs_diff(still_more) <= more / 4,
                "{name} is not linear at the initiator: {costs:?}"
            );
            let others = [first.other, second.other, third.other];
            let (least, most) = others.iter().fold((u64::MAX, 0), |(l, m), &o| (l.min(o), m.max(o)));
            ensure!(most - least <= least / 4, "{name} depends on how many they are: {costs:?}");
        }
    }
    Ok(())
}

fn names(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    ask(client, 2, "register service/disk", "register service/disk: done")?;
    for slot in 1..=4 {
        said(client, slot, "service/disk is on core 2")?;
        let names = ask(client, slot, "names", "names:")?;
        ensure!(names.contains(" service/disk@2"), "{slot} says {names}");
    }
    let refused = ask(client, 3, "register service/disk", "register service/disk:")?;
    ensure!(refused.contains("refused"), "{refused}");
    Ok(())
}

/// The accounts of a member, as it tells them now.
fn told(client: &Client, slot: usize) -> Result<Vec<Account>> {
    let name = MEMBERS[slot - 1];
    let (before, _) = client.accounts(name)?;
    until("the accounts", || {
        let (told, accounts) = client.accounts(name)?;
        Ok((told > before).then_some(accounts))
    })
}

/// What a core has paid here.
fn paid(accounts: &[Account], core: u32) -> u64 {
    accounts
        .iter()
        .find(|account| account.is_core && account.number == core)
        .map_or(0, |account| account.paid)
}

/// Clients on two other cores and one on its own call a server: each pays for what was done for it.
fn accounts(stage: &mut Stage) -> Result<()> {
    const CALLS: u64 = 1000;
    let client = &stage.session()?.client;
    ask(client, 2, "serve service/sum", "serve service/sum: done")?;
    let mut before = told(client, 2)?;
    for slot in [1, 3, 2] {
        let answer = ask(client, slot, &format!("call service/sum {CALLS} 8"), "call service/sum:")?;
        ensure!(answer.contains(&format!("{CALLS} calls, 0 wrong")), "{slot}: {answer}");
        let after = told(client, 2)?;
        let spent = [1, 3].map(|core| (paid(&after, core) - paid(&before, core)) / CALLS);
        println!("{answer}; of core 2's time core 1 paid {} ticks a call, core 3 {}", spent[0], spent[1]);
        for (core, spent) in [1, 3].into_iter().zip(spent) {
            ensure!((spent > 100) == (core == slot), "core {core} paid {spent} ticks a call of core {slot}");
        }
        before = after;
    }
    let task = |name: &str| before.iter().find(|account| !account.is_core && account.name == name);
    let monitor = task("monitor").ok_or_else(|| wrong(format!("no monitor: {before:?}")))?;
    ensure!(monitor.worked > monitor.paid, "others pay for what the monitor does for them: {monitor:?}");
    Ok(())
}

/// Calls that come with a page of 4 KiB: a line there and a line back, and one in sixteen for room.
fn pages(stage: &mut Stage) -> Result<()> {
    const CALLS: u64 = 400;
    let client = &stage.session()?.client;
    for slot in [1, 3, 2] {
        let (before, _) = counts(client, slot)?;
        let answer = ask(client, slot, &format!("call service/sum {CALLS} 4 pages"), "call service/sum:")?;
        ensure!(answer.contains(&format!("{CALLS} calls, 0 wrong")), "{slot}: {answer}");
        let lines = counts(client, slot)?.0 - before;
        println!("with a page each: {answer}, {lines} lines");
        let most = if slot == 2 { 0 } else { CALLS + CALLS / 8 };
        ensure!(lines <= most, "{lines} lines of core {slot} for {CALLS} pages");
    }
    Ok(())
}

/// Another kernel takes over the server's core while clients on two others call, and others fail to. No call is lost or
/// answered twice, and the other members notice nothing.
fn replaces(stage: &mut Stage) -> Result<()> {
    replaces_under_calls(&stage.session()?.client, 4, 20, 5_000)
}

/// The same among so many members with so many orders, while the first and the third call the second, so often at a time.
pub fn replaces_under_calls(client: &Client, members: usize, orders: usize, at_a_time: u32) -> Result<()> {
    const FAILURES: [&str; 10] = ["", "read", "", "mesh", "", "monitor", "", "built", "", "damaged"];
    let epochs = |slot: usize| -> Result<usize> {
        Ok(mesh::printed(client, MEMBERS[slot - 1])?.matches("epoch").count())
    };
    let before = (1..=members).map(epochs).collect::<Result<Vec<_>>>()?;
    let mut callers = [calls(client, 1, at_a_time)?, calls(client, 3, at_a_time)?];
    let mut ticks = Vec::new();
    for failure in FAILURES.into_iter().cycle().take(orders) {
        for caller in &mut callers {
            caller.keep_up()?;
        }
        let line = ask(client, 2, format!("replace {failure}").trim(), "replace: ")?;
        ensure!(line.contains("took over") == failure.is_empty(), "{failure}: {line}");
        if failure.is_empty() {
            let took =
                line.rsplit(", ").next().and_then(|part| part.strip_suffix(" ticks")?.parse::<u64>().ok());
            ticks.push(took.ok_or_else(|| wrong(format!("no ticks: {line}")))?);
        }
    }
    let done = callers.into_iter().map(Load::end).sum::<Result<u32>>()?;
    let after = (1..=members).map(epochs).collect::<Result<Vec<_>>>()?;
    ensure!(before == after, "epochs began: {before:?}, then {after:?}");
    ticks.sort_unstable();
    println!(
        "{orders} orders under {done} times {at_a_time} calls, {} kernels took over, the median in {} ticks",
        ticks.len(),
        ticks[ticks.len() / 2]
    );
    Ok(())
}

/// All four want the same memory at once.
fn retypes(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    for slot in 2..=4 {
        ask(client, 1, &format!("copy {slot}"), &format!("copy {slot}: done"))?;
    }
    let line = "retype 65536 8192";
    for name in MEMBERS {
        client.input(name, format!("{line}\n").as_bytes())?;
    }
    let mut winners = Vec::new();
    for slot in 1..=4 {
        let answer = said(client, slot, &format!("{line}:"))?;
        if answer.contains(": done") {
            winners.push(slot);
        } else {
            ensure!(answer.contains("refused: State(5)"), "{slot} says {answer}");
        }
    }
    ensure!(winners.len() == 1, "{winners:?} have won");
    Ok(())
}

/// A frame is retyped, shared, mapped, unmapped, deleted and revoked. When its unmapping is done nobody can look at it, by what is
/// left in a TLB neither: who looks has a page fault.
fn frames(stage: &mut Stage) -> Result<()> {
    const FRAME: u64 = 1 << 20;
    let client = &stage.session()?.client;
    let done = |slot: usize, line: &str| ask(client, slot, line, &format!("{line}: done"));
    done(1, &format!("retype {FRAME} 8192"))?;
    for slot in 2..=4 {
        done(1, &format!("copy {slot} {FRAME}"))?;
    }
    for slot in 1..=4 {
        done(slot, &format!("map {FRAME}"))?;
        done(slot, &format!("poke {FRAME} {slot}"))?;
        ask(client, slot, &format!("peek {FRAME}"), &format!("peek {FRAME}: {slot}"))?;
    }
    // In another kernel it is mapped still, with what was in it.
    ask_replace(client, 3, Some("successor"), Some("pace=poll"))?;
    ask(client, 3, &format!("peek {FRAME}"), &format!("peek {FRAME}: 3"))?;
    done(2, &format!("unmap {FRAME}"))?;
    for slot in 1..=4 {
        let told = ask(client, slot, "frames", "frames:")?;
        ensure!(told.contains(&format!(" {FRAME}+8192@{{1, 2, 3, 4}};")), "{slot} says {told}");
    }
    done(1, &format!("map {FRAME}"))?;
    done(4, &format!("delete {FRAME}"))?;
    let refused = ask(client, 4, &format!("map {FRAME}"), &format!("map {FRAME}: refused"))?;
    ensure!(refused.contains("does not hold it"), "{refused}");
    done(2, &format!("revoke {FRAME}"))?;
    let told = ask(client, 1, "frames", "frames:")?;
    ensure!(told.contains(&format!(" {FRAME}+8192@{{2}};")), "1 says {told}");
    client.input(MEMBERS[0], format!("peek {FRAME}\n").as_bytes())?;
    for slot in 2..=4 {
        said(client, slot, ": {2, 3, 4}")?;
    }
    let printed = mesh::printed(client, MEMBERS[0])?;
    let fault = format!("cr2 {:#x}", (1u64 << 40) + FRAME);
    ensure!(printed.contains("exception 14") && printed.contains(&fault), "1 had no page fault: {printed}");
    client.destroy(MEMBERS[0])?;
    start(client, 1, &[1, 2, 3, 4])?;
    client.destroy(MEMBERS[2])?;
    start(client, 3, &[1, 2, 3, 4])
}

/// A member dies; its names go with it, the others go on, and in its next life it comes in again.
fn death(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    client.destroy(MEMBERS[1])?;
    for slot in [1, 3, 4] {
        said(client, slot, ": {1, 3, 4}")?;
        said(client, slot, "service/disk is gone")?;
    }
    ask(client, 4, "register service/disk", "register service/disk: done")?;
    start(client, 2, &[1, 2, 3, 4])?;
    let names = ask(client, 2, "names", "names:")?;
    ensure!(names.contains(" service/disk@4"), "{names}");
    for name in MEMBERS {
        client.destroy(name)?;
    }
    mesh::audit(client).map(drop)
}

/// A member is paused, and nobody misses it until something waits for it: then it is left out after the others' patience,
/// and what waited is done. When it goes on, it comes in anew and knows all that.
fn silence(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    for domain in client.list()?.iter().filter(|domain| MEMBERS.contains(&domain.name.as_str())) {
        client.destroy(&domain.name)?;
    }
    for slot in 1..=3 {
        client.create(GuestConfig { command_line: "pace=poll patience=100".into(), ..member(slot) })?;
        said(client, slot, &format!("core {slot} of"))?;
    }
    let all_are_in = |epochs: usize| {
        until("all three in one epoch", || {
            let told = |slot: usize| {
                mesh::printed(client, MEMBERS[slot - 1]).map(|text| text.matches(": {1, 2, 3}").count())
            };
            Ok((told(1)? >= epochs && told(2)? >= epochs && told(3)? >= epochs).then_some(()))
        })
    };
    all_are_in(1)?;
    // The steward, and one that is not.
    for (round, silent, asks) in [(1, 3, 1), (2, 1, 2)] {
        client.pause(MEMBERS[silent - 1])?;
        ask(
            client,
            asks,
            &format!("register service/in{round}"),
            &format!("register service/in{round}: done"),
        )?;
        for slot in (1..=3).filter(|&slot| slot != silent) {
            said(client, slot, &format!("core {silent} does not answer, and is left out"))?;
        }
        client.unpause(MEMBERS[silent - 1])?;
        said(client, silent, "left out by the others; comes in anew")?;
        all_are_in(round + 1)?;
        let names = ask(client, silent, "names", "names:")?;
        ensure!(names.contains(&format!(" service/in{round}@{asks}")), "{names}");
        ask(
            client,
            silent,
            &format!("register service/of{silent}"),
            &format!("register service/of{silent}: done"),
        )?;
    }
    for name in MEMBERS.into_iter().take(3) {
        client.destroy(name)?;
    }
    mesh::audit(client).map(drop)
}
