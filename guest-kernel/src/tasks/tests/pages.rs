//! Pages that go on to a core which cannot reach them.

use std::sync::atomic::{AtomicU64, Ordering};

use abi::mesh::PAGES;

use super::*;
use crate::agreement::Topology;
use crate::mesh::fixture::gather;
use crate::mesh::{Mesh, WORDS};
use crate::monitor::Monitor;
use crate::monitor::channels::NotNow;
use crate::replica::System;
use crate::tasks::desk::Desk;
use crate::tasks::pages::Page;

/// The desk of core 1, and the meshes of cores 1, 2 and 3.
fn desk() -> (Rc<Desk>, Vec<Mesh<'static>>) {
    const CORES: usize = 3;
    let meshes: Vec<_> = gather(CORES).into_iter().map(|(_, mesh)| mesh).collect();
    let mut monitor = Monitor::founder(1, 1, meshes[0].slots(), System::new(1), Topology::flat());
    (2..=CORES).for_each(|peer| monitor.peer(peer, true));
    let (tasks, _) = tasks();
    let desk = Desk::open_with(monitor, tasks.spawner()).unwrap();
    desk.reach(&meshes[0]);
    (desk, meshes)
}

fn word(seed: u64, index: usize) -> u64 {
    seed << 32 | index as u64
}

fn fill(page: &Page, seed: u64) {
    let fill = |words: &[AtomicU64; WORDS]| {
        (0..).zip(words).for_each(|(index, place)| place.store(word(seed, index), Ordering::Relaxed));
    };
    page.with(fill).unwrap();
}

fn holds(words: &[AtomicU64; WORDS], seed: u64) -> bool {
    (0..).zip(words).all(|(index, place)| place.load(Ordering::Relaxed) == word(seed, index))
}

/// All that are free of what is shared with that core.
fn free(desk: &Rc<Desk>, peer: u8) -> Vec<Page> {
    core::iter::from_fn(|| desk.free_page(peer)).collect()
}

#[test]
fn a_page_that_goes_on_is_copied_to_where_the_next_core_reaches_it() {
    let (desk, meshes) = desk();
    let mut page = desk.free_page(2).unwrap();
    page.note = [7, 8, 9, 10, 11];
    fill(&page, 5);
    let Ok(page) = page.within_reach_of(2) else { panic!("core 2 reaches it as it is") };
    assert_eq!(free(&desk, 2).len(), PAGES / 2 - 1);

    let Ok(on) = page.within_reach_of(3) else { panic!("a page is free") };
    assert_eq!(on.note, [7, 8, 9, 10, 11]);
    assert!(on.with(|words| holds(words, 5)).unwrap());
    // Core 3 sees it in its own memory, and nobody has the first one any more.
    let theirs = &meshes[2].window(1).unwrap().pages;
    assert_eq!(theirs.iter().filter(|page| holds(page.words(), 5)).count(), 1);
    assert_eq!((free(&desk, 2).len(), free(&desk, 3).len()), (PAGES / 2, PAGES / 2 - 1));
}

#[test]
fn a_page_that_nobody_has_room_for_stays_as_it_is() {
    let (desk, _meshes) = desk();
    let mut page = desk.free_page(2).unwrap();
    page.note[0] = 1;
    fill(&page, 6);
    let taken = free(&desk, 3);
    let Err((NotNow::Full, page)) = page.within_reach_of(3) else { panic!("none is free") };
    assert!(page.with(|words| holds(words, 6)).unwrap());
    drop(taken);
    let Ok(page) = page.within_reach_of(3) else { panic!("now all are") };
    assert_eq!(page.note[0], 1);
    assert!(page.with(|words| holds(words, 6)).unwrap());
}

#[test]
fn a_page_of_a_life_that_has_ended_goes_nowhere_and_neither_does_what_lay_there_before() {
    let (desk, _meshes) = desk();
    // Of each there is something left from before.
    free(&desk, 3).iter().for_each(|page| fill(page, 7));
    let page = desk.free_page(2).unwrap();
    fill(&page, 8);
    desk.monitor(|monitor| monitor.peer(2, false));
    assert!(page.with(|_| ()).is_err());
    let Err((NotNow::Closed, page)) = page.within_reach_of(3) else { panic!("it holds nothing to send") };
    drop(page);
    assert_eq!(free(&desk, 3).len(), PAGES / 2);
}
