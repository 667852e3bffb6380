//! `map`: gives a guest memory.

use abi::address::{GuestPhys, HostPhys, PAGE_SIZE, PageCount};

use crate::entry::{Decoded, Entry, MemoryType, Permissions};
use crate::error::MapError;
use crate::frames::Frames;
use crate::level::{Level, PageSize, Slot, Span};
use crate::reserve::Reserve;
use crate::table::Ept;

/// A request to map, checked but for what is mapped already.
struct Request {
    span: Span,
    hpa: u64,
    permissions: Permissions,
    memory: MemoryType,
    largest: PageSize,
}

/// How a request deals with one slot of a table.
enum Fit {
    Page(Entry),
    Table(Level),
}

impl Ept {
    /// Maps `pages` pages from `gpa` on to the memory from `hpa` on, in the largest pages that alignment and settings
    /// allow. No part of it may be mapped yet. Needs no INVEPT. No pages is a request that succeeds.
    pub fn map<F: Frames>(
        &mut self,
        frames: &mut F,
        gpa: GuestPhys,
        hpa: HostPhys,
        pages: PageCount,
        permissions: Permissions,
        memory: MemoryType,
    ) -> Result<(), MapError> {
        let span = Span::new(gpa, pages)?;
        if !hpa.is_aligned(PAGE_SIZE) {
            return Err(MapError::Misaligned);
        }
        let host_end = 1 << self.settings().host_address_bits.min(52);
        if hpa.checked_add(span.end - span.start).is_none_or(|end| end.as_u64() > host_end) {
            return Err(MapError::OutOfRange);
        }
        self.check(permissions)?;
        let largest = self.settings().largest_page;
        let request = Request { span, hpa: hpa.as_u64(), permissions, memory, largest };

        let mut reserve = Reserve::new();
        let planned = request.plan(frames, &mut reserve, Some(self.root()), Level::Pml4e, span);
        let done = planned.and_then(|()| request.fill(frames, &mut reserve, self.root(), Level::Pml4e, span));
        reserve.release(frames);
        done
    }
}

impl Request {
    fn fit(&self, level: Level, slot: Slot) -> Fit {
        let hpa = self.hpa + (slot.part.start - self.span.start);
        let page = level.page_size().filter(|&size| {
            slot.whole && size <= self.largest && HostPhys::new(hpa).is_aligned(size.bytes())
        });
        match (page, level.below()) {
            (None, Some(below)) => Fit::Table(below),
            (size, _) => {
                let size = size.unwrap_or(PageSize::Size4KiB);
                Fit::Page(Entry::page(hpa, size, self.permissions, self.memory))
            }
        }
    }

    /// Looks for what is mapped already and reserves the tables that [`Self::fill`] will add. `table` is `None` where
    /// that table will be one of them.
    fn plan<F: Frames>(
        &self,
        frames: &mut F,
        reserve: &mut Reserve,
        table: Option<HostPhys>,
        level: Level,
        span: Span,
    ) -> Result<(), MapError> {
        if table.is_none() && level.below().is_none() {
            return Ok(());
        }
        for slot in span.slots(level) {
            let entry = table.map_or(Entry::EMPTY, |table| Entry(frames.read(table, slot.index)));
            match (entry.decode(level), self.fit(level, slot)) {
                (Decoded::Page(_), _) => {
                    return Err(MapError::AlreadyMapped(GuestPhys::new(slot.part.start)));
                }
                // Where a page would fit, a table is in the way: either the search below finds why, or it is one that
                // `clear` has emptied, and gets the pages.
                (Decoded::Table { table, level }, _) => {
                    self.plan(frames, reserve, Some(table), level, slot.part)?;
                }
                (Decoded::Empty, Fit::Page(_)) => {}
                (Decoded::Empty, Fit::Table(below)) => {
                    reserve.add(frames, 1)?;
                    self.plan(frames, reserve, None, below, slot.part)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the entries. New tables are linked when they are complete.
    fn fill<F: Frames>(
        &self,
        frames: &mut F,
        reserve: &mut Reserve,
        table: HostPhys,
        level: Level,
        span: Span,
    ) -> Result<(), MapError> {
        for slot in span.slots(level) {
            // A table that is there stays, also where a page would fit: other cores may be walking it.
            if let Decoded::Table { table, level } = Entry(frames.read(table, slot.index)).decode(level) {
                self.fill(frames, reserve, table, level, slot.part)?;
                continue;
            }
            match self.fit(level, slot) {
                Fit::Page(page) => frames.write(table, slot.index, page.0),
                Fit::Table(below) => {
                    let child = reserve.take(frames)?;
                    self.fill(frames, reserve, child, below, slot.part)?;
                    frames.write(table, slot.index, Entry::table(child).0);
                }
            }
        }
        Ok(())
    }
}
