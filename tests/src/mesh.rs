//! Looking at a mesh of guests: the counts that domain 0 keeps, and those that a guest itself tells when asked.

use abi::control::{
    hypercall::ExitKind,
    wire::{Domain, GuestConfig, State},
};
use toolstack::{
    config::{Config, guest},
    control::{Client, Console},
};

use crate::{Result, ensure, watch::until, wrong};

/// Messages that count as an exchange, not as the rest of one.
pub const ENOUGH: u64 = 300;

/// A mesh guest on this core, with this much memory and this command line.
pub fn member(core: u32, memory_mib: u32, command_line: &str) -> GuestConfig {
    GuestConfig {
        memory_mib,
        command_line: command_line.to_owned(),
        ..guest(&format!("mesh{core}"), "mesh", core)
    }
}

/// A machine with a mesh guest on each core from 1.
pub fn machine(cores: u32, command_line: &str) -> Config {
    Config::of_guests(cores, (1..cores).map(|core| member(core, 32, command_line)))
}

/// Where a guest is in a list. It must be there, and may not have crashed.
pub fn find<'list>(domains: &'list [Domain], name: &str) -> Result<&'list Domain> {
    let domain = domains.iter().find(|domain| domain.name == name);
    let domain = domain.ok_or_else(|| wrong(format!("{name} is in no list")))?;
    ensure!(domain.state != State::Crashed, "{name} crashed");
    Ok(domain)
}

/// Waits until each of these guests has received and sent [`ENOUGH`] more, by what domain 0 knows.
pub fn go_on(client: &Client, names: &[&str], when: &str) -> Result<()> {
    let before = client.list()?;
    until(&format!("messages of {} {when}", names.join(", ")), || {
        let now = client.list()?;
        for name in names {
            let new = find(&now, name)?;
            // A domain that was made anew counts from nought.
            let (received, sent) = match before.iter().find(|old| old.id == new.id) {
                Some(old) => (old.messages_in, old.messages_out),
                None => (0, 0),
            };
            if new.messages_in < received + ENOUGH || new.messages_out < sent + ENOUGH {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// What a mesh guest says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages received.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that were lost or came out of order.
    pub lost: u64,
    /// Peers that broke the rules of the ring.
    pub liars: u64,
}

/// Types a line into a mesh guest's console, upon which it tells its counts.
pub fn counts(client: &Client, name: &str) -> Result<Counts> {
    let mut console = Console::new(client, name);
    console.read(false)?;
    client.input(name, b"counts\n")?;
    let mut text = String::new();
    until(&format!("the counts of {name}"), || {
        text.push_str(&String::from_utf8_lossy(&console.read(false)?));
        Ok(text.split_inclusive('\n').filter(|line| line.ends_with('\n')).find_map(parse))
    })
}

fn parse(line: &str) -> Option<Counts> {
    let mut counts = Counts::default();
    for part in line.trim().strip_prefix("mesh: ")?.split(", ") {
        let (what, number) = part.split_once(' ')?;
        let number = number.parse().ok()?;
        match what {
            "received" => counts.received = number,
            "sent" => counts.sent = number,
            "lost" => counts.lost = number,
            "liars" => counts.liars = number,
            _ => return None,
        }
    }
    Some(counts)
}

/// How many answers a mesh guest has had from each peer, by slot.
fn answers(client: &Client, name: &str) -> Result<Vec<(u32, u64)>> {
    let line = ask(client, name, "answers", "mesh: answers")?;
    let pair =
        |pair: &str| pair.split_once(':').and_then(|(slot, n)| Some((slot.parse().ok()?, n.parse().ok()?)));
    Ok(line.split_whitespace().filter_map(pair).collect())
}

/// Waits until each of these guests has had more answers from each other one than can have been under way: where one message
/// was lost, or a channel stands still, no later one would come to tell of it.
fn all_answer_all(client: &Client, names: &[&str]) -> Result<()> {
    const WINDOW: u64 = 8;
    let slot = |name: &str| name.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse::<u32>();
    for name in names {
        let before = answers(client, name)?;
        for other in names.iter().filter(|other| *other != name) {
            let slot = slot(other).map_err(|_| wrong(format!("{other} has no number")))?;
            let of = |answers: &[(u32, u64)]| answers.iter().find(|(of, _)| *of == slot).map(|found| found.1);
            let before = of(&before).ok_or_else(|| wrong(format!("{name} has not heard of {other}")))?;
            until(&format!("answers of {other} to {name}"), || {
                Ok(of(&answers(client, name)?).is_some_and(|now| now > before + WINDOW).then_some(()))
            })?;
        }
    }
    Ok(())
}

/// None of these guests has lost a message, by what they say themselves and by what domain 0 has heard from them.
pub fn none_lost(client: &Client, names: &[&str]) -> Result<()> {
    all_answer_all(client, names)?;
    for name in names {
        let counts = counts(client, name)?;
        ensure!(counts.lost == 0, "{name} lost messages: {counts:?}");
    }
    let domains = client.list()?;
    for name in names {
        let lost = find(&domains, name)?.messages_lost;
        ensure!(lost == 0, "{name} reported {lost} messages as lost");
    }
    Ok(())
}

/// Between two looks at a guest, it has caused no exit but a hypercall for each event that it sent.
pub fn exits_are_events_sent(old: &Domain, new: &Domain) -> Result<()> {
    let events = new.events_out.saturating_sub(old.events_out);
    for &kind in ExitKind::ALL {
        let exits = new.exits[kind as usize].saturating_sub(old.exits[kind as usize]);
        // A look may fall between the count of a hypercall and that of its event.
        let (expected, slack) = if kind == ExitKind::Hypercall { (events, 1) } else { (0, 0) };
        let as_expected = exits.abs_diff(expected) <= slack;
        ensure!(as_expected, "{}: {exits} exits by {}, where {expected} belong", new.name, kind.label());
    }
    Ok(())
}

/// No host frame is where it should not be.
pub fn audit(client: &Client) -> Result<abi::control::hypercall::AuditReport> {
    let report = client.audit()?;
    let sound = [report.leaked, report.hypervisor, report.free, report.miscounted] == [0; 4];
    ensure!(sound, "the walk of every EPT found what must not be: {report:?}");
    Ok(report)
}

/// All that a guest has printed.
pub fn printed(client: &Client, name: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&Console::new(client, name).read(false)?).into_owned())
}

/// Types a line at a guest's console and waits for the line that answers it, which begins like `answer`.
pub fn ask(client: &Client, name: &str, line: &str, answer: &str) -> Result<String> {
    let mut console = Console::new(client, name);
    console.read(false)?;
    client.input(name, format!("{line}\n").as_bytes())?;
    let mut text = String::new();
    until(&format!("`{answer}` of {name}"), || {
        text.push_str(&String::from_utf8_lossy(&console.read(false)?));
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Ok(lines.map(str::trim).find(|line| line.starts_with(answer)).map(str::to_owned))
    })
}
