//! Small cases, each in every order of deliveries, notices and deaths.

use std::cell::Cell;
use std::println;

use super::explore::{Seen, explore};
use super::world::{SlotOp, Slots, World};
use crate::agreement::{CoreId, CoreSet, Event, Topology};

fn all_of(name: &str, world: World<Slots>) -> Seen {
    let seen = explore(world, World::check, World::check_end);
    println!("{name}: {seen:?}");
    assert!(seen.ends > 0);
    seen
}

fn win(world: World<Slots>, core: CoreId, place: u64) -> World<Slots> {
    let ticket = 100 * u64::from(core) + place;
    world.script(core, Event::Request(ticket, SlotOp::Win(place, ticket)))
}

fn count(world: World<Slots>, core: CoreId, ticket: u64) -> World<Slots> {
    world.script(core, Event::Request(ticket, SlotOp::Count(ticket)))
}

fn founders(cores: u8) -> World<Slots> {
    World::new(cores, cores, &Topology::flat())
}

/// Core 0, and 1 and 2 behind one cache.
fn pair_behind_one() -> Topology {
    Topology::levels(std::vec![std::vec![CoreSet::one(0), [1, 2].into_iter().collect()]])
}

#[test]
fn one_phase_reaches_all_or_is_completed() {
    all_of("one phase, 3 cores", count(count(founders(3), 0, 7), 1, 8));
    all_of("one phase, 3 cores, 1 death", count(founders(3), 0, 7).with_crashes(1));
    all_of("one phase, tree, 1 death", count(World::new(3, 3, &pair_behind_one()), 0, 7).with_crashes(1));
}

#[test]
fn two_phases_of_one_are_done_or_undone() {
    all_of("two phases, 3 cores, 1 death", win(founders(3), 0, 1).with_crashes(1));
    all_of("two phases, 3 cores, 2 deaths", win(founders(3), 1, 1).with_crashes(2));
    all_of("two phases, tree, 1 death", win(World::new(3, 3, &pair_behind_one()), 0, 1).with_crashes(1));
}

#[test]
fn of_two_that_conflict_one_wins() {
    let seen = explore(win(win(founders(2), 0, 1), 1, 1), World::check, |world| {
        world.check_end()?;
        let won = world.outcomes.values().filter(|outcome| outcome.is_ok()).count();
        if won == 1 { Ok(()) } else { Err(std::format!("{won} have won")) }
    });
    println!("conflict of 2, 2 cores: {seen:?}");
    let three = win(win(founders(3), 0, 1), 2, 1);
    let seen = explore(three, World::check, |world| {
        world.check_end()?;
        let won = world.outcomes.values().filter(|outcome| outcome.is_ok()).count();
        if won == 1 { Ok(()) } else { Err(std::format!("{won} have won")) }
    });
    println!("conflict of 2, 3 cores: {seen:?}");
}

#[test]
fn of_two_that_conflict_one_wins_though_cores_die() {
    all_of("conflict of 2, 2 cores, 1 death", win(win(founders(2), 0, 1), 1, 1).with_crashes(1));
    all_of("conflict of 2, 3 cores, 1 death", win(win(founders(3), 1, 1), 2, 1).with_crashes(1));
}

#[test]
fn a_core_comes_though_cores_die() {
    let world = World::new(2, 3, &Topology::flat()).script(0, Event::Join(2));
    all_of("join, 2 + 1 cores, 1 death", world.clone().with_crashes(1));
    all_of("join, 2 + 1 cores, 2 deaths", world.clone().with_crashes(2));
    all_of("join with work, 2 + 1 cores", win(count(world, 0, 7), 1, 1));
}

#[test]
fn a_core_goes_though_cores_die() {
    for leaver in 0..3 {
        let world = founders(3).script(1, Event::Leave(leaver));
        all_of("leave, 3 cores, 1 death", world.clone().with_crashes(1));
        all_of("leave with work, 3 cores", count(world, leaver, 7));
    }
}

#[test]
fn greater_conflicts() {
    let conflict = win(win(win(founders(3), 0, 1), 1, 1), 2, 1);
    all_of("conflict of 3, 3 cores", conflict);
    let conflict = win(win(founders(3), 0, 1), 2, 1);
    all_of("conflict of 2, 3 cores, 2 deaths", conflict.clone().with_crashes(2));
    all_of(
        "conflict of 2 while 1 leaves, 3 cores, 1 death",
        conflict.script(1, Event::Leave(1)).with_crashes(1),
    );
}

#[test]
fn greater_changes() {
    let four = World::new(4, 4, &Topology::flat()).script(0, Event::Leave(1));
    all_of("leave, 4 cores, 2 deaths", four.with_crashes(2));
    let world = World::new(3, 4, &Topology::flat()).script(0, Event::Join(3));
    all_of("join, 3 + 1 cores, 2 deaths", world.with_crashes(2));
}

/// A core falls silent at any step of what the others do and is left out, though it goes on, sooner or later, with what it
/// knows and with lines from before. It learns of it, and comes in anew.
fn with_mistake(name: &str, world: World<Slots>) {
    all_of(&std::format!("{name}, 1 mistake"), world.with_mistakes(1));
}

#[test]
fn who_is_left_out_does_nothing_half() {
    with_mistake("one phase, 3 cores", count(founders(3), 1, 7));
    with_mistake("two phases, 3 cores", win(founders(3), 0, 1));
}

#[test]
fn of_two_that_conflict_one_wins_though_one_is_left_out() {
    with_mistake("conflict of 2, 2 cores", win(win(founders(2), 0, 1), 1, 1));
}

#[test]
fn who_is_left_out_leads_or_comes_or_goes() {
    with_mistake("join, 2 + 1 cores", World::new(2, 3, &Topology::flat()).script(0, Event::Join(2)));
    with_mistake("leave of the first, 3 cores", founders(3).script(1, Event::Leave(0)));
}

/// One leaves, one dies, and one is left out though it lives. Where the first that leaves is the next steward, the one that
/// died may have been all that was left of the epoch that began without the third: then that one waits for ever.
fn one_goes_one_dies_and_one_is_left_out(leaver: CoreId) {
    let cut_off = Cell::new(0);
    let world = founders(3).script(1, Event::Leave(leaver)).with_crashes(1).with_mistakes(1);
    let seen = explore(world, World::check, |world| {
        cut_off.set(cut_off.get() + u32::from(world.cut_off().is_some()));
        world.check_end()
    });
    println!("leave of {leaver}, 3 cores, 1 death, 1 mistake: {seen:?}, {} cut off", cut_off.get());
    assert_eq!(cut_off.get() > 0, leaver == 1);
}

#[test]
fn the_steward_goes_while_one_dies_and_one_is_left_out() {
    one_goes_one_dies_and_one_is_left_out(0);
}

#[test]
fn the_next_steward_goes_while_one_dies_and_one_is_left_out() {
    one_goes_one_dies_and_one_is_left_out(1);
}

#[test]
fn the_last_goes_while_one_dies_and_one_is_left_out() {
    one_goes_one_dies_and_one_is_left_out(2);
}
