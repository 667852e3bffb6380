//! Random lives of page tables, held against the reference model after every step.

mod common;

use common::harness::{Harness, Operation};
use common::model::{Model, PAGE, Pages, Runs};
use ept::{MemoryType, PageSize, Permissions, Settings};
use proptest::prelude::*;

const MIB_2: u64 = 1 << 21;
const GIB: u64 = 1 << 30;

fn settings(largest: impl Strategy<Value = PageSize>) -> impl Strategy<Value = Settings> {
    let width = prop_oneof![4 => Just(46u8), 1 => 30..=60u8];
    (largest, any::<bool>(), any::<bool>(), width).prop_map(
        |(largest_page, execute_only, accessed_dirty, host_address_bits)| Settings {
            largest_page,
            execute_only,
            accessed_dirty,
            host_address_bits,
        },
    )
}

fn permissions() -> impl Strategy<Value = Permissions> {
    let usual = prop_oneof![
        Just(Permissions::READ),
        Just(Permissions::READ_WRITE),
        Just(Permissions::READ_EXECUTE),
        Just(Permissions::READ_WRITE_EXECUTE),
    ];
    prop_oneof![9 => usual, 1 => (0..8u8).prop_map(Permissions::from_bits_truncate)]
}

fn memory() -> impl Strategy<Value = MemoryType> {
    prop_oneof![6 => Just(MemoryType::WriteBack), 1 => Just(MemoryType::Uncacheable)]
}

/// `usual`, but now and then off by a little, or anything at all.
fn or_wild(usual: impl Strategy<Value = u64> + Clone + 'static) -> BoxedStrategy<u64> {
    prop_oneof![
        40 => usual.clone(),
        1 => (usual, 0..PAGE).prop_map(|(value, off)| value.wrapping_add(off)),
        1 => any::<u64>(),
        1 => (0..64u32, 0..3u64).prop_map(|(bit, off)| (1u64 << bit).wrapping_add(off).wrapping_sub(1)),
    ]
    .boxed()
}

/// What to do, and how many frames there are to do it with.
type Step = (Operation, Option<usize>);

fn step(
    gpa: impl Strategy<Value = u64> + Clone + 'static,
    pages: impl Strategy<Value = u64> + Clone + 'static,
    delta: impl Strategy<Value = u64>,
) -> impl Strategy<Value = Step> {
    let (gpa, pages) = (or_wild(gpa), or_wild(pages));
    let hpa = prop_oneof![30 => Just(None), 1 => any::<u64>().prop_map(Some)];
    let map = (gpa.clone(), delta, hpa, pages.clone(), permissions(), memory()).prop_map(
        |(gpa, delta, hpa, pages, permissions, memory)| {
            let hpa = hpa.unwrap_or((gpa % (16 * GIB)).wrapping_add(delta));
            Operation::Map { gpa, hpa, pages, permissions, memory }
        },
    );
    let unmap = (gpa.clone(), pages.clone()).prop_map(|(gpa, pages)| Operation::Unmap { gpa, pages });
    let protect = (gpa.clone(), pages, permissions())
        .prop_map(|(gpa, pages, permissions)| Operation::Protect { gpa, pages, permissions });
    let operation = prop_oneof![
        5 => map,
        3 => unmap,
        3 => protect,
        1 => Just(Operation::Merge),
        1 => gpa.prop_map(|gpa| Operation::Dirty { gpa }),
    ];
    (operation, prop_oneof![3 => Just(None), 1 => (0..6usize).prop_map(Some)])
}

fn live<M: Model + Default>(settings: Settings, steps: &[Step], probes: &[u64]) -> Harness<M> {
    let mut harness = Harness::<M>::new(settings);
    for &(operation, budget) in steps {
        harness.step(operation, budget, probes);
    }
    harness
}

/// Eight megabytes across the border between two PML4 entries.
const ARENA: u64 = (1 << 39) - 2 * MIB_2;
const ARENA_PAGES: u64 = 4 * 512;

fn small_step() -> impl Strategy<Value = Step> {
    let place = prop_oneof![
        (0..ARENA_PAGES).prop_map(|page| ARENA + page * PAGE),
        (0..4u64).prop_map(|page| ARENA + page * MIB_2),
    ];
    let length = prop_oneof![0..10u64, Just(512), Just(1024), Just(ARENA_PAGES), 0..1600u64];
    // Mostly whole large pages apart from the guest's address, so that memory can be contiguous and merge.
    let delta =
        prop_oneof![Just(0), (0..4u64).prop_map(|at| at * MIB_2), (0..1024u64).prop_map(|at| at * PAGE)];
    step(place, length, delta).prop_map(|(operation, budget)| (listable(operation), budget))
}

/// Where a mapping has more pages than a model that lists them could hold, it gets more than there can be.
fn listable(operation: Operation) -> Operation {
    match operation {
        Operation::Map { gpa, hpa, pages, permissions, memory } if (1 << 14..=1 << 36).contains(&pages) => {
            Operation::Map { gpa, hpa, pages: pages + (1 << 36), permissions, memory }
        }
        other => other,
    }
}

/// Gigabytes at the bottom and at the very top.
fn wide_step() -> impl Strategy<Value = Step> {
    let within = prop_oneof![
        4 => Just(0u64),
        1 => (0..512u64).prop_map(|page| page * MIB_2),
        1 => (0..262_144u64).prop_map(|page| page * PAGE),
    ];
    let base = prop_oneof![3 => 0..4u64, 1 => (1u64 << 18) - 2..1 << 18];
    let place = (base, within).prop_map(|(gib, within)| gib * GIB + within);
    let length = prop_oneof![0..600u64, Just(512), Just(262_144), Just(786_432), 200_000..600_000u64];
    let delta = prop_oneof![12 => Just(0), 4 => Just(GIB), 2 => Just(MIB_2 * 3), 1 => Just(PAGE)];
    step(place, length, delta)
}

fn any_size() -> impl Strategy<Value = PageSize> {
    prop_oneof![Just(PageSize::Size4KiB), Just(PageSize::Size2MiB), Just(PageSize::Size1GiB)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_page_agrees(
        settings in settings(any_size()),
        steps in proptest::collection::vec(small_step(), 1..24),
        offset in 0..PAGE,
    ) {
        let probes: Vec<u64> = (0..ARENA_PAGES).map(|page| ARENA + page * PAGE + offset).collect();
        live::<Pages>(settings, &steps, &probes).destroy();
    }

    #[test]
    fn both_models_mean_the_same(
        settings in settings(any_size()),
        steps in proptest::collection::vec(small_step(), 1..12),
    ) {
        let (pages, runs) = (live::<Pages>(settings, &steps, &[]), live::<Runs>(settings, &steps, &[]));
        prop_assert_eq!(pages.model.runs(), runs.model.runs());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn gigabytes_agree(
        settings in settings(prop_oneof![1 => Just(PageSize::Size2MiB), 4 => Just(PageSize::Size1GiB)]),
        steps in proptest::collection::vec(wide_step(), 1..16),
        probes in proptest::collection::vec(0..6 * GIB, 64),
    ) {
        live::<Runs>(settings, &steps, &probes).destroy();
    }
}
