//! Each end against a peer that scribbles on the page between any two of its steps.
//!
//! What must hold whatever the peer writes: no panic, every call returns, an end that has called its peer broken
//! never takes that back, and an end never has more under way than the ring holds.
#![cfg(not(loom))]

use io_rings::bytes::{ConsolePage, XenstorePage};
use io_rings::hostile::{Liar, SharedPage};
use io_rings::ring::{Back, Front, Protocol, Ring, Slots, Slots32, Slots64};
use io_rings::urpc::{ChannelPage, Receiver, SLOTS, SendError, Sender};
use proptest::prelude::*;

/// Runs `step` with a number that says what to do, with honest and lying turns of the peer between.
fn against_a_liar<P: SharedPage>(seed: u64, page: &P, mut step: impl FnMut(u64)) {
    let mut liar = Liar::new(seed);
    // Some peers lie rarely, so that the honest end gets far before the first lie.
    let rarity = 1 << (liar.number() % 10);
    for _ in 0..1000 {
        step(liar.number());
        if liar.number().is_multiple_of(rarity) {
            liar.scribble(page);
        }
    }
}

#[derive(Debug)]
struct Words;

impl Protocol for Words {
    type Request = [u64; 4];
    type Response = [u64; 2];
    type Slots = Slots64<4, 8>;
}

#[derive(Debug)]
struct Halves;

impl Protocol for Halves {
    type Request = [u16; 5];
    type Response = u8;
    type Slots = Slots32<3, 2>;
}

fn fronts_and_backs<P: Protocol>(seed: u64, make: (P::Request, P::Response)) {
    let ring = Ring::<P>::new();
    let (mut front, mut back) = (Front::new(&ring), Back::new(&ring));
    let slots = P::Slots::COUNT;
    let (mut front_broken, mut back_broken) = (false, false);
    against_a_liar(seed, &ring, |what| match what % 8 {
        0 => {
            let free = front.free_requests();
            assert!(free <= slots && (free == 0) == front.push_request(&make.0).is_err());
        }
        1 => {
            front.push_and_check_notify();
        }
        2 => {
            let answer = front.take_response();
            assert!(answer.is_err() || !front_broken);
            front_broken |= answer.is_err();
        }
        3 => {
            let answer = front.final_check();
            assert!(answer.is_err() || !front_broken);
            front_broken |= answer.is_err();
        }
        4 => {
            let answer = back.take_request();
            assert!(answer.is_err() || !back_broken);
            back_broken |= answer.is_err();
        }
        5 => assert_eq!(back.owed() == 0, back.push_response(&make.1).is_err()),
        6 => {
            back.push_and_check_notify();
        }
        _ => {
            let answer = back.final_check();
            assert!(answer.is_err() || !back_broken);
            back_broken |= answer.is_err();
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_sender_survives(seed: u64) {
        let page = ChannelPage::new();
        let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
        let mut broken = false;
        against_a_liar(seed, &page, |what| match what % 4 {
            0 | 1 => {
                let answer = sender.try_send(&[what; 7]);
                assert!(!broken || answer == Err(SendError::PeerBroken));
                broken |= answer == Err(SendError::PeerBroken);
            }
            2 => {
                let free = sender.free();
                assert!(free <= SLOTS && (!broken || free == 0));
                sender.peer_sleeps();
            }
            _ => {
                _ = receiver.try_receive();
            }
        });
    }

    #[test]
    fn a_receiver_survives(seed: u64) {
        let page = ChannelPage::new();
        let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
        let mut broken = false;
        against_a_liar(seed, &page, |what| match what % 4 {
            0 => {
                _ = sender.try_send(&[what; 7]);
            }
            1 | 2 => {
                let answer = receiver.try_receive();
                assert!(!broken || answer.is_err());
                broken |= answer.is_err();
            }
            _ => {
                assert!(!(receiver.sleep() && broken));
                receiver.awake();
            }
        });
    }

    #[test]
    fn rings_survive(seed: u64) {
        fronts_and_backs::<Words>(seed, ([seed; 4], [seed; 2]));
        fronts_and_backs::<Halves>(seed, ([seed as u16; 5], seed as u8));
    }

    #[test]
    fn byte_rings_survive(seed: u64) {
        let (console, store) = (ConsolePage::new(), XenstorePage::new());
        let (mut reader, mut writer) = (console.back().0, console.guest().1);
        against_a_liar(seed, &console, |what| {
            let mut bytes = [0; 300];
            let length = (what / 2 % 300) as usize;
            if what % 2 == 0 {
                let broken = writer.broken();
                assert!(writer.write(&bytes[..length]) <= if broken { 0 } else { length });
                assert!(writer.room() <= 2048);
            } else {
                let broken = reader.broken();
                assert!(reader.read(&mut bytes[..length]) <= if broken { 0 } else { length });
                assert!(reader.available() <= 2048);
            }
        });
        let (mut reader, mut writer) = store.guest();
        against_a_liar(seed, &store, |what| {
            let mut bytes = [0; 300];
            assert!(reader.read(&mut bytes) <= 300);
            assert!(writer.write(&bytes[..(what % 300) as usize]) <= 300);
        });
    }
}
