//! The memory that a guest's shadow page tables live in: one run of 2 MiB chunks, taken when the domain is made and given
//! back when it ends. In between nothing is taken and nothing given back.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};

use abi::address::{GuestPhys, HostPhys, PAGE_SIZE};
use abi::xen::errno::Errno;
use ept::guest_walk::{EntryWidth, Exchange, Features, GuestTables};
use ept::shadow::{Backing, Frame, GuestSpace, Link, Memory, Page, Shadow, ShadowTables};
use ept::{Access, Frames, Permissions, Tables, View};

use crate::memory::frame_table::{CHUNK_FRAMES, FrameTable, Owner};
use crate::memory::physical::{Identity, Pool, pointer, scrub};

/// Bytes of a chunk.
const CHUNK: u64 = CHUNK_FRAMES as u64 * PAGE_SIZE;
/// Entries in a table, each of which has a link.
const ENTRIES: u64 = 512;
/// Shadow tables that every guest has, and for each MiB of its memory: as Xen's toolstack counts them
/// (`libxl__get_required_shadow_memory`).
const TABLES: u64 = 256;
const TABLES_PER_MIB: u64 = 2;
/// The parts of the run are aligned to what all of their types want.
const ALIGNMENT: u64 = 16;

/// A guest's shadows.
#[derive(Debug)]
pub struct Shadows {
    /// The tables.
    pub tables: Shadow<'static, InPlace>,
    /// The guest's memory, as they see it.
    pub space: Space,
    /// What the last instruction was that could not be carried out on a table.
    pub stuck: Stuck,
    start: HostPhys,
    chunks: usize,
}

/// How often in a row one instruction could not be carried out on one table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stuck {
    /// The instruction, and where it writes.
    pub at: (u64, u64),
    /// How often.
    pub times: u32,
}

/// Shadow tables where they lie.
#[derive(Clone, Copy, Debug)]
pub struct InPlace;

impl Tables for InPlace {
    #[inline(always)]
    fn read(&self, table: HostPhys, index: usize) -> u64 {
        Identity.read(table, index)
    }
}

impl ShadowTables for InPlace {
    #[inline(always)]
    fn write(&mut self, table: HostPhys, index: usize, entry: u64) {
        // The pool's way of writing is the one way.
        Pool::new().write(table, index, entry);
    }
}

/// A guest's memory, which stays as it is for the guest's life.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// By 2 MiB of guest-physical addresses: where they really are, in one piece; 0: ask the tables.
    regions: &'static [u64],
    view: View,
}

impl Space {
    /// Where this address really is, if it is the guest's own memory.
    #[inline]
    pub fn host(&self, gpa: GuestPhys) -> Option<HostPhys> {
        match self.regions.get((gpa.as_u64() / CHUNK) as usize) {
            None => None,
            Some(0) => self.view.translate(&Identity, gpa, Access::Write).map(|found| found.hpa),
            Some(region) => Some(HostPhys::new(region + gpa.as_u64() % CHUNK)),
        }
    }
}

impl GuestTables for Space {
    #[inline]
    fn read(&self, at: GuestPhys, width: EntryWidth) -> Option<u64> {
        let host = self.host(at)?;
        // SAFETY: the guest's own memory, and aligned by the trait's contract. The guest may write there meanwhile.
        Some(unsafe {
            match width {
                EntryWidth::Four => (*pointer::<AtomicU32>(host)).load(Relaxed).into(),
                EntryWidth::Eight => (*pointer::<AtomicU64>(host)).load(Relaxed),
            }
        })
    }

    #[inline]
    fn compare_exchange(&self, at: GuestPhys, width: EntryWidth, current: u64, new: u64) -> Exchange {
        let Some(host) = self.host(at) else { return Exchange::NotWritable };
        // SAFETY: as for `read`.
        let stored = unsafe {
            match width {
                EntryWidth::Four => (*pointer::<AtomicU32>(host))
                    .compare_exchange(current as u32, new as u32, AcqRel, Relaxed)
                    .is_ok(),
                EntryWidth::Eight => {
                    (*pointer::<AtomicU64>(host)).compare_exchange(current, new, AcqRel, Relaxed).is_ok()
                }
            }
        };
        if stored { Exchange::Stored } else { Exchange::Changed }
    }
}

impl GuestSpace for Space {
    #[inline]
    fn frame(&self, gfn: u32) -> Option<Backing> {
        let hpa = self.host(GuestPhys::new(u64::from(gfn) * PAGE_SIZE))?;
        Some(Backing { hpa, permissions: Permissions::all() })
    }
}

/// A part of the run.
struct Part {
    start: u64,
    count: usize,
}

/// Where each part begins, from the run's start.
struct Layout {
    pages: Part,
    links: Part,
    frames: Part,
    regions: Part,
    bytes: u64,
}

impl Layout {
    fn new(guest_pages: u64) -> Self {
        let tables = TABLES + (guest_pages * PAGE_SIZE).div_ceil(1 << 20) * TABLES_PER_MIB;
        let mut end = tables * PAGE_SIZE;
        let mut part = |count: u64, size: usize| {
            let start = end.next_multiple_of(ALIGNMENT);
            end = start + count * size as u64;
            Part { start, count: count as usize }
        };
        let pages = part(tables, size_of::<Page>());
        let links = part(tables * ENTRIES, size_of::<Link>());
        let frames = part(guest_pages, size_of::<Frame>());
        let regions = part((guest_pages * PAGE_SIZE).div_ceil(CHUNK), size_of::<u64>());
        Self { pages, links, frames, regions, bytes: end }
    }
}

/// Fills a part with what `value` says of each index.
///
/// # Safety
/// The part lies in memory that nobody else uses, for as long as the answer is used.
unsafe fn fill<T>(run: HostPhys, part: &Part, value: impl Fn(usize) -> T) -> &'static mut [T] {
    const { assert!(align_of::<T>() as u64 <= ALIGNMENT) };
    let first = pointer::<T>(HostPhys::new(run.as_u64() + part.start));
    for index in 0..part.count {
        // SAFETY: within the part, by the caller ours.
        unsafe { first.add(index).write(value(index)) };
    }
    // SAFETY: as above; all of it has just been written.
    unsafe { core::slice::from_raw_parts_mut(first, part.count) }
}

impl Shadows {
    /// Shadows for a guest whose memory is `guest_pages` from 0 on, all of it there already.
    pub fn new(
        table: &mut FrameTable<'_>,
        view: View,
        guest_pages: u64,
        features: Features,
    ) -> Result<Self, Errno> {
        let layout = Layout::new(guest_pages);
        let chunks = layout.bytes.div_ceil(CHUNK) as usize;
        let start = table.take_chunks(chunks, Owner::Tables).ok_or(Errno::ENOMEM)?;
        let host_frame = |index: usize| HostPhys::new(start.as_u64() + index as u64 * PAGE_SIZE);
        let region = |index: usize| {
            let gpa = GuestPhys::new(index as u64 * CHUNK);
            let whole =
                view.translate(&Identity, gpa, Access::Write).filter(|found| found.bytes_left >= CHUNK);
            whole.map_or(0, |found| found.hpa.as_u64())
        };
        // SAFETY: the run is ours until `destroy`, which ends the use of all of this; the parts do not overlap.
        let (memory, regions) = unsafe {
            scrub(start, layout.pages.count as u64 * PAGE_SIZE);
            let memory = Memory {
                pages: fill(start, &layout.pages, |index| Page::new(host_frame(index))),
                links: fill(start, &layout.links, |_| Link::UNUSED),
                frames: fill(start, &layout.frames, |_| Frame::UNUSED),
            };
            (memory, fill(start, &layout.regions, region))
        };
        match Shadow::new(InPlace, memory, features) {
            Ok(tables) => {
                let space = Space { regions, view };
                Ok(Self { tables, space, stuck: Stuck::default(), start, chunks })
            }
            Err(error) => {
                log::warn!("no shadows: {error}");
                give_back(table, start, chunks);
                Err(Errno::ENOMEM)
            }
        }
    }

    /// Gives the memory back, scrubbed. The guest is off its core, which has forgotten its translations.
    pub fn destroy(self, table: &mut FrameTable<'_>) {
        give_back(table, self.start, self.chunks);
    }
}

fn give_back(table: &mut FrameTable<'_>, start: HostPhys, chunks: usize) {
    // SAFETY: the run that was taken; by the caller nobody uses it any more.
    unsafe { scrub(start, chunks as u64 * CHUNK) };
    for frame in 0..chunks as u64 * CHUNK_FRAMES as u64 {
        table.give_back(HostPhys::new(start.as_u64() + frame * PAGE_SIZE), true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other() {
        for guest_pages in [1, 511, 16 << 8, (256 << 8) + 3, 3500 << 8] {
            let layout = Layout::new(guest_pages);
            let tables = layout.pages.count as u64;
            assert!((TABLES..=65_000).contains(&tables));
            assert_eq!(layout.links.count as u64, tables * ENTRIES);
            assert_eq!(layout.frames.count as u64, guest_pages);
            let ends = |part: &Part, size: usize| part.start + (part.count * size) as u64;
            assert!(layout.pages.start >= tables * PAGE_SIZE);
            assert!(layout.links.start >= ends(&layout.pages, size_of::<Page>()));
            assert!(layout.frames.start >= ends(&layout.links, size_of::<Link>()));
            assert!(layout.regions.start >= ends(&layout.frames, size_of::<Frame>()));
            assert_eq!(layout.bytes, ends(&layout.regions, 8));
        }
    }
}
