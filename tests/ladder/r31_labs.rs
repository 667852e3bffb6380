//! The labs in a virtual machine of two packages: what members send for an operation is exact, along a tree or not, one at a time
//! or many; and what domain 0 knows of the machine.

use guest_kernel::knowledge::Knowledge;
use ladder::{Check, Result, Stage, ensure, stage::no_guests, wrong};
use toolstack::{
    config::{Config, any_core},
    verbs::{
        lab::{
            Guests, Outcome, Panel, hotplug, locks, urpc,
            vm::{self, INITIATOR, MESSAGES, TWO_PHASE, UNMAP, Way},
        },
        topology,
    },
};

/// Members: as many as there are cores but domain 0's.
const MEMBERS: usize = 7;

/// Two packages of four cores.
pub fn machine() -> Config {
    Config { packages: Some(2), ..no_guests(8) }
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r31_labs::domain_0_knows_the_machine", known),
        Check::new("r31_labs::one_phase_is_two_messages_a_member", |stage| messages(stage, &UNMAP, 2)),
        Check::new("r31_labs::the_others_go_on_while_a_core_goes_and_comes", hotplugged),
        Check::new("r31_labs::siblings_measure_messages_and_locks", siblings),
        Check::new("r31_labs::two_phases_are_four_messages_a_member", |stage| messages(stage, &TWO_PHASE, 4)),
    ]
}

/// Packages, placement by distance, and latencies of all pairs in the mesh.
fn known(stage: &mut Stage) -> Result<()> {
    use abi::control::wire::{GuestConfig, Placement};
    let client = &stage.session()?.client;
    let poll = |name: &str| GuestConfig { command_line: "pace=poll".into(), ..any_core(name, "mesh") };
    let (_, first, _) = client.create(poll("first"))?;
    let near = GuestConfig { placement: Placement::Near("first".into()), ..poll("near") };
    let far = GuestConfig { placement: Placement::Far("first".into()), ..poll("far") };
    let (_, near, _) = client.create(near)?;
    let (_, far, _) = client.create(far)?;
    ensure!((&first[..], &near[..], &far[..]) == (&[1], &[2], &[7]), "{first:?}, {near:?}, {far:?}");
    let known = topology::measured(client)?;
    let mut pairs: Vec<(u32, u32)> =
        known.latencies.iter().map(|latency| (latency.from, latency.to)).collect();
    pairs.sort_unstable();
    ensure!(pairs == [(1, 2), (1, 7), (2, 1), (2, 7), (7, 1), (7, 2)], "{pairs:?}");
    ensure!(known.latencies.iter().all(|latency| latency.ticks > 0), "{:?}", known.latencies);
    let knowledge = Knowledge::of_machine(&known.topology);
    // Below the packages there are caches that Bochs says two cores share.
    let packages = knowledge.levels().into_iter().next().unwrap_or_default();
    ensure!(packages.len() == 2 && packages.iter().all(|package| package.len() == 4), "{packages:?}");
    let rows = knowledge.ask("same_package(5, B)").map_err(|mistake| wrong(mistake.to_string()))?.rows;
    ensure!(rows.len() == 3, "{rows:?}");
    let bridges =
        knowledge.ask("pci(0, D, F, V, M, 1536)").map_err(|mistake| wrong(mistake.to_string()))?.rows;
    ensure!(bridges.len() == 1, "a PC has one host bridge: {bridges:?}");
    ["first", "near", "far"].iter().try_for_each(|name| client.destroy(name))
}

/// The machine, as a lab sees it.
fn guests(stage: &mut Stage) -> Result<Guests<'_>> {
    Ok(Guests { client: &stage.session()?.client, machine: "bochs".into(), label: "emulated" })
}

/// So many messages for each member but the initiator, and the initiator's share of the work.
fn messages(stage: &mut Stage, ways: &[Way], each: u64) -> Result<()> {
    let panels = vm::measure(&guests(stage)?, ways, &[MEMBERS])?;
    let panel =
        |title: &str| panels.iter().find(|panel| panel.title == title).ok_or_else(|| wrong("no panel"));
    for panel in &panels {
        println!("{}: {:?}", panel.title, panel.series);
    }
    for series in &panel(MESSAGES)?.series {
        for &(members, messages) in &series.points {
            ensure!(messages == each as f64 * (members - 1.0), "{}: {:?}", series.name, series.points);
        }
        ensure!(series.points.len() == 1, "{:?}", series.points);
    }
    if ways.iter().any(|way| way.tree == "flat") {
        let at = |panel: &Panel, name: &str| panel.at(name, MEMBERS as f64);
        let initiator = panel(INITIATOR)?;
        ensure!(at(initiator, "multicast") < at(initiator, "unicast"), "{:?}", initiator.series);
    }
    Ok(())
}

/// A core with a member goes and comes while the others agree on hundreds of operations, none of which is refused; what is measured
/// is far from what the verdicts allow.
fn hotplugged(stage: &mut Stage) -> Result<()> {
    let panels = hotplug::in_vm(&guests(stage)?)?;
    for panel in &panels {
        println!("{}: {:?}", panel.title, panel.series);
    }
    for verdict in hotplug::LAB.verdicts(&panels) {
        ensure!(verdict.outcome == Outcome::Holds, "{verdict:?}");
    }
    let cores = stage.session()?.client.cores()?;
    ensure!(cores.iter().all(|core| core.is_online && core.keeps.is_none()), "{cores:?}");
    Ok(())
}

/// The labs' own guest: its virtual CPUs send each other messages near and far, and take turns in locks.
fn siblings(stage: &mut Stage) -> Result<()> {
    let guests = guests(stage)?;
    for (lab, panels) in [(&urpc::LAB, urpc::in_vm(&guests)?), (&locks::LAB, locks::in_vm(&guests)?)] {
        for panel in &panels {
            println!("{}: {:?}", panel.title, panel.series);
            ensure!(
                panel.series.iter().all(|series| !series.points.is_empty()),
                "{}: no points",
                panel.title
            );
        }
        for verdict in lab.verdicts(&panels) {
            ensure!(verdict.outcome != Outcome::DoesNot, "{}: {verdict:?}", lab.name);
        }
        if lab.name == "locks" {
            let most = panels.first().map_or(0.0, Panel::most);
            ensure!(most == MEMBERS as f64, "locks by {most} cores");
        }
    }
    Ok(())
}
