//! A device between two guests: found in xenstore, connected, used at depths 1 and 32, closed and opened; either end dies in
//! the middle of its work and comes back; a hostile front end beside an honest one. Nothing stays mapped.

use abi::control::{
    hypercall::ExitKind,
    wire::{DeviceConfig, Domain, GuestConfig, State},
};
use ladder::{Check, Result, Stage, ensure, mesh, stage::no_guests, watch::until, wrong};
use toolstack::{
    config::{Config, guest},
    control::Client,
};

const BACK: &str = "store";
const FRONT: &str = "user";
const HOSTILE: &str = "hostile";
/// Blocks of the back end.
const BLOCKS: u64 = 64;

pub fn machine() -> Config {
    no_guests(4)
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r23_device::two_guests_find_each_other_and_connect", connect),
        Check::new("r23_device::exits_a_request_at_depth_1_and_32", exits),
        Check::new("r23_device::who_polls_gets_no_events", polling),
        Check::new("r23_device::closed_and_opened_again", reopened),
        Check::new("r23_device::the_front_end_dies_in_the_middle", front_dies),
        Check::new("r23_device::the_back_end_dies_in_the_middle_and_comes_back", back_dies),
        Check::new("r23_device::a_hostile_front_end_harms_nobody", hostile),
        Check::new("r23_device::nothing_is_left", ends),
    ]
}

fn back() -> GuestConfig {
    GuestConfig { mesh: false, command_line: "echo=back pace=halt".into(), ..guest(BACK, "echo", 1) }
}

fn user(name: &str, role: &str, core: u32) -> GuestConfig {
    let device = DeviceConfig { kind: "echo".into(), backend: BACK.into(), parameters: vec![] };
    let command_line = format!("echo={role} pace=halt");
    GuestConfig { mesh: false, command_line, devices: vec![device], ..guest(name, "echo", core) }
}

/// How often a guest has said this.
fn times(client: &Client, name: &str, what: &str) -> Result<usize> {
    Ok(mesh::printed(client, name)?.lines().filter(|line| line.contains(what)).count())
}

/// Waits until a guest has said this once more than `before`.
fn says_again(client: &Client, name: &str, what: &str, before: usize) -> Result<()> {
    until(&format!("`{what}` of {name}"), || Ok((times(client, name, what)? > before).then_some(())))
}

/// Types something, and waits for what it brings.
fn ask(client: &Client, name: &str, what: &str, answer: &str) -> Result<()> {
    let before = times(client, name, answer)?;
    client.input(name, format!("{what}\n").as_bytes())?;
    says_again(client, name, answer, before)
}

fn check(client: &Client, what: &str) -> Result<()> {
    ask(client, FRONT, what, &format!("echo: {BLOCKS} blocks, 0 wrong"))
}

/// How many pages of one guest another has mapped. Each guest has two of domain 0's: its console and its store.
fn shared(client: &Client) -> Result<u64> {
    let report = mesh::audit(client)?;
    let of_domain_0 = 2 * report.domains.saturating_sub(1);
    let guests = report.shared.checked_sub(of_domain_0);
    guests.ok_or_else(|| wrong(format!("guests lack their consoles or stores: {report:?}")))
}

/// A node's value and permissions, where it is there.
fn node(client: &Client, path: &str) -> Option<(String, Vec<String>)> {
    let node = client.xenstore_node(path).ok()?;
    Some((String::from_utf8_lossy(&node.value).into_owned(), node.permissions))
}

/// Where the device's nodes are: those of the front end, and of the back end.
fn paths(client: &Client, front: &str) -> Result<(String, String)> {
    let (front, back) = (client.domain(front)?.id, client.domain(BACK)?.id);
    Ok((
        format!("/local/domain/{front}/device/echo/0"),
        format!("/local/domain/{back}/backend/echo/{front}/0"),
    ))
}

/// Waits until both ends say, in xenstore, that they are in this state.
fn both(client: &Client, front: &str, state: &str) -> Result<()> {
    until(&format!("state {state} of the device of {front}"), || {
        let (here, there) = paths(client, front)?;
        for path in [here, there] {
            let now = node(client, &format!("{path}/state"));
            if now.is_none_or(|(now, _)| now != state) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

fn connect(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    client.create(back())?;
    client.create(user(FRONT, "front", 2))?;
    both(client, FRONT, "4")?;
    let (here, there) = paths(client, FRONT)?;
    let (front, back) = (client.domain(FRONT)?.id, client.domain(BACK)?.id);
    for (path, expected) in [
        (format!("{here}/backend"), there.clone()),
        (format!("{here}/backend-id"), back.to_string()),
        (format!("{there}/frontend"), here.clone()),
        (format!("{there}/frontend-id"), front.to_string()),
        (format!("{there}/online"), "1".into()),
        (format!("{there}/blocks"), BLOCKS.to_string()),
    ] {
        let found = node(client, &path).map(|(value, _)| value);
        ensure!(found.as_ref() == Some(&expected), "{path} is {found:?}, not {expected}");
    }
    for (path, owner, other) in [(&here, front, back), (&there, back, front)] {
        let permissions = node(client, &format!("{path}/state")).map(|(_, permissions)| permissions);
        let expected = vec![format!("n{owner}"), format!("r{other}")];
        ensure!(permissions.as_ref() == Some(&expected), "{path}: {permissions:?}");
    }
    let now = shared(client)?;
    ensure!(now == 1, "{now} pages are mapped, and the ring is one");
    check(client, "check 1")?;
    check(client, "verify 1")
}

/// Requests, hypercalls by the hypervisor's count, and events sent, of both ends.
fn run(client: &Client, depth: u64, count: u64) -> Result<(u64, u64)> {
    let sums = || -> Result<(u64, u64)> {
        let domains = client.list()?;
        let both = [FRONT, BACK].map(|name| mesh::find(&domains, name));
        let mut sum = (0, 0);
        for domain in both {
            let domain: &Domain = domain?;
            sum.0 += domain.exits[ExitKind::Hypercall as usize];
            sum.1 += domain.events_out;
        }
        Ok(sum)
    };
    let before = sums()?;
    ask(client, FRONT, &format!("run {depth} {count}"), &format!("echo: ran {count}, 0 wrong"))?;
    let after = sums()?;
    Ok((after.0 - before.0, after.1 - before.1))
}

/// The last figure of this name that the front end has printed.
fn figure(client: &Client, name: &str) -> Result<f64> {
    let printed = mesh::printed(client, FRONT)?;
    let line = printed.lines().rfind(|line| line.contains(&format!("\"{name}\"")));
    let median = line.and_then(|line| line.split_once("\"median\":")?.1.split(',').next()?.parse().ok());
    median.ok_or_else(|| wrong(format!("no figure {name}: {line:?}")))
}

/// What the ends count themselves, and what the hypervisor counts: printing and typing are some more.
fn exits(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    for (depth, count, most) in [(1, 2000, 3.1), (32, 9600, 0.1)] {
        let (hypercalls, _) = run(client, depth, count)?;
        let told = figure(client, &format!("ring_depth{depth}_exits"))?;
        ensure!(told <= most, "at depth {depth} a request costs {told} exits");
        let counted = hypercalls as f64 / count as f64;
        let printing = 60.0 / count as f64;
        ensure!(
            (told..=told + printing).contains(&counted),
            "at depth {depth} they count {told} exits a request, and the hypervisor {counted}"
        );
        for (end, most) in [("front", 4000.0), ("back", 4000.0), ("hypervisor", 4000.0)] {
            let cost = figure(client, &format!("ring_depth{depth}_{end}"))?;
            ensure!((1.0..most).contains(&cost), "depth {depth}: {cost} instructions a request, {end}");
        }
    }
    Ok(())
}

fn polling(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    for name in [FRONT, BACK] {
        ask(client, name, "pace poll", "echo: pace is poll")?;
    }
    // Either may have asked for an event before it began to poll; typing and printing are the rest.
    let (_, events) = run(client, 1, 2000)?;
    ensure!(events < 60, "{events} events were sent to ends that poll");
    for name in [FRONT, BACK] {
        ask(client, name, "pace halt", "echo: pace is halt")?;
    }
    let (_, events) = run(client, 1, 2000)?;
    ensure!(events >= 4000, "{events} events were sent to ends that sleep");
    Ok(())
}

fn reopened(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let connected = shared(client)?;
    check(client, "check 3")?;
    for _ in 0..3 {
        client.input(FRONT, b"close\n")?;
        until("the end of the ring's mapping", || Ok((shared(client)? == connected - 1).then_some(())))?;
        let (here, _) = paths(client, FRONT)?;
        let state = node(client, &format!("{here}/state")).map(|(state, _)| state);
        ensure!(state.as_deref() == Some("6"), "a device that is closed is in state {state:?}");
        client.input(FRONT, b"open\n")?;
        both(client, FRONT, "4")?;
        ensure!(shared(client)? == connected, "the ring is not mapped, or something else is");
    }
    check(client, "verify 3")
}

/// Waits until the stream has come this far on.
fn streams(client: &Client, when: &str) -> Result<()> {
    let answers = || -> Result<u64> {
        ask(client, FRONT, "count", " answers, 0 wrong")?;
        let printed = mesh::printed(client, FRONT)?;
        let line = printed.lines().rfind(|line| line.ends_with(" answers, 0 wrong"));
        let answers = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        answers.ok_or_else(|| wrong(format!("no count: {line:?}")))
    };
    let before = answers()?;
    until(&format!("more answers {when}"), || Ok((answers()? > before + 100).then_some(())))
}

fn front_dies(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let connected = shared(client)?;
    ask(client, FRONT, "stream", "echo: stream")?;
    streams(client, "before the end")?;
    let (_, there) = paths(client, FRONT)?;
    client.destroy(FRONT)?;
    says_again(client, BACK, " went", 0)?;
    ensure!(shared(client)? == connected - 1, "the dead front end's ring is still mapped");
    ensure!(node(client, &there).is_none(), "the device is still there: {there}");
    client.create(user(FRONT, "front", 2))?;
    both(client, FRONT, "4")?;
    ensure!(shared(client)? == connected, "the ring is not mapped, or something else is");
    check(client, "check 4")
}

fn back_dies(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let connected = shared(client)?;
    ask(client, FRONT, "stream", "echo: stream")?;
    streams(client, "before the end")?;
    let (here, _) = paths(client, FRONT)?;
    client.destroy(BACK)?;
    says_again(client, FRONT, " went", 0)?;
    ensure!(node(client, &here).is_none(), "the device is still there: {here}");
    mesh::audit(client)?;
    client.create(back())?;
    both(client, FRONT, "4")?;
    ensure!(shared(client)? == connected, "the ring is not mapped, or something else is");
    // What was under way is done by the new one.
    streams(client, "of the new back end")?;
    check(client, "check 5")
}

fn hostile(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let connected = shared(client)?;
    ask(client, FRONT, "stream", "echo: stream")?;
    client.create(user(HOSTILE, "hostile", 3))?;
    says_again(client, HOSTILE, "echo: hostile done", 0)?;
    let printed = mesh::printed(client, HOSTILE)?;
    let acts: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("echo: hostile ")).collect();
    let expected = [
        "References: Answered",
        "Revoked: Answered",
        "ReadOnly: Answered",
        "Nonsense: Answered",
        "ClosedPort: Answered",
        "Torn: Disconnected",
        "FarAhead: Disconnected",
        "Backwards: Disconnected",
        "Keys: Disconnected",
        "done",
    ];
    ensure!(acts == expected, "the hostile guest's acts: {acts:?}");
    ensure!(client.domain(BACK)?.state == State::Running, "the back end is dead");
    streams(client, "after all that")?;
    ensure!(shared(client)? == connected, "something of the hostile guest's is still mapped");
    client.destroy(HOSTILE)?;
    check(client, "check 6")?;
    ensure!(shared(client)? == connected, "something is still mapped");
    Ok(())
}

fn ends(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    client.destroy(FRONT)?;
    client.destroy(BACK)?;
    let free = client.machine()?.frames_free;
    for _ in 0..3 {
        client.create(back())?;
        client.create(user(FRONT, "front", 2))?;
        both(client, FRONT, "4")?;
        // By turns: the back end first and the front end first.
        client.destroy(BACK)?;
        client.destroy(FRONT)?;
        mesh::audit(client)?;
        let now = client.machine()?.frames_free;
        ensure!(now == free, "{free} frames were free before they came, and {now} after they went");
    }
    Ok(())
}
