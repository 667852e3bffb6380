//! Shadow page tables on a model machine.

mod directed;
mod life;
mod machine;
mod run;

use std::collections::{BTreeMap, HashMap};

use ept::guest_walk::Mode;
use life::Store;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use run::{Run, Step};

fn step() -> impl Strategy<Value = Step> {
    (any::<u8>(), any::<u64>(), any::<u64>()).prop_map(|(kind, a, b)| Step { kind, a, b })
}

/// What happened, and how often.
fn life(
    mode: Mode,
    seed: u64,
    fill: &[(u8, u8, u64)],
    pages: usize,
    steps: &[Step],
) -> HashMap<&'static str, usize> {
    let mut store = Store::new(pages);
    let mut run = Run::start(&mut store, mode, seed, fill);
    for &step in steps {
        run.step(step);
    }
    run.guest.seen
}

/// What a life depends on.
type Start = (u64, Vec<(u8, u8, u64)>, usize, Vec<Step>);

fn start() -> impl Strategy<Value = Start> {
    let fill = proptest::collection::vec(any::<(u8, u8, u64)>(), 0..16);
    (any::<u64>(), fill, 8..40usize, proptest::collection::vec(step(), 1..120))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn four_levels_obey_the_walker((seed, fill, pages, steps) in start()) {
        life(Mode::FourLevel, seed, &fill, pages, &steps);
    }

    #[test]
    fn pae_obeys_the_walker((seed, fill, pages, steps) in start()) {
        life(Mode::Pae, seed, &fill, pages, &steps);
    }

    #[test]
    fn two_levels_obey_the_walker((seed, fill, pages, steps) in start()) {
        life(Mode::TwoLevel, seed, &fill, pages, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_paging_obeys_the_walker((seed, fill, pages, steps) in start()) {
        life(Mode::Off, seed, &fill, pages, &steps);
    }
}

/// The lives above are worth something only if all that can happen does.
#[test]
fn lives_are_eventful() {
    for mode in [Mode::TwoLevel, Mode::Pae, Mode::FourLevel] {
        let mut runner = TestRunner::deterministic();
        let mut seen = BTreeMap::<&str, usize>::new();
        for _ in 0..200 {
            let (seed, fill, pages, steps) = start().new_tree(&mut runner).unwrap().current();
            for (what, times) in life(mode, seed, &fill, pages, &steps) {
                *seen.entry(what).or_default() += times;
            }
        }
        let all = ["fresh access", "access that may be stale", "stale access", "injected", "mmio"];
        let more = ["write to table", "table opened", "emulate", "stopped"];
        for what in all.into_iter().chain(more) {
            assert!(seen.get(what).is_some_and(|&times| times >= 10), "{mode:?}, {what}: {seen:?}");
        }
    }
}
