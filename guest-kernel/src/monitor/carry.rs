//! A monitor that another kernel has written down.

use alloc::vec::Vec;

use super::patience::is_life_of;
use super::peer::Peer;
use super::{Life, Monitor, NO_EPOCH, News};
use crate::agreement::CoreId;
use crate::replica::names::Notice;

/// No count of anything is as great as this.
const NEVER: u64 = 1 << 60;

impl Monitor {
    /// Takes back what it has told and nobody has made use of: it is told again, first of all.
    pub fn take_back(&mut self, news: Vec<News>, notices: Vec<Notice>) {
        news.into_iter().rev().for_each(|news| self.news.push_front(news));
        self.system_mut().names.take_back(notices);
    }

    /// Whether this can be the monitor of core `me`, in this life, among so many.
    pub fn is_sound(&self, me: CoreId, life: Life, cores: usize) -> bool {
        let counts = [self.counts.said, self.counts.lines_out, self.counts.heard, self.counts.lines_in];
        self.me == me
            && is_life_of(self.life, life)
            && self.patience.is_sound(cores)
            && self.peers.len() == cores.min(64)
            && self.peers.iter().all(Peer::is_sound)
            && self.agreement.is_sound(me, cores)
            && self.agreement.epoch().is_none_or(|(epoch, _)| epoch < NO_EPOCH)
            && self.inside == self.agreement.epoch().is_some()
            && self.system().caps.me() == me
            && self.channels.is_sound(cores)
            && self.shelves.is_sound(me, cores.min(64), self.channels.pages())
            && self.strangers.keys().chain(self.accused.keys()).all(|&core| usize::from(core) < cores)
            && counts.iter().chain([&self.next_ticket]).all(|&count| count < NEVER)
            // It is written down between its steps.
            && self.events.is_empty()
            && !self.stepping
    }
}
