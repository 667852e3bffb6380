//! Who owns which 4 KiB frame of the machine.
//!
//! Core 0's hypervisor alone keeps this table, since only domain 0's control hypercalls and the boot change it: there
//! is no lock, and no other core's exit path ever comes here. Free memory is kept track of by 2 MiB chunks, so that a
//! guest gets large pages where there are any.

use abi::address::{HostPhys, PAGE_SIZE, PageCount};
use abi::xen::DomId;

/// Frames in a chunk of 2 MiB.
pub const CHUNK_FRAMES: usize = 512;

/// Whose a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Not memory, or firmware's, or the hypervisor's own for good.
    Reserved,
    /// Nobody's; whether it holds zeroes.
    Free {
        /// Scrubbed since its last owner.
        clean: bool,
    },
    /// The hypervisor's, for a domain's sake: page tables.
    Tables,
    /// The hypervisor's, which a domain may reach: its grant table.
    Interface,
    /// Memory of a domain that is gone, or gave it up, and that others use still, by its grants.
    Orphan,
    /// A domain's memory.
    Domain(DomId),
}

/// One frame's entry.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Frame {
    owner: u16,
    /// How many other domains it is shared with.
    shares: u8,
    /// The audit's count of those, while it walks.
    seen: u8,
}

const RESERVED: u16 = 0xffff;
const FREE_DIRTY: u16 = 0xfffe;
const FREE_CLEAN: u16 = 0xfffd;
const TABLES: u16 = 0xfffc;
const INTERFACE: u16 = 0xfffb;
const ORPHAN: u16 = 0xfffa;

impl Frame {
    /// A frame that is not for use.
    pub const RESERVED: Self = Self { owner: RESERVED, shares: 0, seen: 0 };

    const fn owner(self) -> Owner {
        match self.owner {
            RESERVED => Owner::Reserved,
            FREE_DIRTY => Owner::Free { clean: false },
            FREE_CLEAN => Owner::Free { clean: true },
            TABLES => Owner::Tables,
            INTERFACE => Owner::Interface,
            ORPHAN => Owner::Orphan,
            domain => Owner::Domain(domain),
        }
    }

    const fn code(owner: Owner) -> u16 {
        match owner {
            Owner::Reserved => RESERVED,
            Owner::Free { clean: false } => FREE_DIRTY,
            Owner::Free { clean: true } => FREE_CLEAN,
            Owner::Tables => TABLES,
            Owner::Interface => INTERFACE,
            Owner::Orphan => ORPHAN,
            Owner::Domain(domain) => domain,
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct FrameTable<'a> {
    frames: &'a mut [Frame],
    /// Free frames of each chunk.
    free: &'a mut [u16],
    total: u64,
    free_total: u64,
    /// No chunk below this one has a free frame.
    first_free: usize,
}

impl<'a> FrameTable<'a> {
    /// A table in which every frame is reserved. `chunks` has an element for each [`CHUNK_FRAMES`] of `frames`.
    pub fn new(frames: &'a mut [Frame], chunks: &'a mut [u16]) -> Self {
        frames.fill(Frame::RESERVED);
        chunks.fill(0);
        Self { frames, free: chunks, total: 0, free_total: 0, first_free: 0 }
    }

    /// Frees reserved frames that were never used: `pages` from `start` on, as far as the table reaches.
    pub fn add(&mut self, start: HostPhys, pages: PageCount) {
        let first = index_of(start);
        for index in first..first.saturating_add(pages.get() as usize).min(self.frames.len()) {
            if self.frames[index].owner == RESERVED {
                self.total += 1;
                self.release(index, false);
            }
        }
    }

    /// Frames that domains may have, free or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Of those, the free ones.
    pub fn free(&self) -> u64 {
        self.free_total
    }

    /// Whose this frame is; `Reserved` beyond the table.
    pub fn owner(&self, frame: HostPhys) -> Owner {
        self.frames.get(index_of(frame)).map_or(Owner::Reserved, |entry| entry.owner())
    }

    /// A free frame for `owner`, and whether it holds zeroes.
    pub fn take_frame(&mut self, owner: Owner) -> Option<(HostPhys, bool)> {
        // A chunk that is in use already, if there is one, so that whole chunks stay whole.
        let chunk = (self.first_free..self.free.len())
            .find(|&chunk| (1..CHUNK_FRAMES as u16).contains(&self.free[chunk]))
            .or_else(|| (self.first_free..self.free.len()).find(|&chunk| self.free[chunk] > 0))?;
        let start = chunk * CHUNK_FRAMES;
        let end = (start + CHUNK_FRAMES).min(self.frames.len());
        let index = (start..end).find(|&index| matches!(self.frames[index].owner(), Owner::Free { .. }))?;
        Some((address_of(index), self.take(index, owner)))
    }

    /// A free, aligned 2 MiB of frames for `owner`, and whether all of it holds zeroes.
    pub fn take_chunk(&mut self, owner: Owner) -> Option<(HostPhys, bool)> {
        let chunk =
            (self.first_free..self.free.len()).find(|&chunk| self.free[chunk] as usize == CHUNK_FRAMES)?;
        let start = chunk * CHUNK_FRAMES;
        let mut clean = true;
        for index in start..start + CHUNK_FRAMES {
            clean &= self.take(index, owner);
        }
        Some((address_of(start), clean))
    }

    /// Gives a frame back. `clean`: it was filled with zeroes. Frames that are free or reserved stay so; one that others
    /// use becomes an orphan.
    pub fn give_back(&mut self, frame: HostPhys, clean: bool) {
        let index = index_of(frame);
        let Some(entry) = self.frames.get_mut(index) else { return };
        match entry.owner() {
            Owner::Domain(_) | Owner::Orphan if entry.shares > 0 => entry.owner = ORPHAN,
            Owner::Tables | Owner::Interface | Owner::Orphan | Owner::Domain(_) => self.release(index, clean),
            Owner::Reserved | Owner::Free { .. } => {}
        }
    }

    /// Notes one more domain that shares this frame. `false` where there are too many.
    pub fn share(&mut self, frame: HostPhys) -> bool {
        let Some(entry) = self.frames.get_mut(index_of(frame)) else { return false };
        match entry.shares.checked_add(1) {
            Some(shares) => {
                entry.shares = shares;
                true
            }
            None => false,
        }
    }

    /// Notes one domain less that shares this frame. `true`: it was an orphan's last, and the frame is to be given back.
    pub fn unshare(&mut self, frame: HostPhys) -> bool {
        let Some(entry) = self.frames.get_mut(index_of(frame)) else { return false };
        entry.shares = entry.shares.saturating_sub(1);
        entry.shares == 0 && entry.owner() == Owner::Orphan
    }

    /// How many other domains share this frame.
    pub fn shares(&self, frame: HostPhys) -> u8 {
        self.frames.get(index_of(frame)).map_or(0, |entry| entry.shares)
    }

    /// The audit: one mapping of a shared frame was seen.
    pub fn mark_seen(&mut self, frame: HostPhys) {
        if let Some(entry) = self.frames.get_mut(index_of(frame)) {
            entry.seen = entry.seen.saturating_add(1);
        }
    }

    /// The audit's end: how many frames were seen shared more or less often than is noted. Forgets what was seen.
    pub fn miscounted(&mut self) -> u64 {
        let mut wrong = 0;
        for entry in self.frames.iter_mut() {
            wrong += u64::from(entry.seen != entry.shares);
            entry.seen = 0;
        }
        wrong
    }

    fn take(&mut self, index: usize, owner: Owner) -> bool {
        let clean = matches!(self.frames[index].owner(), Owner::Free { clean: true });
        self.frames[index] = Frame { owner: Frame::code(owner), shares: 0, seen: 0 };
        let chunk = index / CHUNK_FRAMES;
        self.free[chunk] -= 1;
        self.free_total -= 1;
        if self.free[chunk] == 0 && chunk == self.first_free {
            self.first_free += 1;
        }
        clean
    }

    fn release(&mut self, index: usize, clean: bool) {
        self.frames[index] = Frame { owner: Frame::code(Owner::Free { clean }), shares: 0, seen: 0 };
        let chunk = index / CHUNK_FRAMES;
        self.free[chunk] += 1;
        self.free_total += 1;
        self.first_free = self.first_free.min(chunk);
    }
}

fn index_of(frame: HostPhys) -> usize {
    (frame.as_u64() / PAGE_SIZE) as usize
}

fn address_of(index: usize) -> HostPhys {
    HostPhys::new(index as u64 * PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn with_table<R>(run: impl FnOnce(&mut FrameTable) -> R) -> R {
        let (mut frames, mut chunks) = (vec![Frame::RESERVED; 4 * CHUNK_FRAMES], vec![0; 4]);
        let mut table = FrameTable::new(&mut frames, &mut chunks);
        table.add(HostPhys::new(0x1000), PageCount::new(4 * CHUNK_FRAMES as u64 + 100));
        run(&mut table)
    }

    #[test]
    fn what_is_taken_comes_back() {
        with_table(|table| {
            let all = table.free();
            assert_eq!((table.total(), all), (2047, 2047));
            let (chunk, clean) = table.take_chunk(Owner::Domain(3)).unwrap();
            assert!(chunk.is_aligned(1 << 21) && !clean);
            assert_eq!(table.owner(chunk), Owner::Domain(3));
            let (frame, _) = table.take_frame(Owner::Tables).unwrap();
            assert_eq!(frame, HostPhys::new(0x1000), "a broken chunk is used first");
            for page in 0..CHUNK_FRAMES as u64 {
                table.give_back(HostPhys::new(chunk.as_u64() + page * PAGE_SIZE), true);
            }
            table.give_back(frame, false);
            table.give_back(frame, false);
            assert_eq!(table.free(), all);
            assert_eq!(table.take_chunk(Owner::Domain(4)), Some((chunk, true)));
        });
    }

    #[test]
    fn it_ends() {
        with_table(|table| {
            while table.take_frame(Owner::Domain(1)).is_some() {}
            assert_eq!(table.free(), 0);
            assert_eq!(table.take_chunk(Owner::Domain(1)), None);
            assert_eq!(table.owner(HostPhys::new(0)), Owner::Reserved);
            assert_eq!(table.owner(HostPhys::new(u64::MAX)), Owner::Reserved);
        });
    }

    #[test]
    fn shares_are_counted() {
        with_table(|table| {
            let (frame, _) = table.take_frame(Owner::Domain(0)).unwrap();
            assert!(table.share(frame));
            assert_eq!(table.miscounted(), 1);
            table.mark_seen(frame);
            assert_eq!(table.miscounted(), 0);
            assert!(!table.unshare(frame));
            assert_eq!((table.shares(frame), table.miscounted()), (0, 0));
        });
    }

    #[test]
    fn what_others_use_outlives_its_owner() {
        with_table(|table| {
            let (frame, _) = table.take_frame(Owner::Domain(4)).unwrap();
            let free = table.free();
            assert!(table.share(frame) && table.share(frame));
            table.give_back(frame, false);
            assert_eq!((table.owner(frame), table.free()), (Owner::Orphan, free));
            assert!(!table.unshare(frame));
            assert!(table.unshare(frame));
            table.give_back(frame, true);
            assert_eq!((table.owner(frame), table.free()), (Owner::Free { clean: true }, free + 1));
        });
    }
}
