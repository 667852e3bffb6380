//! Whole meshes at work, honest ones and one with a liar in it.

use proptest::prelude::*;

use super::*;
use crate::kernel::{Pace, Program};
use crate::mesh::fixture::{Pages, gather, gather_on};
use crate::platform::fake::Fake;
use io_rings::urpc::{Receiver, Sender};

#[derive(Default)]
struct Member {
    exchange: Exchange,
    laps: u64,
}

impl Program<Fake> for Member {
    fn step(&mut self, kernel: &mut Kernel<Fake>) -> Step {
        self.laps += u64::from(self.exchange.take_lap().is_some());
        self.exchange.step(kernel)
    }

    fn message(&mut self, kernel: &mut Kernel<Fake>, slot: usize, message: &Message) {
        self.exchange.message(kernel, slot, message);
    }

    fn peer(&mut self, _: &mut Kernel<Fake>, slot: usize, _: bool) {
        self.exchange.peer(slot);
    }
}

fn machine(guests: usize) -> Vec<(Kernel<Fake>, Member)> {
    gather(guests)
        .into_iter()
        .map(|(platform, mesh)| (Kernel::new(platform, Some(mesh), Pace::Sleep(0)), Member::default()))
        .collect()
}

#[test]
fn three_guests_lose_nothing_and_the_token_goes_round() {
    let mut machine = machine(3);
    for _ in 0..1000 {
        for (kernel, member) in &mut machine {
            kernel.round(member);
        }
    }
    for (kernel, _) in &machine {
        let counts = kernel.mesh.as_ref().unwrap().counts();
        assert!(counts.received > 4_000, "{counts:?}");
        assert_eq!((counts.lost, counts.liars), (0, 0));
    }
    assert_eq!(machine[0].1.laps, 1, "told once per change of membership");
}

#[test]
fn a_guest_that_stands_still_stops_nobody_and_loses_nothing() {
    let mut machine = machine(3);
    for round in 0..3000 {
        for (index, (kernel, member)) in machine.iter_mut().enumerate() {
            if index != 1 || !(1000..2000).contains(&round) {
                kernel.round(member);
            }
        }
    }
    for (kernel, _) in &machine {
        let counts = kernel.mesh.as_ref().unwrap().counts();
        assert!(counts.received > 10_000, "{counts:?}");
        assert_eq!((counts.lost, counts.liars), (0, 0));
    }
}

#[test]
fn a_number_out_of_order_is_counted() {
    let mut machine = machine(2);
    let (kernel, member) = &mut machine[0];
    member.exchange.message(kernel, 2, &[kind::PING, 0, 0, 0, 0, 0, 0]);
    member.exchange.message(kernel, 2, &[kind::PING, 2, 0, 0, 0, 0, 0]);
    member.exchange.message(kernel, 2, &[kind::PONG, 0, 0, 0, 0, 0, 0]);
    member.exchange.message(kernel, 99, &[kind::PONG, 0, 0, 0, 0, 0, 0]);
    assert_eq!(kernel.mesh.as_ref().unwrap().counts().lost, 2);
}

/// What a hostile guest may do with a channel it shares: it has every right to write there, and no rule to keep.
#[derive(Clone, Debug)]
enum Lie {
    /// Writes a message with a number of its own counting.
    Send(Message),
    /// Begins to count anew.
    Forget,
    /// Reads, and acknowledges, as if it were alone.
    Read,
    /// Wipes the pages.
    Wipe,
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        (0u64..12, prop::array::uniform6(prop_oneof![0u64..40, any::<u64>()]))
            .prop_map(|(kind, [a, b, c, d, e, f])| Lie::Send([kind, a, b, c, d, e, f])),
        Just(Lie::Forget),
        Just(Lie::Read),
        Just(Lie::Wipe),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_liar_harms_no_conversation_but_its_own(
        lies in prop::collection::vec((1usize..3, lie()), 1..300),
        rounds_between in 0usize..3,
    ) {
        let pages = Pages::new(4);
        let mut members = gather_on(&pages, 3);
        members.truncate(2);
        let mut machine: Vec<_> = members
            .into_iter()
            .map(|(platform, mesh)| (Kernel::new(platform, Some(mesh), Pace::Sleep(0)), Member::default()))
            .collect();
        let ends = |victim: usize| {
            let window = pages.between(victim, 3);
            (Sender::new(&window.downwards), Receiver::new(&window.upwards))
        };
        let mut forged = [ends(1), ends(2)];
        for (victim, lie) in lies {
            let (sender, receiver) = &mut forged[victim - 1];
            match lie {
                Lie::Send(message) => {
                    let _ = sender.try_send(&message);
                }
                Lie::Forget => forged[victim - 1] = ends(victim),
                Lie::Read => {
                    let _ = receiver.try_receive();
                }
                Lie::Wipe => pages.between(victim, 3).downwards.reset(),
            }
            for _ in 0..rounds_between {
                for (kernel, member) in &mut machine {
                    kernel.round(member);
                }
            }
        }
        let answered = |machine: &[(Kernel<Fake>, Member)]| {
            [machine[0].1.exchange.conversations[2].answered, machine[1].1.exchange.conversations[1].answered]
        };
        let before = answered(&machine);
        for _ in 0..100 {
            for (kernel, member) in &mut machine {
                kernel.round(member);
            }
        }
        for (before, after) in before.into_iter().zip(answered(&machine)) {
            prop_assert!(after > before + 50, "the honest two go on: {before} to {after}");
        }
        for ((kernel, _), other) in machine.iter().zip([2, 1]) {
            let mesh = kernel.mesh.as_ref().unwrap();
            prop_assert_eq!(mesh.lost_from(other), 0);
            prop_assert!(mesh.is_live(other));
        }
    }
}
