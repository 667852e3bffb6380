//! What the programs on a scene's cores do, as far as what their monitors know lets them.

use std::vec::Vec;

use super::{CLIENT, ECHO, SERVER, Scene};
use crate::agreement::CoreSet;
use crate::monitor::News;
use crate::monitor::channels::{ChannelId, Unread};
use crate::monitor::pages::Held;
use crate::monitor::tests::channels::SERVICE;
use crate::monitor::tests::cluster::PATIENCE;

/// Calls of a client, and how many of them are in flight.
const CALLS: u64 = 6;
const DEPTH: u64 = 3;

impl Scene {
    pub fn open(&mut self) {
        self.near = self.cluster.core(CLIENT).monitor.open(ECHO);
        assert!(self.near.is_some());
        self.cluster.flush(CLIENT);
    }

    /// The server's end.
    fn far(&mut self) -> Option<ChannelId> {
        self.cluster.core(SERVER).news.iter().find_map(|news| match *news {
            News::Accepted(SERVICE, number, CLIENT) => Some(number),
            _ => None,
        })
    }

    pub fn calls(&mut self) {
        if let Some(near) = self.near.filter(|_| self.lives(CLIENT)) {
            let monitor = &mut self.cluster.core(CLIENT).monitor;
            while let Some(unread) = monitor.receive(near) {
                assert_eq!(unread, Unread::Line([3 * self.answered; 6]));
                self.answered += 1;
            }
            let wanted = CALLS.min(self.answered + DEPTH);
            while self.made < wanted && monitor.send(near, &[self.made; 6]).is_ok() {
                self.made += 1;
            }
            self.cluster.flush(CLIENT);
        }
        if self.lives(SERVER)
            && let Some(far) = self.far()
        {
            let monitor = &mut self.cluster.core(SERVER).monitor;
            while let Some(Unread::Line(line)) = monitor.receive(far) {
                let _ = monitor.send(far, &line.map(|word| 3 * word));
            }
            self.cluster.flush(SERVER);
        }
    }

    /// The same with a page each; the server sends it back, or in every other call lets it fall and sends one of its own.
    pub fn pages(&mut self) {
        if let Some(near) = self.near.filter(|_| self.lives(CLIENT)) {
            let monitor = &mut self.cluster.core(CLIENT).monitor;
            while let Some(unread) = monitor.receive(near) {
                let Unread::Page(page, note) = unread else { panic!("a line: {unread:?}") };
                assert_eq!(note, [self.answered; 5]);
                monitor.give_back(page);
                self.answered += 1;
            }
            let wanted = CALLS.min(self.answered + DEPTH);
            while self.made < wanted
                && let Some(page) = monitor.take_page(SERVER)
            {
                if monitor.send_page(near, page, &[self.made; 5]).is_err() {
                    monitor.give_back(page);
                    break;
                }
                self.made += 1;
            }
            self.cluster.flush(CLIENT);
        }
        if self.lives(SERVER)
            && let Some(far) = self.far()
        {
            let monitor = &mut self.cluster.core(SERVER).monitor;
            while let Some(Unread::Page(page, note)) = monitor.receive(far) {
                let own = if note[0] % 2 == 1 { monitor.take_page(CLIENT) } else { None };
                let answer = match own {
                    Some(own) => {
                        monitor.give_back(page);
                        own
                    }
                    None => page,
                };
                if monitor.send_page(far, answer, &note).is_err() {
                    monitor.give_back(answer);
                }
            }
            self.cluster.flush(SERVER);
        }
    }

    /// Another kernel goes on where core 1's stood.
    pub fn hand_over(&mut self) {
        if self.lives(1) {
            let monitor = &mut self.cluster.core(1).monitor;
            let written = postcard::to_allocvec(&*monitor).unwrap();
            *monitor = postcard::from_bytes(&written).unwrap();
            self.cluster.flush(1);
        }
    }

    /// After a while, and then before any step, whoever sleeps wakes up.
    pub fn wake(&mut self) {
        if self.looks >= self.wakes && self.cluster.random.below(4) == 0 {
            self.cluster.asleep = CoreSet::EMPTY;
        }
    }

    /// The monitors look whether all is well; false when there is nobody any more who could find that it is not.
    pub fn look(&mut self) -> bool {
        self.looks += 1;
        self.cluster.pass(PATIENCE / 8);
        self.looks < 40
    }

    /// What holds of the programs when all has come to its end.
    pub fn check_programs(&mut self) {
        if let Some(near) = self.near.filter(|_| self.lives(CLIENT)) {
            if self.lives(SERVER) {
                assert_eq!((self.made, self.answered), (CALLS, CALLS));
            } else {
                assert!(self.cluster.core(CLIENT).news.contains(&News::Closed(near)));
            }
        }
        for (core, peer) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            if self.lives(core) {
                let monitor = &mut self.cluster.core(core).monitor;
                let home: Vec<Held> = core::iter::from_fn(|| monitor.take_page(peer)).collect();
                assert_eq!(home.len(), abi::mesh::PAGES / 2, "pages of core {core}");
                home.into_iter().for_each(|page| monitor.give_back(page));
            }
        }
    }
}
