//! Greater cases, one order at a time, thousands of them.

use std::vec::Vec;

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
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn random_schedules(
        founders in 2..=6_u8,
        topology in topology(),
        deeds in prop::collection::vec((0..6_u8, deed(6)), 1..24),
        crashes in 0..4_u32,
        // Two at once are known and not solved (docs/multikernel.md, "Who does not answer").
        mistakes in 0..2_u32,
        order in prop::collection::vec(any::<u16>(), 400),
    ) {
        let mut world = World::<Slots>::new(founders, 6, &topology).with_crashes(crashes).with_mistakes(mistakes);
        for (ticket, &(core, deed)) in (0..).zip(&deeds) {
            let event = match deed {
                Deed::Win(place) => Event::Request(ticket, SlotOp::Win(place, ticket)),
                Deed::Count => Event::Request(ticket, SlotOp::Count(ticket)),
                // Who comes in anew has to be known to all first: the end sees to that.
                Deed::Join(_) if mistakes > 0 => continue,
                Deed::Join(who) => Event::Join(who),
                Deed::Leave(who) => Event::Leave(who),
            };
            world = world.script(core, event);
        }
        let mut order = order.into_iter();
        let mut way = Vec::new();
        // Where some die while others are left out, the rest may not be enough to go on.
        let may_wait = crashes > 0 && mistakes > 0;
        loop {
            let mut choices = world.choices();
            // Deaths and mistakes are rare among all that happens, and none comes after the end.
            let pick = order.next();
            if pick.is_none_or(|pick| pick % 16 != 0) {
                choices.retain(|choice| !matches!(choice, Choice::Crash(_) | Choice::LeaveOut(..)));
            }
            if choices.is_empty() {
                if world.choices().is_empty() || pick.is_none() {
                    break;
                }
                continue;
            }
            let choice = choices[usize::from(pick.unwrap_or(0) / 16) % choices.len()];
            way.push(choice);
            if way.len() > 2000 {
                if may_wait {
                    break;
                }
                return Err(TestCaseError::fail(std::format!("it never ends: {:?}", &way[1900..])));
            }
            world.take(choice);
            if let Err(why) = world.check() {
                return Err(TestCaseError::fail(std::format!("{why}\nafter {way:?}")));
            }
        }
        if !may_wait
            && let Err(why) = world.check_end()
        {
            return Err(TestCaseError::fail(std::format!("{why}\nafter {way:?}")));
        }
    }
}
