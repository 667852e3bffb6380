use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::vec::Vec;

use super::counters::{Counter, Shared, Sloppy};
use super::shootdown::{Broadcast, Node, Pages};
use super::*;
use crate::agreement::{CoreSet, Topology};

/// Two threads and a counter that is read and written apart: each lost update is two in the lock at once.
#[test]
fn locks_let_one_in() {
    const TIMES: u64 = 300;
    for (name, make) in locks::ALL {
        let (lock, count) = (make(2), AtomicU64::new(0));
        thread::scope(|scope| {
            for core in 0..2 {
                let (lock, count) = (&lock, &count);
                scope.spawn(move || {
                    for _ in 0..TIMES {
                        let token = lock.acquire(core);
                        let value = count.load(Ordering::Relaxed);
                        count.store(value + 1, Ordering::Relaxed);
                        lock.release(core, token);
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 2 * TIMES, "{name}");
    }
}

#[test]
fn counters_count() {
    const TIMES: u64 = 10_000;
    let sloppy = Sloppy::new(2, 64);
    let shared = Shared::default();
    for counter in [&sloppy as &dyn Counter, &shared] {
        thread::scope(|scope| {
            for core in 0..2 {
                scope.spawn(move || (0..TIMES).for_each(|_| counter.add(core)));
            }
        });
    }
    assert_eq!(shared.read(), 2 * TIMES);
    let missing = 2 * TIMES - sloppy.read();
    assert!(missing <= sloppy.slack() && missing == 2 * (TIMES % 64), "{missing}");
}

#[test]
fn lines_are_updated() {
    let lines = SharedLines::default();
    lines.update(3);
    lines.update(1);
    assert_eq!(lines.values(), [2, 1, 1, 0, 0, 0, 0, 0]);
}

/// Four cores in two packages: every way to tell them reaches all, in every round.
#[test]
fn all_are_told() {
    const ROUNDS: u64 = 20;
    let pair = |low: u8| CoreSet::one(low).with(CoreSet::one(low + 1));
    let packages = Topology::levels(std::vec![std::vec![pair(0), pair(2)]]);
    for (tree, direct) in [(Topology::flat(), 3), (packages, 2)] {
        let pages = Pages::new(4);
        let mut nodes: Vec<Node> =
            (0..4).map(|core| Node::new(&pages, &tree, core, |child| child as u64)).collect();
        assert_eq!(nodes[0].children(), direct);
        thread::scope(|scope| {
            let mut root = nodes.remove(0);
            for mut node in nodes.drain(..) {
                scope.spawn(move || assert!((1..=ROUNDS).all(|round| node.hear(round))));
            }
            assert!((1..=ROUNDS).all(|round| root.tell(round)));
        });
    }
    let broadcast = Broadcast::new(3);
    thread::scope(|scope| {
        for core in 1..3 {
            let broadcast = &broadcast;
            scope.spawn(move || (1..=ROUNDS).for_each(|round| broadcast.hear(core, round)));
        }
        (1..=ROUNDS).for_each(|round| broadcast.tell(round));
    });
}

#[test]
fn members_agree() {
    let mut newcomers = members::gather(2, &Topology::flat()).unwrap();
    let (other, first) = (newcomers.pop().unwrap(), newcomers.pop().unwrap());
    let [done, back] = [const { AtomicU64::new(0) }; 2];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = other.begin().unwrap();
            while other.members() < 2 {
                other.turn();
            }
            let (left, came) = other.go_and_come(2);
            assert!(left.as_nanos() > 0 && came.as_nanos() > 0);
            back.store(1, Ordering::Release);
            while done.load(Ordering::Acquire) == 0 {
                other.turn();
            }
        });
        let mut first = first.begin().unwrap();
        while first.members() < 2 {
            first.turn();
        }
        for (phases, depth) in [(1, 1), (1, 8), (2, 1), (2, 8)] {
            assert!(first.operate(phases, 12, depth));
        }
        while back.load(Ordering::Acquire) == 0 {
            first.turn();
        }
        done.store(1, Ordering::Release);
    });
}
