//! Every ordering of small rings, as loom explores them. See the head of the library for the command.
#![cfg(loom)]

use io_rings::ready::ReadySet;
use io_rings::ring::{Back, Front, Protocol, Ring, Slots64};
use io_rings::urpc::{Channel, Receiver, SendError, Sender};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;

/// Explores with a bound on forced switches, which keeps a model within seconds and still finds every bug that
/// needs no more of them than that.
fn explore(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(model);
}

fn send_all<const LINES: usize>(sender: &mut Sender<'_, LINES>, count: u64) {
    for number in 1..=count {
        while let Err(error) = sender.try_send(&[number; 7]) {
            assert_eq!(error, SendError::Full);
            thread::yield_now();
        }
    }
}

fn messages_arrive<const LINES: usize>(count: u64, switches: usize) {
    explore(switches, move || {
        let channel = Arc::new(Channel::<LINES>::new());
        let far = channel.clone();
        let sending = thread::spawn(move || send_all(&mut Sender::new(&far), count));
        let mut receiver = Receiver::new(&channel);
        for number in 1..=count {
            let message = loop {
                match receiver.try_receive().unwrap() {
                    Some(message) => break message,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(message, [number; 7], "whole and in order");
        }
        sending.join().unwrap();
        assert_eq!(receiver.try_receive(), Ok(None), "nothing more");
    });
}

#[test]
fn urpc_messages_arrive_whole_and_in_order_through_one_line() {
    messages_arrive::<1>(3, 3);
}

#[test]
fn urpc_messages_arrive_whole_and_in_order_through_two_lines() {
    messages_arrive::<2>(4, 3);
}

#[test]
fn urpc_messages_arrive_whole_and_in_order_through_three_lines() {
    messages_arrive::<3>(4, 2);
}

/// A lost wake-up shows as a deadlock: the receiver waits for an event that nobody sends.
#[test]
fn urpc_loses_no_wake_up() {
    explore(3, || {
        let channel = Arc::new(Channel::<2>::new());
        let event = Arc::new(Notify::new());
        let (far, far_event) = (channel.clone(), event.clone());
        let sending = thread::spawn(move || {
            let mut sender = Sender::new(&far);
            for batch in 1..=2 {
                sender.try_send(&[batch; 7]).unwrap();
                if sender.peer_sleeps() {
                    far_event.notify();
                }
            }
        });
        let mut receiver = Receiver::new(&channel);
        for number in 1..=2 {
            let message = loop {
                if let Some(message) = receiver.try_receive().unwrap() {
                    break message;
                }
                if receiver.sleep() {
                    event.wait();
                    receiver.awake();
                }
            };
            assert_eq!(message, [number; 7]);
        }
        sending.join().unwrap();
    });
}

#[derive(Debug)]
struct Small;

impl Protocol for Small {
    type Request = u64;
    type Response = u64;
    type Slots = Slots64<1, 2>;
}

/// Both ends sleep whenever they may, and every request gets its answer: no wake-up is lost either way.
#[test]
fn ring_loses_no_wake_up_and_no_message() {
    const COUNT: u64 = 3;
    explore(2, || {
        let ring = Arc::new(Ring::<Small>::new());
        let mut front = Front::new(&ring);
        let (to_front, to_back) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (far, wake_front, wait_back) = (ring.clone(), to_front.clone(), to_back.clone());
        let answering = thread::spawn(move || {
            let mut back = Back::new(&far);
            for number in 1..=COUNT {
                let request = loop {
                    if let Some(request) = back.take_request().unwrap() {
                        break request;
                    }
                    if !back.final_check().unwrap() {
                        wait_back.wait();
                    }
                };
                assert_eq!(request, number, "in order");
                back.push_response(&(request * 10)).unwrap();
                if back.push_and_check_notify() {
                    wake_front.notify();
                }
            }
        });
        let (mut asked, mut answered) = (0, 0);
        while answered < COUNT {
            while asked < COUNT && front.push_request(&(asked + 1)).is_ok() {
                asked += 1;
            }
            if front.push_and_check_notify() {
                to_back.notify();
            }
            match front.take_response().unwrap() {
                Some(response) => {
                    answered += 1;
                    assert_eq!(response, answered * 10, "whole and in order");
                }
                None if front.final_check().unwrap() => {}
                None => to_front.wait(),
            }
        }
        answering.join().unwrap();
    });
}

/// Two wake tasks while a third runs them: whoever was woken is found, with what it was woken for, and found once more if
/// it was woken again.
#[test]
fn ready_set_loses_no_wake_up() {
    explore(3, || {
        let set = Arc::new(ReadySet::new());
        let posts: Arc<[AtomicU64; 2]> = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let waking: Vec<_> = (0..2)
            .map(|task| {
                let (set, posts) = (set.clone(), posts.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        posts[task].fetch_add(1, Ordering::Relaxed);
                        set.wake(task);
                    }
                })
            })
            .collect();
        let mut seen = [0; 2];
        while seen != [2; 2] {
            let ready = set.take();
            if ready == 0 {
                thread::yield_now();
            }
            for task in (0..2).filter(|task| ready >> task & 1 != 0) {
                seen[task] = posts[task].load(Ordering::Relaxed);
                assert!(seen[task] > 0, "woken for nothing that it could see");
            }
        }
        waking.into_iter().for_each(|waking| waking.join().unwrap());
    });
}
