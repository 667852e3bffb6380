//! Pages that change hands: a buffer goes to another core by one line that says so, and nothing is copied.
//!
//! ```text
//! client's monitor                       server's monitor
//!   takes page 2, which is free, and its program writes to it
//!   ├──── Page: 2, for channel 9 ──────────▶ has it now: its program reads it, writes the answer to it
//!   ◀──── Page: 2, for channel 5 ────────────┤
//!   its program reads it; free again
//! ```
//!
//! Each pair of cores has [`PAGES`] that both can reach, and half of them are at home on each side. A page is in the hands
//! of one side at any time, and each side keeps a book of its own. A side that gives one away which it has not got breaks
//! the rules. One that has no more use for a page of the other's home gives it back ([`Say::Returned`]).
//!
//! Whose hands a page is in is a custom: the memory stays where it is, and a side that lies can write to it at any time. So
//! what is in it is an allegation like all that comes from elsewhere.

use alloc::vec::Vec;

use abi::mesh::{PAGES, kind};
use serde::{Deserialize, Serialize};

use super::Monitor;
use super::channels::{ChannelId, NotNow, Unread};
use super::wire::Say;
use crate::agreement::{CoreId, CoreSet};

/// Where a page is, as one side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// At home here, and nobody uses it.
    Free,
    /// In a program's hands here, or on the way to one.
    Held,
    /// On the other side.
    Away,
}

/// What goes along with a page.
pub type Note = [u64; 5];

/// A page that is in this core's hands, for as long as the peer has this life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub(crate) peer: CoreId,
    pub(crate) number: u8,
    life: u32,
}

/// The pages shared with one core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shelf {
    life: u32,
    places: [Place; PAGES],
}

impl Shelf {
    fn new(me: CoreId, peer: CoreId, life: u32) -> Self {
        let place = |number| if is_home(me, peer, number) { Place::Free } else { Place::Away };
        Self { life, places: core::array::from_fn(place) }
    }
}

/// Whether a page is at home here. What a core shares with itself is.
fn is_home(me: CoreId, peer: CoreId, number: usize) -> bool {
    me == peer || (number < PAGES / 2) == (me < peer)
}

/// A core's pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shelves {
    me: CoreId,
    shelves: Vec<Shelf>,
    /// Some page became free, of which those who wait have not been told.
    freed: bool,
}

impl Shelves {
    pub(super) fn new(me: CoreId, cores: usize) -> Self {
        let shelves = (0..).take(cores).map(|peer| Shelf::new(me, peer, 0)).collect();
        Self { me, shelves, freed: false }
    }

    /// Another life of the peer: each side has what is at home there, and what was held is not.
    pub(super) fn reborn(&mut self, peer: CoreId) {
        if let Some(shelf) = self.shelves.get_mut(usize::from(peer)) {
            *shelf = Shelf::new(self.me, peer, shelf.life.wrapping_add(1));
            self.freed = true;
        }
    }

    fn place(&mut self, page: Held) -> Option<&mut Place> {
        let shelf = self.shelves.get_mut(usize::from(page.peer)).filter(|shelf| shelf.life == page.life)?;
        shelf.places.get_mut(usize::from(page.number))
    }

    fn take(&mut self, peer: CoreId) -> Option<Held> {
        let shelf = self.shelves.get_mut(usize::from(peer))?;
        let number = shelf.places.iter().position(|place| *place == Place::Free)?;
        shelf.places[number] = Place::Held;
        Some(Held { peer, number: number as u8, life: shelf.life })
    }

    /// A page that the peer says it has given away; none if it had it not.
    fn accept(&mut self, peer: CoreId, number: u64) -> Option<Held> {
        let shelf = self.shelves.get_mut(usize::from(peer))?;
        let place = shelf.places.get_mut(usize::try_from(number).ok()?)?;
        (*place == Place::Away).then(|| *place = Place::Held)?;
        Some(Held { peer, number: number as u8, life: shelf.life })
    }

    /// Whether these can be the pages of one of so many cores, on whose channels these have come and are not read.
    pub(super) fn is_sound<'a>(
        &self,
        me: CoreId,
        cores: usize,
        unread: impl Iterator<Item = &'a Held>,
    ) -> bool {
        let home = |(peer, shelf): (CoreId, &Shelf)| {
            let free = |(number, place): (usize, &Place)| *place != Place::Free || is_home(me, peer, number);
            shelf.places.iter().enumerate().all(free)
        };
        let mut left = self.clone();
        // Each of them is in one place only.
        let mut taken = |page: &Held| match left.place(*page) {
            Some(place) if *place == Place::Held => {
                *place = Place::Away;
                true
            }
            Some(_) => false,
            // Of a former life.
            None => usize::from(page.peer) < cores,
        };
        self.me == me
            && self.shelves.len() == cores
            && (0..).zip(&self.shelves).all(home)
            && unread.into_iter().all(&mut taken)
    }
}

impl Monitor {
    /// Takes a page that is free to be filled for this core.
    pub fn take_page(&mut self, peer: CoreId) -> Option<Held> {
        self.shelves.take(peer)
    }

    /// Whether it is in this core's hands still: the other side's life may have ended.
    pub fn holds(&self, page: Held) -> bool {
        let shelf = self.shelves.shelves.get(usize::from(page.peer));
        shelf.is_some_and(|shelf| {
            shelf.life == page.life && shelf.places.get(usize::from(page.number)) == Some(&Place::Held)
        })
    }

    /// There is no more use for it here.
    pub fn give_back(&mut self, page: Held) {
        if !self.holds(page) {
            return;
        }
        let home = is_home(self.me, page.peer, usize::from(page.number));
        if let Some(place) = self.shelves.place(page) {
            *place = if home { Place::Free } else { Place::Away };
        }
        if home {
            self.shelves.freed = true;
        } else {
            self.tell(CoreSet::one(page.peer), &Say::Returned { page: page.number });
        }
    }

    /// Gives it to the core at the other end of the channel.
    pub fn send_page(&mut self, number: ChannelId, page: Held, note: &Note) -> Result<(), NotNow> {
        let leads_there = self.channel_peer(number).is_some_and(|(peer, _)| peer == page.peer);
        if !leads_there || !self.holds(page) {
            return Err(NotNow::Closed);
        }
        let [a, b, c, d, e] = *note;
        self.send_as(kind::PAGE, number, &[u64::from(page.number), a, b, c, d, e])?;
        if let Some(place) = self.shelves.place(page) {
            *place = Place::Away;
        }
        Ok(())
    }

    /// Whether a page became free since this was asked last.
    pub fn take_freed(&mut self) -> bool {
        core::mem::take(&mut self.shelves.freed)
    }

    /// A page came for a channel; what is to be read there, or none if it breaks the rules.
    pub(super) fn page_came(&mut self, from: CoreId, [number, note @ ..]: [u64; 6]) -> Option<Unread> {
        self.shelves.accept(from, number).map(|page| Unread::Page(page, note))
    }

    /// A page came home; false if it breaks the rules.
    pub(super) fn page_returned(&mut self, from: CoreId, page: u8) -> bool {
        let home = from != self.me && is_home(self.me, from, usize::from(page));
        let Some(page) = self.shelves.accept(from, u64::from(page)).filter(|_| home) else { return false };
        self.give_back(page);
        true
    }

    /// What a program held before this kernel took over its core, and forgot, goes back.
    pub(crate) fn reclaim_pages(&mut self) {
        let unread: Vec<Held> = self.channels.pages().copied().collect();
        let mut forgotten = Vec::new();
        for (peer, shelf) in (0..).zip(&self.shelves.shelves) {
            let held = (0..).zip(&shelf.places).filter(|(_, place)| **place == Place::Held);
            forgotten.extend(held.map(|(number, _)| Held { peer, number, life: shelf.life }));
        }
        forgotten.retain(|page| !unread.contains(page));
        forgotten.into_iter().for_each(|page| self.give_back(page));
    }
}
