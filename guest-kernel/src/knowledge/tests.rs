use abi::control::topology::{Cache, CorePlace};
use alloc::vec;

use super::*;
use crate::agreement;

/// Two nodes of a package each, with two L3 caches a package, two cores below each, two threads a core: 16 in all.
fn big() -> Topology {
    let mut machine =
        Topology { cores: 16, nodes: 2, core_shift: 1, package_shift: 3, ..Topology::default() };
    for (index, place) in machine.core.iter_mut().take(16).enumerate() {
        *place = CorePlace { apic_id: index as u32, node: index as u32 / 8 };
    }
    let cache = |level, kind, shift| Cache { level, kind, shift, kib: 32, line_bytes: 64, reserved: 0 };
    machine.cache[..4].copy_from_slice(&[cache(1, 1, 1), cache(1, 2, 1), cache(2, 3, 1), cache(3, 3, 2)]);
    machine.caches = 4;
    machine.distances[0][..2].copy_from_slice(&[10, 21]);
    machine.distances[1][..2].copy_from_slice(&[21, 10]);
    machine
}

#[test]
fn the_rules_are_sound() {
    assert_eq!(Database::default().add(RULES), Ok(()));
}

#[test]
fn distances_follow_from_places() {
    let known = Knowledge::of_machine(&big());
    let distances = [0, 1, 2, 3, 4, 7, 8, 15].map(|to| known.distance(0, to));
    assert_eq!(distances, [0, 1, 3, 3, 4, 4, 6, 6].map(Some));
    assert_eq!(known.distance(0, 16), None);
    assert_eq!(known.by_distance(9, vec![0, 10, 8, 12]), [8, 10, 12, 0]);
    let near = known.ask("neighbour(4, B)").unwrap();
    assert_eq!(near.rows.into_iter().flatten().collect::<Vec<_>>(), [Value::from(5u32)]);
    assert_eq!(known.ask("shares_cache(0, B, 3)").unwrap().rows.len(), 3);
}

#[test]
fn devices_can_be_asked_for() {
    let mut machine = big();
    let card =
        PciFunction { bus: 3, device: 4, vendor: 0x1af4, model: 0x1000, class: 0x0200, ..Default::default() };
    (machine.pci[0], machine.pci_functions) = (card, 1);
    machine.pci[1].vendor = 7;
    let rows = Knowledge::of_machine(&machine).ask("pci(B, D, F, 6900, M, 512)").unwrap().rows;
    assert_eq!(rows, [[3u32, 4, 0, 0x1000].map(Value::from).to_vec()].into());
}

#[test]
fn levels_are_those_that_tell_cores_apart() {
    let set =
        |cores: core::ops::Range<u8>| cores.fold(CoreSet::EMPTY, |set, core| set.with(CoreSet::one(core)));
    let known = Knowledge::of_machine(&big());
    let levels = known.levels();
    assert_eq!(levels.len(), 3, "nodes are packages here, and L2 is the core: {levels:?}");
    assert_eq!(levels[0], [set(0..8), set(8..16)]);
    assert_eq!(levels[1][0], set(0..4));
    assert_eq!(levels[2].len(), 8);
    let mut machine = big();
    (machine.core_shift, machine.package_shift) = (0, 8);
    machine.nodes = 1;
    machine.core.iter_mut().for_each(|core| core.node = 0);
    machine.caches = 0;
    assert_eq!(Knowledge::of_machine(&machine).levels(), Vec::<Vec<CoreSet>>::new());
}

#[test]
fn a_tree_crosses_each_border_once() {
    let tree = agreement::Topology::of(&Knowledge::of_machine(&big()));
    let all = (0..16).fold(CoreSet::EMPTY, |set, core| set.with(CoreSet::one(core)));
    let children = |core| tree.children(all, 1, core).iter().collect::<Vec<_>>();
    assert_eq!(children(1), [0, 2, 4, 8], "its sibling, the other cache, the other half, the other node");
    assert_eq!(children(8), [9, 10, 12]);
}

#[test]
fn a_mesh_page_tells_what_matters() {
    let known = Knowledge::of_machine(&big());
    let places: Vec<MeshPlace> = (0..16).map(|core| known.mesh_place(core)).collect();
    assert_eq!(places[13], MeshPlace { node: 1, package: 1, cache: 3, core: 6 });
    let told = Knowledge::of_mesh(&places);
    assert_eq!(told.levels(), known.levels());
    assert_eq!(told.distance(0, 2), Some(3));
}

#[test]
fn what_was_measured_may_contradict() {
    let mut known = Knowledge::of_machine(&big());
    let latency = |from, to, ticks| Latency { from, to, ticks };
    known.measured(&[latency(0, 1, 100), latency(0, 4, 300), latency(0, 8, 200)]);
    assert_eq!(
        known.ask("contradiction(0, B, C)").unwrap().rows.into_iter().collect::<Vec<_>>(),
        [[4u32.into(), 8u32.into()]]
    );
    assert!(known.learn("dear(A, B) :- latency(A, B, T), 150 < T.").is_ok());
    assert_eq!(known.ask("dear(0, B)").unwrap().rows.len(), 2);
    assert!(known.learn("dear(A, B) :- ").is_err());
}
