//! Cores that do as they please with capabilities and names, and die.

use proptest::prelude::*;

use super::*;
use crate::agreement::tests::world::Choice;

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(std::vec![
        Kind::Ram,
        Kind::Ram,
        Kind::Frame,
        Kind::PageTable,
        Kind::Kernel,
        Kind::Endpoint,
        Kind::Irq
    ])
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Retype(u32, u32, Kind, u64, u64),
    Copy(u32, u8),
    Delete(u32),
    Revoke(u32),
    Unmap(u32),
    Register(u8),
    Unregister(u8),
    Join(u8),
    Leave(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    let cap = || 1..8_u32;
    let retype = (prop_oneof![Just(1), cap()], 3..8_u32, kind(), 0..9_u64, 1..4_u64);
    prop_oneof![
        8 => retype.prop_map(|(from, into, kind, base, size)| Deed::Retype(from, into, kind, base, size)),
        6 => (prop_oneof![Just(1), cap()], 0..4_u8).prop_map(|(cap, to)| Deed::Copy(cap, to)),
        3 => cap().prop_map(Deed::Delete),
        2 => cap().prop_map(Deed::Revoke),
        2 => cap().prop_map(Deed::Unmap),
        3 => (0..3_u8).prop_map(Deed::Register),
        2 => (0..3_u8).prop_map(Deed::Unregister),
        1 => (0..4_u8).prop_map(Deed::Join),
        1 => (0..4_u8).prop_map(Deed::Leave),
    ]
}

/// Of the first two, the roots.
fn named(which: u32) -> CapId {
    [ram(0), RAM, LINES].get(which as usize).copied().unwrap_or(ram(which))
}

fn event(by: CoreId, ticket: u64, deed: Deed) -> Event<Op, <System as Replica>::State> {
    let name = |which: u8| format!("name{which}");
    let root = RAM;
    let op = match deed {
        Deed::Retype(from, into, Kind::Irq, base, size) if from < 3 => {
            retype(by, LINES, into, Kind::Irq, base, size)
        }
        Deed::Retype(from, into, kind, base, size) => {
            retype(by, named(from), into, kind, base << 12, size << 12)
        }
        Deed::Copy(cap, to) => Op::Cap(CapOp::Copy { root, cap: named(cap), by, to }),
        Deed::Delete(cap) => Op::Cap(CapOp::Delete { root, cap: named(cap), by }),
        Deed::Revoke(cap) => Op::Cap(CapOp::Revoke { root, cap: named(cap), by }),
        Deed::Unmap(cap) => Op::Cap(CapOp::Unmap { cap: named(cap) }),
        Deed::Register(which) => register(&name(which), by, ticket),
        Deed::Unregister(which) => Op::Name(NameOp::Unregister { name: name(which), core: by }),
        Deed::Join(core) => return Event::Join(core),
        Deed::Leave(core) => return Event::Leave(core),
    };
    request(ticket, op)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn random_schedules(
        founders in 2..=4_u8,
        deeds in prop::collection::vec((0..4_u8, deed()), 1..40),
        crashes in 0..3_u32,
        order in prop::collection::vec(any::<u16>(), 400),
    ) {
        let mut world = world(founders, 4).with_crashes(crashes);
        for (ticket, &(core, deed)) in (0..).zip(&deeds) {
            world = world.script(core, event(core, ticket, deed));
        }
        let mut order = order.into_iter().fuse();
        loop {
            let pick = order.next().unwrap_or(1);
            let mut choices = world.choices();
            if pick % 16 != 0 {
                choices.retain(|choice| !matches!(choice, Choice::Crash(_)));
            }
            if choices.is_empty() {
                break;
            }
            world.take(choices[usize::from(pick / 16) % choices.len()]);
            // Whoever may map something does.
            world.each_live(|node| {
                for cap in 3..8 {
                    node.replica.caps.map(named(cap));
                }
            });
            if let Err(why) = check(&world) {
                return Err(TestCaseError::fail(why));
            }
        }
        if let Err(why) = check_end(&world) {
            return Err(TestCaseError::fail(why));
        }
    }
}
