//! One core tells all others of something and waits until each has done it: what an unmapping needs, in four ways.
//!
//! *Broadcast* writes one line that everybody polls. *Unicast* sends each a message of its own. *Multicast* sends along a
//! tree, so that a package is told once; *NUMA-aware* multicast does too, the farthest first. After Baumann and others,
//! *The Multikernel* (SOSP 2009), Fig. 6; what is carried out at each core is nothing here, so what is left is the telling.

use alloc::vec::Vec;

use io_rings::urpc::{ChannelPage, Receiver, Sender};

use super::Padded;
use super::sync::{AtomicU64, Ordering, pause};
use crate::agreement::{CoreSet, Topology};

/// The pages for messages: one for each ordered pair of cores.
#[derive(Debug)]
pub struct Pages {
    cores: usize,
    pages: Vec<ChannelPage>,
}

impl Pages {
    /// For so many cores.
    pub fn new(cores: usize) -> Self {
        Self { cores, pages: (0..cores * cores).map(|_| ChannelPage::new()).collect() }
    }

    fn page(&self, from: usize, to: usize) -> &ChannelPage {
        &self.pages[from * self.cores + to]
    }
}

/// One core's place in a tree whose root is core 0.
#[derive(Debug)]
pub struct Node<'a> {
    parent: Option<(Receiver<'a>, Sender<'a>)>,
    children: Vec<(Sender<'a>, Receiver<'a>)>,
}

impl<'a> Node<'a> {
    /// The place of `core`; its children are told in the order of `first`, the least first.
    pub fn new(pages: &'a Pages, tree: &Topology, core: usize, first: impl Fn(usize) -> u64) -> Self {
        let all = (0..pages.cores as u8).fold(CoreSet::EMPTY, |all, core| all.with(CoreSet::one(core)));
        let ends =
            |other: usize| (Sender::new(pages.page(core, other)), Receiver::new(pages.page(other, core)));
        let mut children: Vec<usize> = tree.children(all, 0, core as u8).iter().map(usize::from).collect();
        children.sort_by_key(|&child| first(child));
        let parent = tree.parent(all, 0, core as u8).map(|parent| {
            let (sender, receiver) = ends(parent.into());
            (receiver, sender)
        });
        Self { parent, children: children.into_iter().map(ends).collect() }
    }

    /// How many it tells by itself.
    pub fn children(&self) -> usize {
        self.children.len()
    }

    /// As the root: tells all, and waits until all have done it. False: a ring is broken.
    pub fn tell(&mut self, round: u64) -> bool {
        self.pass_on(round) && self.collect(round)
    }

    /// As any other: waits to be told, passes it on, and says so when all below have done it. False: a ring is broken.
    pub fn hear(&mut self, round: u64) -> bool {
        let heard = match &mut self.parent {
            Some((receiver, _)) => receive(receiver) == Some(round),
            None => false,
        };
        if !(heard && self.pass_on(round) && self.collect(round)) {
            return false;
        }
        self.parent.as_mut().is_some_and(|(_, sender)| send(sender, round))
    }

    fn pass_on(&mut self, round: u64) -> bool {
        self.children.iter_mut().all(|(sender, _)| send(sender, round))
    }

    fn collect(&mut self, round: u64) -> bool {
        self.children.iter_mut().all(|(_, receiver)| receive(receiver) == Some(round))
    }
}

/// There always is room: each side waits for the other in every round.
fn send(sender: &mut Sender<'_>, round: u64) -> bool {
    sender.try_send(&[round, 0, 0, 0, 0, 0, 0]).is_ok()
}

fn receive(receiver: &mut Receiver<'_>) -> Option<u64> {
    loop {
        match receiver.try_receive() {
            Ok(Some([round, ..])) => return Some(round),
            Ok(None) => pause(),
            Err(_) => return None,
        }
    }
}

/// The one line that everybody polls, and a line for each to say that it is done.
#[derive(Debug)]
pub struct Broadcast {
    told: Padded<AtomicU64>,
    done: Vec<Padded<AtomicU64>>,
}

impl Broadcast {
    /// For so many cores, the one who tells included.
    pub fn new(cores: usize) -> Self {
        Self { told: Padded::default(), done: (1..cores).map(|_| Padded::default()).collect() }
    }

    /// Tells all, and waits until all have done it.
    pub fn tell(&self, round: u64) {
        self.told.0.store(round, Ordering::Release);
        for Padded(done) in &self.done {
            while done.load(Ordering::Acquire) != round {
                pause();
            }
        }
    }

    /// As `core`, which is not 0: waits to be told, and says so.
    pub fn hear(&self, core: usize, round: u64) {
        while self.told.0.load(Ordering::Acquire) != round {
            pause();
        }
        if let Some(Padded(done)) = self.done.get(core - 1) {
            done.store(round, Ordering::Release);
        }
    }
}
