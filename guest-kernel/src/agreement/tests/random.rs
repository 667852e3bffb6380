//! Greater cases, one order at a time, thousands of them.

use proptest::prelude::*;

use super::world::{Choice, SlotOp, Slots, World};
use crate::agreement::{CoreSet, Event, Topology};

#[derive(Clone, Copy, Debug)]
enum Deed {
    Win(u64),
    Count,
    Join(u8),
    Leave(u8),
}

fn deed(cores: u8) -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..3_u64).prop_map(Deed::Win),
        4 => Just(Deed::Count),
        1 => (0..cores).prop_map(Deed::Join),
        1 => (0..cores).prop_map(Deed::Leave),
    ]
}

fn topology() -> impl Strategy<Value = Topology> {
    prop_oneof![
        Just(Topology::flat()),
        prop::collection::vec(0..3_u8, 6).prop_map(|groups| {
            let group = |of| (0..6).filter(|&core: &u8| groups[usize::from(core)] == of).collect::<CoreSet>();
            Topology::levels(std::vec![(0..3).map(group).collect()])
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 20000, ..ProptestConfig::default() })]
    #[test]
    fn random_schedules(
        founders in 2..=6_u8,
        topology in topology(),
        deeds in prop::collection::vec((0..6_u8, deed(6)), 1..24),
        crashes in 0..4_u32,
        order in prop::collection::vec(any::<u16>(), 400),
    ) {
        let mut world = World::<Slots>::new(founders, 6, &topology).with_crashes(crashes);
        for (ticket, &(core, deed)) in (0..).zip(&deeds) {
            world = world.script(core, match deed {
                Deed::Win(place) => Event::Request(ticket, SlotOp::Win(place, ticket)),
                Deed::Count => Event::Request(ticket, SlotOp::Count(ticket)),
                Deed::Join(who) => Event::Join(who),
                Deed::Leave(who) => Event::Leave(who),
            });
        }
        let mut order = order.into_iter();
        loop {
            let mut choices = world.choices();
            // Deaths are rare among all that happens, and none comes after the end.
            let pick = order.next();
            if pick.is_none_or(|pick| pick % 16 != 0) {
                choices.retain(|choice| !matches!(choice, Choice::Crash(_)));
            }
            if choices.is_empty() {
                if world.choices().is_empty() || pick.is_none() {
                    break;
                }
                continue;
            }
            world.take(choices[usize::from(pick.unwrap_or(0) / 16) % choices.len()]);
            if let Err(why) = world.check() {
                return Err(TestCaseError::fail(why));
            }
        }
        if let Err(why) = world.check_end() {
            return Err(TestCaseError::fail(why));
        }
    }
}
