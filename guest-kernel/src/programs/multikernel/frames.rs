//! Frames in this core's address space: what capabilities allow it to map, and what it is told to take out.
//!
//! A frame names a part of the machine's memory as far as the members share it out. Nothing is shared, so each core that maps
//! a frame has pages of its own there, at the same address on all cores. They go with the core: to another processor, and
//! to the kernel that takes its place.
//!
//! A core answers for an unmapping only when the pages are out of its page tables and its TLB: the pages go before the lines
//! that say so ([`App::take_out`]).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::{App, MEMORY, MEMORY_BYTES};
use crate::replica::capabilities::{Cap, CapId, CapOp, Capabilities};

/// Where the first byte of that memory is mapped: above all RAM.
pub const WINDOW: u64 = 1 << 40;
/// Bytes in a page.
const PAGE: u64 = 4096;
/// Words in it.
const WORDS: u64 = PAGE / 8;
/// The most pages that a core has mapped.
const MOST: u64 = 64;

/// A core's page tables, as far as frames go.
pub trait Pages {
    /// Puts a page of zeroes at an address above all RAM. False: there is one already, or none to have.
    fn map(&self, address: u64) -> bool;

    /// Takes it out, of the TLB too.
    fn unmap(&self, address: u64);

    /// Reads a word. Where nothing is mapped that is the end of the kernel, by a page fault.
    fn read(&self, address: u64) -> u64;

    /// Writes one.
    fn write(&self, address: u64, word: u64);
}

/// The addresses of a frame's pages.
fn pages(frame: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    (WINDOW + frame.start..WINDOW + frame.end).step_by(PAGE as usize)
}

/// Where a word of the machine's memory is mapped, if it is.
fn address(base: u64) -> u64 {
    WINDOW + base % MEMORY_BYTES / 8 * 8
}

impl App {
    /// The capability that begins there and is no root, or the root where nothing is named.
    pub(super) fn frame(&self, base: Option<&str>) -> Option<CapId> {
        let Some(base) = base else { return Some(MEMORY) };
        let base = base.parse::<u64>().ok()?;
        let begins = |&(_, cap): &(CapId, &Cap)| cap.base == base && cap.parent.is_some();
        self.desk.look(|monitor| monitor.system().caps.iter().find(begins).map(|(id, _)| id))
    }

    /// Maps a frame here; why not, otherwise.
    pub(super) fn map(&self, id: CapId) -> Result<(), &'static str> {
        let Some(frame) = self.desk.look(|monitor| monitor.system().caps.get(id).map(Cap::range)) else {
            return Err("there is no such frame");
        };
        let mapped = self.desk.look(|monitor| count(&monitor.system().caps));
        if mapped.zip(pages_in(&frame)).is_none_or(|(mapped, more)| mapped + more > MOST) {
            return Err("it is not of whole pages, or more than 64 would be mapped");
        }
        if !self.desk.monitor(|monitor| monitor.system_mut().caps.map(id)) {
            return Err("this core does not hold it, or has mapped it");
        }
        if pages(&frame).all(|page| self.pages.map(page)) {
            return Ok(());
        }
        self.desk.monitor(|monitor| monitor.system_mut().caps.apply(&CapOp::Unmap { cap: id }));
        self.take_out();
        Err("there is no memory for it")
    }

    /// Takes out what this core may not have mapped any more; before anybody is told that it is out.
    pub(super) fn take_out(&self) {
        if self.desk.look(|monitor| monitor.system().caps.has_unmapped()) {
            for frame in self.desk.monitor(|monitor| monitor.system_mut().caps.take_unmapped()) {
                pages(&frame).for_each(|page| self.pages.unmap(page));
            }
        }
    }

    /// The word there.
    pub(super) fn peek(&self, base: u64) -> u64 {
        self.pages.read(address(base))
    }

    /// Writes it.
    pub(super) fn poke(&self, base: u64, word: u64) {
        self.pages.write(address(base), word);
    }

    /// What is in the frames that are mapped, page by page.
    pub(super) fn contents(&self) -> Vec<Vec<u64>> {
        let page = |at: u64| (0..WORDS).map(|word| self.pages.read(at + word * 8)).collect();
        self.mapped().map(page).collect()
    }

    /// Maps what the kernel before this one had mapped, with what was in it. False: that cannot be.
    pub(super) fn put_back(&self, contents: &[Vec<u64>]) -> bool {
        let whole = |page: &Vec<u64>| page.len() as u64 == WORDS;
        let sound = self.desk.look(|monitor| {
            let caps = &monitor.system().caps;
            let pages = count(caps).filter(|&pages| pages <= MOST && !caps.has_unmapped());
            pages == Some(contents.len() as u64)
        });
        if !sound || !contents.iter().all(whole) {
            return false;
        }
        for (at, words) in self.mapped().zip(contents) {
            // In the same memory it is there already.
            self.pages.map(at);
            (at..).step_by(8).zip(words).for_each(|(at, &word)| self.pages.write(at, word));
        }
        true
    }

    fn mapped(&self) -> impl Iterator<Item = u64> {
        let mapped: Vec<_> = self.desk.look(|monitor| monitor.system().caps.mapped().collect());
        mapped.into_iter().flat_map(|(_, frame)| pages(&frame))
    }

    /// All frames, who has them, and whether this core has mapped them.
    pub(super) fn frames(&self) -> String {
        self.desk.look(|monitor| {
            let caps = &monitor.system().caps;
            let tell = |(id, cap): (CapId, &Cap)| {
                let mapped = if caps.mapped().any(|(mapped, _)| mapped == id) { " mapped" } else { "" };
                format!(" {}+{}@{:?}{mapped};", cap.base, cap.size, cap.holders)
            };
            caps.iter().map(tell).collect()
        })
    }
}

/// The pages of a range of the machine's memory; none if it is none.
fn pages_in(frame: &Range<u64>) -> Option<u64> {
    let whole = frame.start.is_multiple_of(PAGE) && frame.end.is_multiple_of(PAGE);
    let pages = frame.end.checked_sub(frame.start)? / PAGE;
    (whole && frame.end <= MEMORY_BYTES).then_some(pages)
}

/// The pages that are mapped; none if a core cannot have mapped that.
fn count(caps: &Capabilities) -> Option<u64> {
    caps.mapped().try_fold(0, |sum: u64, (_, frame)| sum.checked_add(pages_in(&frame)?))
}

/// Pages of thin air, for members on host threads.
#[cfg(any(test, feature = "hosted"))]
#[derive(Debug, Default)]
pub struct ThinAir(core::cell::RefCell<alloc::collections::BTreeMap<u64, Vec<u64>>>);

#[cfg(any(test, feature = "hosted"))]
impl Pages for ThinAir {
    fn map(&self, address: u64) -> bool {
        let is_new = !self.0.borrow().contains_key(&address);
        self.0.borrow_mut().entry(address).or_insert_with(|| alloc::vec![0; WORDS as usize]);
        is_new
    }

    fn unmap(&self, address: u64) {
        self.0.borrow_mut().remove(&address);
    }

    fn read(&self, address: u64) -> u64 {
        match self.0.borrow().get(&(address & !(PAGE - 1))) {
            Some(page) => page[(address % PAGE / 8) as usize],
            None => panic!("a page fault at {address:#x}"),
        }
    }

    fn write(&self, address: u64, word: u64) {
        match self.0.borrow_mut().get_mut(&(address & !(PAGE - 1))) {
            Some(page) => page[(address % PAGE / 8) as usize] = word,
            None => panic!("a page fault at {address:#x}"),
        }
    }
}
