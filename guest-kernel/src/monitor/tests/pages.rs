//! Pages that change hands: each is in one side's hands at a time, and none gets lost.

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use abi::mesh::{PAGES, kind};

use super::channels::connected;
use super::*;
use crate::agreement::CoreId;
use crate::monitor::News;
use crate::monitor::channels::{ChannelId, NotNow, Unread};
use crate::monitor::pages::Held;
use crate::monitor::wire::{Say, cut};

/// What the programs of cores 1 and 2 have in their hands, and their ends of the channel.
struct Hands {
    cluster: Cluster,
    ends: [ChannelId; 2],
    held: [Vec<Held>; 2],
}

impl Hands {
    fn new(seed: u64) -> Self {
        let (cluster, near, far) = connected(seed);
        Self { cluster, ends: [near, far], held: Default::default() }
    }

    fn core(side: usize) -> CoreId {
        side as CoreId + 1
    }

    fn take(&mut self, side: usize) {
        let (own, peer) = (Self::core(side), Self::core(1 - side));
        let page = self.cluster.core(own).monitor.take_page(peer);
        self.held[side].extend(page);
    }

    fn give(&mut self, side: usize) {
        let Some(page) = self.held[side].pop() else { return };
        let monitor = &mut self.cluster.core(Self::core(side)).monitor;
        match monitor.send_page(self.ends[side], page, &[7; 5]) {
            Ok(()) => assert!(!monitor.holds(page)),
            Err(NotNow::Full) => self.held[side].push(page),
            Err(NotNow::Closed) => monitor.give_back(page),
        }
    }

    fn receive(&mut self, side: usize) {
        match self.cluster.core(Self::core(side)).monitor.receive(self.ends[side]) {
            Some(Unread::Page(page, note)) => {
                assert_eq!(note, [7; 5]);
                self.held[side].push(page);
            }
            Some(Unread::Line(line)) => panic!("nobody sent {line:?}"),
            None => {}
        }
    }

    fn drop_one(&mut self, side: usize) {
        if let Some(page) = self.held[side].pop() {
            self.cluster.core(Self::core(side)).monitor.give_back(page);
        }
    }

    fn flush(&mut self) {
        (1..=2).for_each(|core| self.cluster.flush(core));
        let numbers = |side: usize| self.held[side].iter().map(|page| page.number).collect::<BTreeSet<_>>();
        let (near, far) = (numbers(0), numbers(1));
        assert!(near.is_disjoint(&far), "{near:?} {far:?}");
        assert_eq!((near.len(), far.len()), (self.held[0].len(), self.held[1].len()));
    }

    /// All pages are at home, and free.
    fn check_end(&mut self) {
        for side in 0..2 {
            while !self.held[side].is_empty() {
                self.drop_one(side);
            }
        }
        self.flush();
        self.cluster.settle();
        for side in 0..2 {
            (0..=PAGES).for_each(|_| self.take(side));
            assert_eq!(self.held[side].len(), PAGES / 2, "of side {side}: {:?}", self.held[side]);
        }
        self.flush();
    }
}

#[test]
fn a_page_is_in_one_side_s_hands_and_comes_home() {
    for seed in 1..=200 {
        let mut hands = Hands::new(seed);
        for _ in 0..500 {
            let side = hands.cluster.random.below(2) as usize;
            match hands.cluster.random.below(8) {
                0 => hands.take(side),
                1 | 2 => hands.give(side),
                3 | 4 => hands.receive(side),
                5 => hands.drop_one(side),
                _ => _ = hands.cluster.happen(),
            }
            hands.flush();
        }
        // Those on the way, and those that were not read, go home with the channel's end.
        let closer = hands.cluster.random.below(2) as usize;
        let end = hands.ends[closer];
        hands.cluster.core(Hands::core(closer)).monitor.close(end);
        hands.check_end();
    }
}

#[test]
fn a_page_ends_with_the_other_side_s_life() {
    let mut hands = Hands::new(5);
    hands.take(0);
    hands.take(0);
    hands.give(0);
    let kept = hands.held[0][0];
    assert!(hands.cluster.core(1).monitor.holds(kept));
    hands.cluster.flush(1);
    hands.cluster.crash(2);
    hands.cluster.settle();
    let end = hands.ends[0];
    let monitor = &mut hands.cluster.core(1).monitor;
    assert!(!monitor.holds(kept), "nobody reads there any more");
    assert_eq!(monitor.send_page(end, kept, &[0; 5]), Err(NotNow::Closed));
    monitor.give_back(kept);
    hands.cluster.start(2, false);
    hands.cluster.settle();
    hands.held = Default::default();
    hands.check_end();
}

#[test]
fn a_kernel_that_takes_over_gives_back_what_its_programs_forgot() {
    let mut hands = Hands::new(6);
    for _ in 0..3 {
        hands.take(0);
    }
    hands.give(0);
    hands.give(0);
    hands.flush();
    hands.cluster.settle();
    hands.receive(1);
    // Core 2 has one page with its program and one unread; only the program's is forgotten.
    let monitor = &mut hands.cluster.core(2).monitor;
    let written = postcard::to_allocvec(&*monitor).unwrap();
    let mut read: crate::monitor::Monitor = postcard::from_bytes(&written).unwrap();
    assert!(read.is_sound(2, 3, 4));
    read.reclaim_pages();
    *monitor = read;
    hands.held[1].clear();
    hands.flush();
    hands.cluster.settle();
    hands.receive(1);
    assert_eq!(hands.held[1].len(), 1);
    hands.check_end();
}

#[test]
fn who_gives_away_what_it_has_not_got_breaks_the_rules() {
    let (_, near, _) = connected(9);
    let page = |number: u64| [kind::PAGE | u64::from(near) << 32, number, 0, 0, 0, 0, 0];
    let returned = |page: u8| {
        let mut lines = Default::default();
        cut(&Say::Returned { page }, &mut lines);
        lines[0]
    };
    // Core 2 is the higher side of the pair: its own are the last.
    let (own, theirs) = (PAGES as u64 - 1, 0_u64);
    for (lines, is_lie) in [
        (vec![page(own)], false),
        (vec![page(own), page(own)], true),
        (vec![page(theirs)], true),
        (vec![page(PAGES as u64)], true),
        (vec![page(u64::MAX)], true),
        (vec![returned(own as u8)], true),
        (vec![returned(theirs as u8)], true),
        (vec![returned(u8::MAX)], true),
    ] {
        let (mut cluster, ..) = connected(9);
        for line in &lines {
            cluster.forge(2, 1, *line);
        }
        cluster.settle();
        assert_eq!(cluster.core(1).news.contains(&News::Silenced(2)), is_lie, "{lines:?}");
        assert!(cluster.core(3).monitor.epoch().is_some());
    }
}
