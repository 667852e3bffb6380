//! What the program's tasks remember while they wait: enough to begin them anew where they were.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::agreement::{Refusal, Ticket};
use crate::monitor::channels::ChannelId;
use crate::tasks::rpc::WIDEST;

/// What a bench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phases {
    One,
    Two,
}

/// The most operations of a bench under way at a time.
pub(super) const MAX_DEPTH: u64 = 64;

/// A bench under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bench {
    pub(super) phases: Phases,
    pub(super) wanted: u64,
    pub(super) asked: u64,
    pub(super) done: u64,
    pub(super) begun: u64,
    /// As many as may be under way at a time.
    pub(super) lanes: Vec<Lane>,
    /// Why there are no more.
    pub(super) refusal: Option<Refusal>,
}

/// One operation after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// Of the operation that is under way.
    pub(super) ticket: Option<Ticket>,
    /// Its name is registered in even turns, and given up in odd ones.
    pub(super) turn: u64,
}

/// A server, its clients on other cores, and how many calls it has answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) service: u64,
    pub(super) registered: Option<Ticket>,
    pub(super) clients: Vec<ChannelId>,
    pub(super) served: u64,
}

/// A client's calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Calls {
    pub(super) name: String,
    pub(super) wanted: u64,
    pub(super) depth: u32,
    /// With each call goes a page.
    pub(super) pages: bool,
    pub(super) made: u64,
    pub(super) answered: u64,
    /// Answers to other calls than those that were made.
    pub(super) wrong: u64,
    pub(super) begun: u64,
    /// The channel, the numbers in flight on it, a bit each, and what the call of each number asked.
    pub(super) channel: Option<ChannelId>,
    pub(super) in_flight: u64,
    /// Where the server is on the same core, its calls are ended before anything goes over.
    pub(super) is_near: bool,
    pub(super) asked: Vec<u64>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The watch of names.
    pub(super) watch: Option<u32>,
    /// What was typed and is not done.
    pub(super) lines: Vec<String>,
    /// Frames that were made here.
    pub(super) frames: u32,
    /// The console's operation that is under way.
    pub(super) asked: Option<(Ticket, String)>,
    pub(super) bench: Option<Bench>,
    pub(super) servers: Vec<Server>,
    pub(super) calls: Vec<Calls>,
    pub(super) next_service: u64,
}

impl State {
    /// Whether a program can have remembered this.
    pub(super) fn is_sound(&self) -> bool {
        let calls = |calls: &Calls| {
            calls.asked.len() == WIDEST
                && calls.answered <= calls.made
                && calls.made <= calls.wanted
                && u64::from(calls.in_flight.count_ones()) == calls.made - calls.answered
        };
        let bench = |bench: &Bench| {
            let lanes = bench.lanes.len() as u64;
            let under_way = bench.lanes.iter().filter(|lane| lane.ticket.is_some()).count() as u64;
            let sound = |lane: &Lane| lane.turn <= bench.asked;
            (1..=MAX_DEPTH).contains(&lanes)
                && bench.lanes.iter().all(sound)
                && bench.done.checked_add(under_way) == Some(bench.asked)
                && bench.asked <= bench.wanted
        };
        self.calls.iter().all(calls)
            && self.bench.iter().all(bench)
            && self.lines.len() <= super::LINES
            && self.frames < u32::MAX / 2
            && self.next_service < u64::MAX / 2
            && self.servers.iter().all(|server| server.served < u64::MAX / 2)
            && self.calls.iter().all(|calls| calls.wrong < u64::MAX / 2)
    }

    /// Nothing is under way between two tasks of this core.
    pub(super) fn is_drained(&self) -> bool {
        self.calls.iter().all(|calls| !calls.is_near || calls.in_flight == 0)
    }

    /// Nothing was begun that ends.
    pub(super) fn is_done(&self) -> bool {
        self.asked.is_none() && self.bench.is_none() && self.calls.is_empty()
    }
}
