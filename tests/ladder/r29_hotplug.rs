//! Cores that go offline and come back under message load: nothing is lost, the others do not wait, and it is quick.

use abi::control::wire::{GuestConfig, Kept, Policy, State};
use ladder::{Check, Result, Stage, ensure, mesh, stage::no_guests, watch::until, wrong};
use toolstack::{
    config::Config,
    control::Client,
    verbs::core::{ask_offline, ask_replace},
};

use crate::r28_multikernel::{self as multi, MEMBERS};
use crate::r32_replace::IMAGES;

/// Guests that exchange messages all the time.
const MESH: [&str; 3] = ["mesh1", "mesh2", "mesh3"];
/// Cycles of a core with a guest that exchanges messages.
const CYCLES: u32 = 884;
/// Times that two guests change places: an even number, so that each is where it was in the end.
const MOVES: u32 = 16;
/// Cycles of a core with a member of the multikernel, whose kernel is replaced in each.
const MEMBER_CYCLES: u32 = 100;
/// Ticks from request to done, at domain 0.
const OFFLINE: u64 = 200_000;
const ONLINE: u64 = 2_000_000;
/// Ticks from the end of a guest to the first word of its next life. The last words of one that panics go to the serial line
/// first, at 4,340 ticks a character.
const RESTARTS: [&str; 2] = ["hang", "panic"];
const RESTART: u64 = 5_000_000;

pub fn machine() -> Config {
    no_guests(4)
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r29_hotplug::an_idle_core_comes_and_goes", idle),
        Check::new("r29_hotplug::refusals_say_how_to_mend_it", refusals),
        Check::new("r29_hotplug::cores_go_and_come_under_load_and_no_message_is_lost", cycles),
        Check::new("r29_hotplug::the_others_messages_take_no_longer_meanwhile", latency),
        Check::new("r29_hotplug::guests_go_on_on_other_cores", other_cores),
        Check::new("r29_hotplug::members_leave_their_epoch_come_back_and_get_another_kernel", members),
        Check::new("r29_hotplug::a_member_that_dies_on_its_way_leaves_an_empty_core", death),
        Check::new("r29_hotplug::a_member_that_nobody_lets_go_is_frozen_and_goes_on", frozen),
        Check::new("r29_hotplug::members_that_hang_or_panic_are_restarted", restart),
    ]
}

/// The longest of many, each within its limit.
#[derive(Default)]
struct Longest {
    offline: u64,
    online: u64,
}

impl Longest {
    fn off(&mut self, client: &Client, core: u32) -> Result<Option<(String, Kept)>> {
        let off = ask_offline(client, core)?;
        ensure!(off.ticks <= OFFLINE, "core {core} took {} ticks to go, {OFFLINE} at most", off.ticks);
        self.offline = self.offline.max(off.ticks);
        Ok(off.guest)
    }

    fn on(&mut self, client: &Client, core: u32, guest: Option<&str>) -> Result<Option<String>> {
        let (_, guest, ticks) = client.core_online(core, guest, false)?;
        ensure!(ticks <= ONLINE, "core {core} took {ticks} ticks to come, {ONLINE} at most");
        self.online = self.online.max(ticks);
        Ok(guest)
    }

    fn tell(&self, what: &str) {
        println!("{what}: offline within {} ticks, online within {}", self.offline, self.online);
    }
}

fn idle(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let mut longest = Longest::default();
    for core in [1, 2, 3] {
        ensure!(longest.off(client, core)?.is_none(), "core {core} kept somebody");
    }
    let cores = client.cores()?;
    ensure!(cores[0].is_online && !cores[1..].iter().any(|core| core.is_online), "{cores:?}");
    for core in [2, 1, 3] {
        longest.on(client, core, None)?;
    }
    ensure!(client.cores()?.iter().all(|core| core.is_online), "not all came back");
    longest.tell("idle cores");
    mesh::audit(client).map(drop)
}

fn refusals(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let refused = |what: toolstack::error::Result<()>, word: &str| match what {
        Err(error) if error.to_string().contains(word) => Ok(()),
        other => Err(wrong(format!("{other:?} does not say `{word}`"))),
    };
    let off = |core| client.core_offline(core).map(drop);
    let on = |core, guest| client.core_online(core, guest, false).map(drop);
    refused(off(0), "stays online")?;
    refused(off(4), "no core 4")?;
    refused(on(0, None), "stays online")?;
    refused(on(1, None), "is online")?;
    refused(on(1, Some("nobody")), "no guest named")?;
    off(3)?;
    refused(off(3), "atoll core online 3")?;
    refused(client.create(mesh::member(3, 8, "")).map(drop), "core 3 is offline")?;
    on(3, None)?;
    Ok(())
}

fn start_mesh(client: &Client) -> Result<()> {
    for core in 1..=3 {
        client.create(mesh::member(core, 8, "pace=poll"))?;
    }
    mesh::go_on(client, &MESH, "at the start")
}

/// One core after the other; the others talk on meanwhile, and all of them after.
fn cycles(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    start_mesh(client)?;
    let mut longest = Longest::default();
    for cycle in 0..CYCLES {
        let core = cycle % 3 + 1;
        let name = MESH[core as usize - 1];
        let kept = longest.off(client, core)?;
        ensure!(kept == Some((name.into(), Kept::Suspended)), "core {core} keeps {kept:?}");
        if cycle % 30 == 0 {
            let others: Vec<&str> = MESH.into_iter().filter(|other| *other != name).collect();
            mesh::go_on(client, &others, &format!("without {name}"))?;
            ensure!(mesh::find(&client.list()?, name)?.state == State::Kept, "{name} is not kept");
        }
        ensure!(longest.on(client, core, None)?.as_deref() == Some(name), "core {core} came without {name}");
        if cycle % 30 == 0 {
            mesh::go_on(client, &MESH, &format!("with {name} again"))?;
            mesh::audit(client)?;
        }
    }
    longest.tell(&format!("{CYCLES} cycles"));
    mesh::go_on(client, &MESH, "after all cycles")?;
    mesh::none_lost(client, &MESH)
}

/// How many answers of mesh3 to mesh1 came since it was asked last, and what 99 of 100 of them took at most.
fn answers(client: &Client) -> Result<(u64, u64)> {
    let line = mesh::ask(client, MESH[0], "latency 3", "mesh: latency to 3: ")?;
    let number = |text: &str| text.split_whitespace().next()?.parse::<u64>().ok();
    let parts: Vec<u64> =
        line.rsplit(": ").next().into_iter().flat_map(|rest| rest.split(", ")).filter_map(number).collect();
    let &[answers, _, most_of, _] = &parts[..] else { return Err(wrong(format!("no latency: {line}"))) };
    Ok((answers, most_of))
}

/// The same of a thousand and more.
fn answers_within(client: &Client) -> Result<u64> {
    let (answers, most_of) = answers(client)?;
    ensure!(answers >= 1000, "only {answers} answers");
    Ok(most_of)
}

fn latency(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    // From here on they are counted.
    answers(client)?;
    for time in 0..5 {
        mesh::go_on(client, &MESH, &format!("undisturbed, {time}"))?;
    }
    let undisturbed = answers_within(client)?;
    let mut longest = Longest::default();
    for _ in 0..20 {
        longest.off(client, 2)?;
        longest.on(client, 2, None)?;
    }
    let meanwhile = answers_within(client)?;
    println!(
        "99 of 100 answers within {undisturbed} ticks, and within {meanwhile} while core 2 goes and comes"
    );
    ensure!(meanwhile <= 2 * undisturbed, "{undisturbed} ticks undisturbed, {meanwhile} meanwhile");
    Ok(())
}

/// Two guests change places, and change back.
fn other_cores(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let mut longest = Longest::default();
    for time in 0..MOVES {
        longest.off(client, 2)?;
        longest.off(client, 3)?;
        let (two, three) = if time % 2 == 0 { (MESH[2], MESH[1]) } else { (MESH[1], MESH[2]) };
        for (core, name) in [(2, two), (3, three)] {
            ensure!(
                longest.on(client, core, Some(name))?.as_deref() == Some(name),
                "{name} is not on core {core}"
            );
            let cores = mesh::find(&client.list()?, name)?.cores.clone();
            ensure!(cores == [core], "{name} is on {cores:?}");
        }
    }
    longest.tell("change of places");
    mesh::go_on(client, &MESH, "after many moves")?;
    mesh::none_lost(client, &MESH)?;
    for name in MESH {
        client.destroy(name)?;
    }
    for core in client.cores()?.iter().skip(1) {
        ensure!(core.is_online && core.guest.is_none() && core.keeps.is_none(), "{core:?}");
    }
    mesh::audit(client).map(drop)
}

fn start_members(client: &Client) -> Result<()> {
    for slot in 1..=3 {
        multi::start(client, slot, &(1..=slot).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// The line with which a member told of its last epoch.
fn epoch(client: &Client, slot: usize) -> Result<String> {
    let printed = mesh::printed(client, MEMBERS[slot - 1])?;
    Ok(printed.lines().rfind(|line| line.contains("epoch")).unwrap_or_default().to_owned())
}

/// A member asks the others without end, while one of these goes, comes and gets another kernel; what it asks is done once
/// and in order.
fn members(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    start_members(client)?;
    multi::ask(client, 3, "register service/disk", "register service/disk: done")?;
    let (mut longest, mut replaced) = (Longest::default(), 0);
    let mut load = multi::agreements(client, 1, 1_000)?;
    for cycle in 0..MEMBER_CYCLES {
        load.keep_up()?;
        let kept = longest.off(client, 2)?;
        ensure!(kept == Some((MEMBERS[1].into(), Kept::Suspended)), "core 2 keeps {kept:?}");
        longest.on(client, 2, None)?;
        let image = IMAGES[(cycle as usize + 1) % 2];
        replaced = replaced.max(ask_replace(client, 2, Some(image), None)?.ticks);
        let runs = mesh::find(&client.list()?, MEMBERS[1])?.image.clone();
        ensure!(runs == image, "core 2 runs {runs} for {image}");
        if cycle % 20 == 0 {
            mesh::audit(client)?;
        }
    }
    longest.tell(&format!("{MEMBER_CYCLES} cycles of a member"));
    println!("{MEMBER_CYCLES} kernels replaced, within {replaced} ticks; {},000 agreements", load.end()?);
    until("all three in one epoch again", || {
        let (first, second, third) = (epoch(client, 1)?, epoch(client, 2)?, epoch(client, 3)?);
        Ok((first.contains(": {1, 2, 3}") && first == second && second == third).then_some(()))
    })?;
    for slot in 1..=3 {
        let names = multi::ask(client, slot, "names", "names:")?;
        ensure!(names.trim() == "multikernel: names: service/disk@3", "{slot} says {names}");
    }
    mesh::audit(client).map(drop)
}

/// While member 1, the steward, is paused nobody can leave; so member 2 is destroyed on its way.
fn death(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    client.pause(MEMBERS[0])?;
    client.core_offline(2)?;
    client.destroy(MEMBERS[1])?;
    let guest = ask_left(client)?;
    ensure!(guest.is_none(), "core 2 keeps {guest:?}");
    client.unpause(MEMBERS[0])?;
    until("the others without it", || Ok(epoch(client, 3)?.ends_with(": {1, 3}").then_some(())))?;
    client.core_online(2, None, false)?;
    multi::start(client, 2, &[1, 2, 3])?;
    mesh::audit(client).map(drop)
}

fn ask_left(client: &Client) -> Result<Option<(String, Kept)>> {
    until("core 2 to be off", || Ok(client.core_left()?.map(|off| off.guest)))
}

/// The same, and nobody destroys it: it is frozen in the midst of it, and its leave comes to its end later.
fn frozen(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    client.pause(MEMBERS[0])?;
    client.core_offline(2)?;
    let guest = ask_left(client)?;
    ensure!(guest == Some((MEMBERS[1].into(), Kept::Frozen)), "core 2 keeps {guest:?}");
    client.core_online(2, None, false)?;
    client.unpause(MEMBERS[0])?;
    multi::said(client, 2, "resumed")?;
    multi::ask(client, 2, "register service/net", "register service/net: done")?;
    for slot in [1, 3] {
        multi::said(client, slot, "service/net is on core 2")?;
    }
    for name in MEMBERS.into_iter().take(3) {
        client.destroy(name)?;
    }
    mesh::audit(client).map(drop)
}

/// Members that hang and that panic are ended, leave the epoch by the same protocol as any that dies, and are restarted.
fn restart(stage: &mut Stage) -> Result<()> {
    let session = stage.session()?;
    let (client, log) = (&session.client, session.machine.log());
    for slot in [1, 3] {
        client.create(multi::member(slot))?;
    }
    until("the others", || Ok(epoch(client, 1)?.ends_with(": {1, 3}").then_some(())))?;
    let config = GuestConfig {
        watchdog: 1,
        on_watchdog: Policy::Restart,
        on_crash: Policy::Restart,
        memory_mib: 8,
        ..multi::member(2)
    };
    client.create(config)?;
    for (lives, last_word) in RESTARTS.into_iter().enumerate() {
        until("all three in one epoch", || {
            Ok((1..=3)
                .all(|slot| epoch(client, slot).is_ok_and(|line| line.ends_with(": {1, 2, 3}")))
                .then_some(()))
        })?;
        let before = epoch(client, 1)?;
        client.input(MEMBERS[1], format!("{last_word}\n").as_bytes())?;
        // Domain 0, which restarts it, is asked nothing meanwhile: its answers would take their time on the line.
        let told = format!("{} speaks again, ", MEMBERS[1]);
        until("its first word in its next life", || {
            Ok((log.text().matches(&told).count() > lives).then_some(()))
        })?;
        let guest = mesh::find(&client.list()?, MEMBERS[1])?.clone();
        ensure!(guest.restarts as usize == lives + 1, "it was restarted {} times", guest.restarts);
        let ticks = guest.recovery_ticks.ok_or_else(|| wrong("nobody knows how long that took"))?;
        println!("{last_word}: {ticks} ticks from its end to the first word of the next life");
        ensure!(ticks <= RESTART, "{ticks} ticks, {RESTART} at most");
        until("an epoch after that", || Ok((epoch(client, 1)? != before).then_some(())))?;
    }
    until("all three in one epoch at last", || {
        Ok((1..=3)
            .all(|slot| epoch(client, slot).is_ok_and(|line| line.ends_with(": {1, 2, 3}")))
            .then_some(()))
    })?;
    for name in MEMBERS.into_iter().take(3) {
        client.destroy(name)?;
    }
    mesh::audit(client).map(drop)
}
