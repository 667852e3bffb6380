//! What is said, cut into lines and put together again; and lines that are none.

use std::collections::VecDeque;

use proptest::prelude::*;

use crate::agreement::Replica;
use crate::agreement::{Body, CoreSet, Decision, Message, TxnId};
use crate::monitor::wire::{Assembler, Malformed, Say, cut};
use crate::replica::System;
use crate::replica::tests::register;

fn through(say: &Say) -> usize {
    let mut lines = VecDeque::new();
    let count = cut(say, &mut lines);
    assert_eq!(count, lines.len());
    let mut assembler = Assembler::default();
    let last = lines.pop_back().unwrap();
    for line in lines {
        assert_eq!(assembler.take(&line), Ok(None));
    }
    assert_eq!(assembler.take(&last).unwrap().as_ref(), Some(say));
    count
}

#[test]
fn short_words_take_a_line_and_long_ones_more() {
    let txn = TxnId { initiator: 3, sequence: 1000 };
    let agree = |body| Say::Agree(Message { epoch: 12, body });
    assert_eq!(through(&Say::Hello { life: 70_000, wants_in: true, since: None }), 1);
    assert_eq!(through(&agree(Body::Commit { txn })), 1);
    assert_eq!(through(&agree(Body::Prepare { txn, op: register("network/eth0", 3, 1), settled: 999 })), 1);
    let mut system = System::new(0);
    system.epoch(CoreSet::EMPTY, CoreSet::first(4));
    for name in 0..500 {
        system.apply(&register(&std::format!("a name that is long enough {name}"), 0, name));
    }
    let members = CoreSet::first(4);
    let decision =
        Decision { members, fresh: CoreSet::one(3), lives: std::vec![(3, 7)], commits: std::vec![] };
    let install = agree(Body::Install { decision, state: Some(system.state()) });
    assert!(through(&install) > 300);
}

#[test]
fn what_does_not_add_up_is_refused() {
    let line = |left: u64, word| [abi::mesh::kind::MONITOR | left << 32, word, 0, 0, 0, 0, 0];
    let refused = |lines: &[[u64; 7]]| {
        let mut assembler = Assembler::default();
        let results: std::vec::Vec<_> = lines.iter().map(|line| assembler.take(line)).collect();
        results.last() == Some(&Err(Malformed))
    };
    assert!(refused(&[line(0, 0)]), "nothing is said");
    assert!(refused(&[line(u64::from(u32::MAX), 0)]), "longer than anything");
    assert!(refused(&[line(100, 0), line(51, 0)]), "a byte went on the way");
    assert!(refused(&[line(1, 0xff)]), "no such word");
    assert!(refused(&[line(9, 0)]), "more than a word");
}

proptest! {
    #[test]
    fn any_lines_are_taken_or_refused(lines in prop::collection::vec(any::<[u64; 7]>(), 0..50)) {
        let mut assembler = Assembler::default();
        for line in &lines {
            _ = assembler.take(line);
        }
    }
}
