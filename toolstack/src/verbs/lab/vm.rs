//! Labs in a virtual machine: members of the multikernel as guests, whose monitors count what they do.

use std::{
    thread,
    time::{Duration, Instant},
};

use abi::control::wire::GuestConfig;

use super::{
    result::{Panel, Series, Verdict},
    two_phase::DEPTH,
};
use crate::{
    config::guest,
    control::{Client, Console},
    error::{Error, Result},
};

/// What the initiator's monitor does for an operation.
pub const INITIATOR: &str = "The initiator's monitor, an operation";
/// From request to done.
pub const TICKS: &str = "From request to done";
/// Lines sent by all.
pub const MESSAGES: &str = "Messages of an operation";

/// Operations that are counted.
const OPERATIONS: u64 = 100;
/// Numbers of members: up to all cores but domain 0's.
pub const MEMBERS: [usize; 6] = [2, 3, 4, 5, 6, 7];
/// As long as a guest may take to say what is awaited.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at a console.
const LOOK: Duration = Duration::from_millis(20);

/// A machine that runs, for its guests to do a lab.
pub struct Guests<'a> {
    /// Its toolstack.
    pub client: &'a Client,
    /// What it is called in findings.
    pub machine: String,
    /// `emulated`, or what else it is.
    pub label: &'static str,
}

/// What is varied: what the series is called, the guests' tree, the phases, and how many operations are under way.
pub struct Way {
    /// The series.
    pub name: &'static str,
    /// `flat`, or `machine` for the tree of the knowledge base.
    pub tree: &'static str,
    /// `1pc` or `2pc`.
    pub phases: &'static str,
    /// Operations under way.
    pub depth: u64,
}

/// The ways of `unmap`.
pub const UNMAP: [Way; 2] = [
    Way { name: "unicast", tree: "flat", phases: "1pc", depth: 1 },
    Way { name: "multicast", tree: "machine", phases: "1pc", depth: 1 },
];

/// The ways of `two-phase`.
pub const TWO_PHASE: [Way; 2] = [
    Way { name: "single", tree: "machine", phases: "2pc", depth: 1 },
    Way { name: "pipelined", tree: "machine", phases: "2pc", depth: DEPTH },
];

/// What an operation costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Lines that members sent each other.
    pub messages: u64,
    /// Ticks in the initiator's monitor.
    pub initiator: u64,
    /// Ticks from request to done.
    pub ticks: u64,
}

/// Measures each way with so many members, by turns, on the idle cores from 1 on. The members are gone at the end.
pub fn measure(guests: &Guests<'_>, ways: &[Way], counts: &[usize]) -> Result<Vec<Panel>> {
    let client = guests.client;
    let mut panels =
        [(INITIATOR, "instructions"), (TICKS, "ticks"), (MESSAGES, "messages")].map(|(title, y)| Panel {
            title: title.to_owned(),
            x: "members",
            y: y.to_owned(),
            label: guests.label,
            machine: guests.machine.clone(),
            series: ways.iter().map(|way| Series::new(way.name, Vec::new())).collect(),
        });
    let mut trees: Vec<&str> = ways.iter().map(|way| way.tree).collect();
    trees.dedup();
    for tree in trees {
        let most = counts.iter().copied().max().unwrap_or(0);
        for members in 1..=most {
            start(client, members, tree)?;
            if !counts.contains(&members) {
                continue;
            }
            gathered(client, members)?;
            for (place, way) in ways.iter().enumerate().filter(|(_, way)| way.tree == tree) {
                let cost = cost(client, members, way)?;
                for (panel, value) in panels.iter_mut().zip([cost.initiator, cost.ticks, cost.messages]) {
                    panel.series[place].points.push((members as f64, value as f64));
                }
            }
        }
        for member in 1..=most {
            client.destroy(&name(member))?;
        }
    }
    Ok(panels.to_vec())
}

/// A member's name.
pub fn name(member: usize) -> String {
    format!("lab{member}")
}

/// Starts a member. The first founds the epoch before the others come.
pub fn start(client: &Client, member: usize, tree: &str) -> Result<()> {
    let config = guest(&name(member), "multikernel", member as u32);
    client.create(GuestConfig { command_line: format!("pace=poll tree={tree}"), ..config })?;
    if member == 1 { said(client, 1, "core 1 of").map(drop) } else { Ok(()) }
}

/// Waits until so many have begun an epoch together.
pub fn gathered(client: &Client, members: usize) -> Result<()> {
    let all: Vec<String> = (1..=members).map(|member| member.to_string()).collect();
    let epoch = format!(": {{{}}}", all.join(", "));
    (1..=members).try_for_each(|member| said(client, member, &epoch).map(drop))
}

/// Waits until a member's newest epoch has these members.
pub fn newest_epoch(client: &Client, member: usize, members: &str) -> Result<()> {
    let name = name(member);
    let (mut console, mut text) = (Console::new(client, &name), String::new());
    until(&name, members, || {
        text.push_str(&String::from_utf8_lossy(&console.read(false)?));
        let newest =
            text.split_inclusive('\n').rfind(|line| line.ends_with('\n') && line.contains(": epoch "));
        Ok(newest.is_some_and(|line| line.trim_end().ends_with(members)).then(String::new))
    })
    .map(drop)
}

/// What one way costs with so many members.
fn cost(client: &Client, members: usize, way: &Way) -> Result<Cost> {
    let Way { phases, depth, .. } = way;
    // All has been done once before it is counted.
    ask(client, 1, &format!("bench {phases} 10 {depth}"), "bench")?;
    let counts = || (1..=members).map(|member| counts(client, member)).collect::<Result<Vec<_>>>();
    let before = counts()?;
    let line = ask(client, 1, &format!("bench {phases} {OPERATIONS} {depth}"), "bench")?;
    let after = counts()?;
    let ticks = ticks(&line)?;
    let lines: u64 = before.iter().zip(&after).map(|(before, after)| after.0.saturating_sub(before.0)).sum();
    let spent =
        after.first().zip(before.first()).map_or(0, |(after, before)| after.1.saturating_sub(before.1));
    Ok(Cost { messages: lines / OPERATIONS, initiator: spent / OPERATIONS, ticks: ticks / OPERATIONS })
}

/// The ticks that a member says its operations took.
pub fn ticks(line: &str) -> Result<u64> {
    let ticks = line.split(", ").find_map(|part| part.trim().strip_suffix(" ticks")?.parse().ok());
    ticks.ok_or_else(|| unclear(line))
}

/// What a monitor has done: lines sent, and ticks.
fn counts(client: &Client, member: usize) -> Result<(u64, u64)> {
    let line = ask(client, member, "counts", "counts:")?;
    let number = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.trim().split(',').next()?.parse().ok()
    };
    number("lines out").zip(number("ticks")).ok_or_else(|| unclear(&line))
}

/// Types a line at a member and waits for the answer, which begins like `answer`.
pub fn ask(client: &Client, member: usize, line: &str, answer: &str) -> Result<String> {
    let name = name(member);
    let mut console = Console::new(client, &name);
    console.read(false)?;
    client.input(&name, format!("{line}\n").as_bytes())?;
    let (mut text, answer) = (String::new(), format!("multikernel: {answer}"));
    until(&name, &answer, || {
        text.push_str(&String::from_utf8_lossy(&console.read(false)?));
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Ok(lines.map(str::trim).find(|line| line.starts_with(&answer)).map(str::to_owned))
    })
}

/// Waits until a guest has printed a line with this; all that it printed until then.
pub fn printed_until(client: &Client, name: &str, what: &str) -> Result<String> {
    let (mut console, mut text) = (Console::new(client, name), String::new());
    until(name, what, || {
        text.push_str(&String::from_utf8_lossy(&console.read(false)?));
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Ok(lines.any(|line| line.contains(what)).then(|| text.clone()))
    })
}

/// Waits until a member has said this; the line.
fn said(client: &Client, member: usize, what: &str) -> Result<String> {
    let name = name(member);
    let (mut console, mut text) = (Console::new(client, &name), String::new());
    until(&name, what, || {
        text.push_str(&String::from_utf8_lossy(&console.read(false)?));
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Ok(lines.find(|line| line.contains(what)).map(str::to_owned))
    })
}

fn until(name: &str, what: &str, mut look: impl FnMut() -> Result<Option<String>>) -> Result<String> {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if begun.elapsed() > PATIENCE {
            let seconds = PATIENCE.as_secs();
            return Err(Error::new(
                format!("{name} has not said `{what}` in {seconds} s"),
                "`atoll dmesg` and the serial log tell what happened",
            ));
        }
        thread::sleep(LOOK);
    }
}

fn unclear(line: &str) -> Error {
    Error::new(format!("a member of the multikernel answered `{line}`"), "boot images of this version")
}

/// Whether each member more costs the same, within a quarter.
pub fn linear(claim: &'static str, panel: &Panel, name: &str) -> Verdict {
    let points = panel.series(name).map_or(&[][..], |series| &series.points);
    let steps: Vec<f64> = points.windows(2).map(|two| two[1].1 - two[0].1).collect();
    if steps.len() < 2 {
        return Verdict::cannot(
            claim,
            format!("{} members at most here, and it takes 4 to see", panel.most()),
        );
    }
    let (least, most) =
        steps.iter().fold((f64::INFINITY, 0.0), |(least, most), &step| (step.min(least), step.max(most)));
    Verdict::at_least(claim, Some(least), 0.75, Some(most), "the smallest step against the largest")
}
