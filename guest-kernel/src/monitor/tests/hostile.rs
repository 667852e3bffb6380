//! A core whose monitor says anything at all. Nobody panics, and where what it says is no monitor's words, nobody else
//! even waits for it.

use std::collections::VecDeque;
use std::vec::Vec;

use io_rings::urpc::Message;
use proptest::prelude::*;

use super::*;
use crate::agreement::{Body, CoreSet, Dead, Decision, Standing, Topology, TxnId};
use crate::monitor::wire::{Say, cut};
use crate::programs::random::Random;
use crate::replica::tests::register;
use crate::replica::{Op, State};

const LIAR: u8 = 2;

/// Lines that are a monitor's by their looks, with any content.
fn noise(random: &mut Random) -> Message {
    let left = if random.below(4) == 0 { random.draw() >> 32 } else { 1 + random.below(60) };
    let mut line = [abi::mesh::kind::MONITOR | left << 32, 0, 0, 0, 0, 0, 0];
    line[1..].iter_mut().for_each(|word| *word = random.draw() & random.draw() & random.draw());
    line
}

/// Words that a monitor could say, though not this one now.
fn words(random: &mut Random) -> Say {
    let small = |random: &mut Random| match random.below(8) {
        0 => random.draw(),
        _ => random.below(6),
    };
    let set = |random: &mut Random| (0..64).filter(|_| random.below(3) == 0).collect::<CoreSet>();
    let op = |random: &mut Random| match random.below(3) {
        0 => crate::replica::tests::retype(
            random.below(5) as u8,
            crate::replica::capabilities::CapId(random.draw()),
            random.draw() as u32,
            crate::replica::capabilities::Kind::Frame,
            small(random),
            small(random),
        ),
        1 => Op::Cap(crate::replica::capabilities::CapOp::Unmap { cap: crate::replica::tests::RAM }),
        _ => register("any", random.below(5) as u8, 1),
    };
    let txn = |random: &mut Random| TxnId { initiator: random.below(5) as u8, sequence: small(random) };
    let commits = |random: &mut Random| -> Vec<(TxnId, Op)> {
        (0..random.below(4)).map(|_| (txn(random), op(random))).collect()
    };
    let lives = |random: &mut Random| {
        (0..random.below(3)).map(|_| (random.below(70) as u8, random.below(9) as u32)).collect()
    };
    let decision = |random: &mut Random| Decision {
        members: set(random),
        fresh: set(random),
        lives: lives(random),
        commits: commits(random),
    };
    let dead = |random: &mut Random| Dead { all: set(random), ended: set(random) };
    let body: Body<Op, State> = match random.below(14) {
        0 => Body::Apply { txn: txn(random), op: op(random), settled: small(random) },
        1 | 2 => Body::Prepare { txn: txn(random), op: op(random), settled: small(random) },
        3 => Body::Vote { txn: txn(random), refusal: None },
        4 => Body::Commit { txn: txn(random) },
        5 => Body::Abort { txn: txn(random) },
        6 => Body::Ack { txn: txn(random) },
        7 => Body::Wish { joins: set(random), leaves: set(random), silent: CoreSet::EMPTY },
        8 => Body::Propose { attempt: small(random), dead: dead(random) },
        9 => {
            let standing = match random.below(3) {
                0 => Standing::Before(commits(random)),
                1 => Standing::Fresh,
                _ => Standing::Decided(decision(random)),
            };
            Body::Report { attempt: small(random), dead: dead(random), standing }
        }
        10 => Body::Install { decision: decision(random), state: None },
        11 => Body::Installed,
        12 => Body::Begun,
        _ => Body::Stale,
    };
    match random.below(17) {
        16 => Say::Returned { page: random.below(12) as u8 },
        12 => Say::Open { service: 1, number: random.draw() as u32 },
        13 => Say::Opened { number: random.below(3) as u32, theirs: random.draw() as u32 },
        14 => Say::Room { number: random.below(3) as u32, lines: random.draw() as u32 },
        15 => Say::Close { number: random.below(3) as u32 },
        0 => Say::Hello { life: random.draw() as u32, wants_in: random.below(2) == 0, since: None },
        1 => Say::Met { core: random.draw() as u8, life: random.draw() as u32 },
        2 => Say::Accuse { core: random.draw() as u8 },
        _ => Say::Agree(crate::agreement::Message { epoch: small(random), body }),
    }
}

#[test]
fn noise_costs_the_sender_alone() {
    for seed in 1..=200 {
        let mut cluster = Cluster::of_members(4, seed, Topology::flat());
        cluster.hostile.insert(LIAR);
        for to in [0, 1, 3] {
            for _ in 0..20 {
                let line = noise(&mut cluster.random);
                cluster.forge(LIAR, to, line);
            }
        }
        let tickets: Vec<_> = [0, 1, 3]
            .into_iter()
            .map(|core| (core, cluster.request(core, register(&std::format!("of {core}"), core, 1))))
            .collect();
        cluster.settle();
        // It lives still, and nobody waits for it.
        for (core, ticket) in tickets {
            assert_eq!(cluster.outcome(core, ticket), Some(Ok(())), "seed {seed}, core {core}");
        }
        let others = CoreSet::first(4).without(CoreSet::one(LIAR));
        assert_eq!(cluster.members(), others, "seed {seed}");
        assert_eq!(cluster.check_end(others), Ok(()), "seed {seed}");
    }
}

#[test]
fn no_words_make_anybody_panic() {
    for seed in 1..=1000 {
        let mut cluster = Cluster::of_members(4, seed, Topology::flat());
        if seed % 3 == 0 {
            // One that is outside hears them, too.
            cluster.crash(1);
            cluster.start(1, false);
        }
        cluster.hostile.insert(LIAR);
        for step in 0..60 {
            let mut lines = VecDeque::new();
            cut(&words(&mut cluster.random), &mut lines);
            let to = [0, 1, 3][cluster.random.below(3) as usize];
            for line in lines {
                cluster.forge(LIAR, to, line);
            }
            if step % 10 == 0 {
                cluster.request(0, register(&std::format!("{step}"), 0, 1));
            }
            cluster.happen();
            cluster.happen();
        }
        cluster.settle();
        cluster.crash(LIAR);
        cluster.settle();
    }
}

proptest! {
    #[test]
    fn nor_does_any_line(lines in prop::collection::vec((0..4_u8, any::<[u64; 7]>()), 0..40)) {
        let mut cluster = Cluster::of_members(4, 3, Topology::flat());
        cluster.hostile.insert(LIAR);
        for (to, mut line) in lines {
            if to != LIAR {
                line[0] = abi::mesh::kind::MONITOR | (line[0] % 400) << 32;
                cluster.forge(LIAR, to, line);
            }
        }
        cluster.settle();
    }
}
