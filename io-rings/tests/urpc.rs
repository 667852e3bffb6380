//! The URPC channel against a queue as its model, and against lies that it must notice.
#![cfg(not(loom))]

use std::collections::VecDeque;

use io_rings::PeerBroken;
use io_rings::urpc::{ChannelPage, Message, Receiver, SLOTS, SendError, Sender};
use proptest::prelude::*;

fn message(number: u64) -> Message {
    core::array::from_fn(|word| number.wrapping_mul(1000) + word as u64)
}

#[test]
fn a_full_channel_says_so_and_goes_on_after_an_acknowledgement() {
    let page = ChannelPage::new();
    let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
    for number in 0..SLOTS as u64 {
        assert_eq!(sender.try_send(&message(number)), Ok(()));
    }
    assert_eq!(sender.try_send(&message(99)), Err(SendError::Full));
    assert_eq!(sender.free(), 0);
    for number in 0..16 {
        assert_eq!(sender.free(), 0, "no acknowledgement before a quarter ring");
        assert_eq!(receiver.try_receive(), Ok(Some(message(number))));
    }
    assert_eq!(sender.free(), 16);
    assert_eq!(sender.try_send(&message(63)), Ok(()));
    for number in 16..=63 {
        assert_eq!(receiver.try_receive(), Ok(Some(message(number))));
    }
    assert_eq!(receiver.try_receive(), Ok(None));
}

#[test]
fn a_sleeper_is_seen_and_owes_no_acknowledgement() {
    let page = ChannelPage::new();
    let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
    assert!(!sender.peer_sleeps());
    sender.try_send(&message(1)).unwrap();
    assert!(!receiver.sleep(), "a message is there");
    assert!(!sender.peer_sleeps());
    assert_eq!(receiver.try_receive(), Ok(Some(message(1))));
    assert_eq!(sender.free(), SLOTS - 1);
    assert!(receiver.sleep());
    assert_eq!(sender.free(), SLOTS, "drained, and known to be");
    assert!(sender.peer_sleeps());
    receiver.awake();
    assert!(!sender.peer_sleeps());
}

#[test]
fn a_reset_page_is_a_fresh_channel() {
    let page = ChannelPage::new();
    for _ in 0..2 {
        let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
        for number in 0..200 {
            sender.try_send(&message(number)).unwrap();
            assert_eq!(receiver.try_receive(), Ok(Some(message(number))));
        }
        assert!(receiver.sleep());
        page.reset();
    }
}

/// Two senders on one page are a sender that lies: its numbers are not the ones awaited.
#[test]
fn a_sequence_number_nobody_awaits_breaks_the_peer_for_good() {
    let page = ChannelPage::new();
    let mut receiver = Receiver::new(&page);
    let mut sender = Sender::new(&page);
    for number in 0..10 {
        sender.try_send(&message(number)).unwrap();
        receiver.try_receive().unwrap();
    }
    let mut stale = Receiver::new(&page);
    assert_eq!(stale.try_receive(), Ok(Some(message(0))));
    for number in 10..80 {
        sender.try_send(&message(number)).unwrap();
        receiver.try_receive().unwrap();
    }
    assert_eq!(stale.try_receive(), Err(PeerBroken), "line 2 holds a number one lap ahead");
    assert!(!stale.sleep(), "a broken channel is not slept on");
    page.reset();
    assert_eq!(stale.try_receive(), Err(PeerBroken), "for good");
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_breaks_the_peer_for_good() {
    let page = ChannelPage::new();
    let (mut first, mut receiver) = (Sender::new(&page), Receiver::new(&page));
    for number in 0..20 {
        first.try_send(&message(number)).unwrap();
        receiver.try_receive().unwrap();
    }
    let mut second = Sender::new(&page);
    assert_eq!(second.free(), 0, "16 acknowledged, none sent");
    assert_eq!(second.try_send(&message(0)), Err(SendError::PeerBroken));
    page.reset();
    assert_eq!(second.try_send(&message(0)), Err(SendError::PeerBroken));
}

#[test]
fn an_acknowledgement_taken_back_breaks_the_peer() {
    let page = ChannelPage::new();
    let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
    for number in 0..20 {
        sender.try_send(&message(number)).unwrap();
        receiver.try_receive().unwrap();
    }
    assert_eq!(sender.free(), SLOTS - 4);
    page.reset();
    assert_eq!(sender.free(), 0);
    assert_eq!(sender.try_send(&message(0)), Err(SendError::PeerBroken));
}

proptest! {
    /// Any interleaving of sends, receives and naps does what a bounded queue does, over several laps.
    #[test]
    fn behaves_as_a_queue(steps in proptest::collection::vec(0u8..8, 0..2000)) {
        let page = ChannelPage::new();
        let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
        let mut model = VecDeque::new();
        let (mut number, mut asleep) = (0, false);
        for step in steps {
            match step {
                0..=3 => match sender.try_send(&message(number)) {
                    Ok(()) => {
                        model.push_back(message(number));
                        number += 1;
                        prop_assert!(model.len() <= SLOTS);
                    }
                    Err(error) => {
                        prop_assert_eq!(error, SendError::Full);
                        prop_assert!(model.len() + 16 > SLOTS);
                    }
                },
                4..=6 => prop_assert_eq!(receiver.try_receive().unwrap(), model.pop_front()),
                _ if asleep => {
                    receiver.awake();
                    asleep = false;
                }
                _ => {
                    asleep = receiver.sleep();
                    prop_assert_eq!(asleep, model.is_empty());
                }
            }
            prop_assert_eq!(sender.peer_sleeps(), asleep);
            prop_assert!(sender.free() + model.len() <= SLOTS);
        }
    }
}

#[test]
fn two_threads_exchange_a_million_messages() {
    static PAGE: ChannelPage = ChannelPage::new();
    const COUNT: u64 = 1_000_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = Sender::new(&PAGE);
            for number in 0..COUNT {
                while sender.try_send(&message(number)) == Err(SendError::Full) {
                    std::thread::yield_now();
                }
            }
        });
        let mut receiver = Receiver::new(&PAGE);
        for number in 0..COUNT {
            let got = loop {
                match receiver.try_receive().unwrap() {
                    Some(got) => break got,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(got, message(number));
        }
    });
}
