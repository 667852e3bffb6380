//! Each word that there is, with fields of each kind wrong, out of the mouth of one core, at each step of what the others do.
//! Nobody panics; and but for words about epochs, which a liar can say within the rules, the others end alike and have all
//! that they asked for.

use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::agreement::{Body, CoreSet, Dead, Decision, Message, Refusal, Standing, Topology, TxnId};
use crate::monitor::wire::{Say, cut};
use crate::replica::capabilities::CapOp;
use crate::replica::tests::{RAM, register};
use crate::replica::{Op, State};

const LIAR: u8 = 2;
/// Steps of the others between which it says something.
const STEPS: usize = 40;

fn bodies() -> Vec<Body<Op, State>> {
    let unmap = Op::Cap(CapOp::Unmap { cap: RAM });
    let sets = [CoreSet::EMPTY, CoreSet::one(0), CoreSet::one(LIAR), CoreSet::first(4), CoreSet::first(64)];
    let mut all = vec![Body::Installed, Body::Begun, Body::Stale];
    for initiator in [0, LIAR, 77] {
        for sequence in [0, 1, u64::MAX] {
            let txn = TxnId { initiator, sequence };
            for (op, settled) in
                [(unmap.clone(), 0), (register("lie", initiator, 1), u64::MAX), (register("lie", 0, 1), 0)]
            {
                all.push(Body::Apply { txn, op: op.clone(), settled });
                all.push(Body::Prepare { txn, op, settled });
            }
            all.extend([Body::Commit { txn }, Body::Abort { txn }, Body::Ack { txn }]);
            all.extend([None, Some(Refusal::Busy)].map(|refusal| Body::Vote { txn, refusal }));
        }
    }
    for set in sets {
        let decision = Decision { members: set, fresh: set, lives: vec![(0, 1), (LIAR, 1)], commits: vec![] };
        let dead = Dead { all: set, ended: set };
        all.push(Body::Wish { joins: set, leaves: set, silent: CoreSet::EMPTY });
        all.push(Body::Wish { joins: CoreSet::EMPTY, leaves: CoreSet::EMPTY, silent: set });
        all.push(Body::Install { decision: decision.clone(), state: None });
        for attempt in [0, 1, u64::MAX] {
            all.push(Body::Propose { attempt, dead });
            let standings = [Standing::Before(vec![]), Standing::Fresh, Standing::Decided(decision.clone())];
            all.extend(standings.map(|standing| Body::Report { attempt, dead, standing }));
        }
    }
    all
}

/// All of them; and whether the others have to end alike.
fn words() -> Vec<(Say, bool)> {
    let mut all = Vec::new();
    for body in bodies() {
        let harmless = !matches!(&body, Body::Propose { .. } | Body::Report { .. } | Body::Install { .. })
            && !matches!(&body, Body::Wish { silent, .. } if !silent.is_empty());
        let epochs = [0, 4, 5, u64::MAX];
        all.extend(epochs.map(|epoch| (Say::Agree(Message { epoch, body: body.clone() }), harmless)));
    }
    for number in [0, 1, 3, 70_000, u32::MAX] {
        let core = number as u8;
        let since = Some(u64::from(number));
        let says = [
            Say::Hello { life: number, wants_in: false, since },
            Say::Hello { life: number, wants_in: true, since: None },
            Say::Met { core, life: number },
            Say::Accuse { core },
            Say::Silent { core, epoch: 4, silent: true },
            Say::Silent { core, epoch: u64::MAX, silent: false },
            Say::LeftOut { life: number, begun: true, since: None },
            Say::LeftOut { life: number, begun: false, since },
            Say::To { life: number },
            Say::Open { service: u64::from(number), number },
            Say::Opened { number, theirs: number },
            Say::Room { number, lines: number },
            Say::Close { number },
            Say::Returned { page: core },
            Say::Ping,
            Say::Alive,
        ];
        all.extend(says.map(|say| (say, true)));
    }
    all
}

#[test]
fn each_word_at_each_step() {
    let others = CoreSet::first(4).without(CoreSet::one(LIAR));
    for (turn, (say, harmless)) in words().into_iter().enumerate() {
        // Every word at some steps, and every step with some words of its kind.
        for step in (turn % 8..STEPS).step_by(8) {
            let mut cluster = Cluster::of_members(4, 1 + turn as u64, Topology::flat());
            let asks = [0, 1, 3].map(|core| (core, cluster.request(core, register("wanted", core, 1))));
            for _ in 0..step {
                cluster.happen();
            }
            cluster.hostile.insert(LIAR);
            let mut lines = VecDeque::new();
            cut(&say, &mut lines);
            for to in others.iter() {
                lines.iter().for_each(|line| cluster.forge(LIAR, to, *line));
            }
            cluster.settle();
            cluster.crash(LIAR);
            cluster.settle();
            if !harmless {
                continue;
            }
            assert_eq!(cluster.check_end(others), Ok(()), "{say:?} at step {step}");
            let outcomes: Vec<_> = asks.into_iter().map(|(core, ask)| cluster.outcome(core, ask)).collect();
            let won = outcomes.iter().filter(|outcome| **outcome == Some(Ok(()))).count();
            assert!(won == 1 && !outcomes.contains(&None), "{say:?} at step {step}: {outcomes:?}");
        }
    }
}
