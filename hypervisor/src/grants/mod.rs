//! Grant tables: how a domain lets another use a page of its own (`grant_table.h`, versions 1 and 2).
//!
//! Four parts, by whose they are:
//!
//! - [`entry`]: the words that granter and hypervisor share. The granter may change them at any time, so each is read once,
//!   and flags change by compare-exchange alone.
//! - [`pin`]: for each entry what of it is in use, by whom and how often; in the hypervisor's own memory, in the slot of the
//!   granter's home core, which is never unmapped.
//! - [`access`]: the two steps in which an entry is used and given up again, by the using domain's core. Nobody is asked: not
//!   the granter, and no lock but the latch of this one entry is taken.
//! - [`maptrack`]: what a domain has mapped of others; its home core's alone.
//!
//! No frame is used for anything else while somebody has it by a grant: the frame table's word counts it
//! ([`crate::memory::frame_table`]). What this room never does is copy, map, or make a core forget translations: that is
//! `hypercall::grant_table`'s, which comes next.

pub mod access;
pub mod entry;
pub mod maptrack;
pub mod pin;

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use abi::address::{HostPhys, PAGE_SIZE};
use abi::xen::DomId;
use abi::xen::grant_table::{EntryV1, EntryV2, RESERVED_ENTRIES};

use crate::domain::Domain;
use entry::Entry;
use maptrack::Maptrack;
use pin::Pin;

/// Frames of entries that a table may have, as on Xen (`gnttab_max_frames`).
pub const MAX_FRAMES: u32 = 64;
/// Entries of version 1 in a frame.
const PER_FRAME_V1: u32 = PAGE_SIZE as u32 / size_of::<EntryV1>() as u32;
/// Entries of version 2 in a frame.
const PER_FRAME_V2: u32 = PAGE_SIZE as u32 / size_of::<EntryV2>() as u32;
/// Status words of version 2 in a frame.
const STATUS_PER_FRAME: u32 = PAGE_SIZE as u32 / size_of::<u16>() as u32;
/// Frames of status words that a table may have.
pub const MAX_STATUS_FRAMES: u32 = status_frames(MAX_FRAMES);

/// Status frames that so many frames of entries need.
pub const fn status_frames(frames: u32) -> u32 {
    (frames * PER_FRAME_V2).div_ceil(STATUS_PER_FRAME)
}

/// Frames of entries that so many status frames are for.
pub const fn frames_of_status(status_frames: u32) -> u32 {
    (status_frames * STATUS_PER_FRAME).div_ceil(PER_FRAME_V2)
}

/// A frame that is lent to the domain.
#[derive(Debug)]
pub struct Lent {
    /// Its host-physical address; 0: there is none.
    frame: AtomicU64,
    /// The guest frame number where the domain has it, plus one; 0: nowhere.
    pub at: AtomicU64,
}

impl Lent {
    /// It, where there is one.
    #[inline]
    pub fn frame(&self) -> Option<HostPhys> {
        let frame = self.frame.load(Ordering::Acquire);
        (frame != 0).then(|| HostPhys::new(frame))
    }

    /// The guest frame number where the domain has it.
    pub fn gfn(&self) -> Option<u64> {
        self.at.load(Ordering::Acquire).checked_sub(1)
    }

    /// Puts a frame there. `false`: another core was faster.
    pub fn put(&self, frame: HostPhys) -> bool {
        self.frame.compare_exchange(0, frame.as_u64(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// The grants of the domain whose home a core is. All zeroes: there is none.
#[derive(Debug)]
pub struct Grants {
    /// The domain's number plus one; 0: nobody may use anything of it.
    owner: AtomicU64,
    domain: AtomicPtr<Domain>,
    /// 2, or anything else for 1.
    version: AtomicU32,
    frames: AtomicU32,
    status_frames: AtomicU32,
    shared: [Lent; MAX_FRAMES as usize],
    status: [Lent; MAX_STATUS_FRAMES as usize],
    pins: [Pin; (MAX_FRAMES * PER_FRAME_V1) as usize],
    /// What the domain has mapped of others.
    pub maptrack: Maptrack,
}

impl Grants {
    /// Lets others use what this domain grants. `domain` stays readable until [`Self::close`] and the fence after it.
    pub fn open(&self, id: DomId, domain: *const Domain) {
        self.domain.store(domain.cast_mut(), Ordering::Relaxed);
        self.owner.swap(u64::from(id) + 1, Ordering::SeqCst);
    }

    /// Whose they are.
    #[inline]
    pub fn owner(&self) -> Option<DomId> {
        self.owner.load(Ordering::SeqCst).checked_sub(1).map(|id| id as DomId)
    }

    /// The domain, for cores that the fence waits for.
    #[inline]
    pub fn domain(&self) -> *const Domain {
        self.domain.load(Ordering::Relaxed)
    }

    /// From now on nobody begins to use anything of it. Who has begun is waited for by a fence.
    pub fn close(&self) {
        self.owner.swap(0, Ordering::SeqCst);
    }

    /// Forgets all of the last domain's, whose cores are gone, and hands out the frames that it was lent.
    pub fn reset(&self, mut give_back: impl FnMut(HostPhys)) {
        let used = (self.frames.load(Ordering::Relaxed) * PER_FRAME_V1) as usize;
        for pin in self.pins.iter().take(used) {
            pin.reset();
        }
        for lent in self.shared.iter().chain(&self.status) {
            if let Some(frame) = lent.frame() {
                give_back(frame);
            }
            lent.frame.store(0, Ordering::Relaxed);
            lent.at.store(0, Ordering::Relaxed);
        }
        for word in [&self.version, &self.frames, &self.status_frames] {
            word.store(0, Ordering::Relaxed);
        }
        self.maptrack.reset();
    }

    /// 1 or 2.
    #[inline]
    pub fn version(&self) -> u32 {
        if self.version.load(Ordering::Acquire) == 2 { 2 } else { 1 }
    }

    /// Its frames of entries.
    #[inline]
    pub fn frames(&self) -> u32 {
        self.frames.load(Ordering::Acquire)
    }

    /// Its frames of status words.
    pub fn status_frames(&self) -> u32 {
        self.status_frames.load(Ordering::Acquire)
    }

    /// A place for a frame of entries, below [`MAX_FRAMES`].
    #[inline]
    pub fn shared(&self, index: u32) -> Option<&Lent> {
        self.shared.get(index as usize)
    }

    /// A place for a frame of status words, below [`MAX_STATUS_FRAMES`].
    #[inline]
    pub fn status(&self, index: u32) -> Option<&Lent> {
        self.status.get(index as usize)
    }

    /// So many frames of entries are there.
    pub fn has_frames(&self, frames: u32) {
        self.frames.fetch_max(frames.min(MAX_FRAMES), Ordering::AcqRel);
    }

    /// So many frames of status words are there.
    pub fn has_status_frames(&self, frames: u32) {
        self.status_frames.fetch_max(frames.min(MAX_STATUS_FRAMES), Ordering::AcqRel);
    }

    /// How many entries there are.
    #[inline]
    pub fn entries(&self) -> u32 {
        self.frames() * if self.version() == 2 { PER_FRAME_V2 } else { PER_FRAME_V1 }
    }

    /// An entry, and what of it is in use. `None`: there is no such one.
    #[inline]
    pub fn entry(&self, reference: u32) -> Option<(Entry, &Pin)> {
        let per_frame = if self.version() == 2 { PER_FRAME_V2 } else { PER_FRAME_V1 };
        let (page, slot) = (reference / per_frame, reference % per_frame);
        if page >= self.frames() {
            return None;
        }
        let frame = self.shared(page)?.frame()?;
        let pin = self.pins.get(reference as usize)?;
        if per_frame == PER_FRAME_V1 {
            return Some((Entry::v1(frame, slot), pin));
        }
        let status = self.status(reference / STATUS_PER_FRAME)?.frame()?;
        Some((Entry::v2(frame, slot, status, reference % STATUS_PER_FRAME), pin))
    }

    /// Whether an entry other than those that are the tools' is in use.
    pub fn is_in_use(&self) -> bool {
        let entries = self.entries() as usize;
        self.pins.iter().take(entries).skip(RESERVED_ENTRIES as usize).any(Pin::is_used)
    }

    /// Changes the version; the first entries keep what they say. `None`: version 1 has no words for it.
    pub fn change_version(&self, version: u32) -> Option<()> {
        let kept = core::array::from_fn::<_, { RESERVED_ENTRIES as usize }, _>(|reference| {
            self.entry(reference as u32).map(|(entry, _)| entry.as_v1())
        });
        let mut entries = [EntryV1::default(); RESERVED_ENTRIES as usize];
        for (entry, kept) in entries.iter_mut().zip(kept) {
            *entry = kept??;
        }
        for frame in self.shared.iter().filter_map(Lent::frame) {
            entry::clear(frame);
        }
        self.version.store(version, Ordering::Release);
        if version == 1 {
            self.status_frames.store(0, Ordering::Release);
        }
        for (reference, kept) in entries.iter().enumerate() {
            if let Some((entry, _)) = self.entry(reference as u32) {
                entry.set(kept);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
