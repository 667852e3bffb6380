//! `unmap`, `clear` and `protect`: all walk what is mapped in a span, split the large pages that straddle its ends, and
//! rewrite the rest.

use abi::address::{GuestPhys, HostPhys, PageCount};

use crate::entry::{Decoded, Entry, Permissions};
use crate::error::{Invalidation, MapError};
use crate::frames::{ENTRIES, Frames};
use crate::level::{Level, PageSize, Span};
use crate::reserve::Reserve;
use crate::table::{Ept, free_tables, is_empty};

/// What becomes of the pages in a span.
#[derive(Clone, Copy)]
enum Change {
    Unmap,
    Clear,
    Protect(Permissions),
}

impl Ept {
    /// Takes `pages` pages from `gpa` on away from the guest. Pages in the span that are not mapped stay so. Frees the
    /// tables that become empty.
    pub fn unmap<F: Frames>(
        &mut self,
        frames: &mut F,
        gpa: GuestPhys,
        pages: PageCount,
    ) -> Result<Invalidation, MapError> {
        self.change(frames, gpa, pages, Change::Unmap)
    }

    /// As [`Ept::unmap`], but leaves tables that become empty where they are: for tables that other cores walk at the
    /// same time. Each entry changes by one store, so such a walk finds the page or nothing.
    pub fn clear<F: Frames>(
        &mut self,
        frames: &mut F,
        gpa: GuestPhys,
        pages: PageCount,
    ) -> Result<Invalidation, MapError> {
        self.change(frames, gpa, pages, Change::Clear)
    }

    /// Gives `pages` pages from `gpa` on these permissions. Pages in the span that are not mapped stay so.
    pub fn protect<F: Frames>(
        &mut self,
        frames: &mut F,
        gpa: GuestPhys,
        pages: PageCount,
        permissions: Permissions,
    ) -> Result<Invalidation, MapError> {
        self.check(permissions)?;
        self.change(frames, gpa, pages, Change::Protect(permissions))
    }

    fn change<F: Frames>(
        &mut self,
        frames: &mut F,
        gpa: GuestPhys,
        pages: PageCount,
        change: Change,
    ) -> Result<Invalidation, MapError> {
        let span = Span::new(gpa, pages)?;
        let mut reserve = Reserve::new();
        let planned = change.plan(frames, &mut reserve, self.root(), Level::Pml4e, span);
        let done = planned.and_then(|()| change.apply(frames, &mut reserve, self.root(), Level::Pml4e, span));
        reserve.release(frames);
        done
    }
}

impl Change {
    /// What `page` becomes; `None` where it stays as it is.
    fn of(self, page: Entry) -> Option<Entry> {
        let changed = match self {
            Self::Unmap | Self::Clear => Entry::EMPTY,
            Self::Protect(permissions) => page.with_permissions(permissions),
        };
        (changed != page).then_some(changed)
    }

    /// Reserves the tables that [`Self::apply`] will split pages into. Only a page that straddles an end of the span
    /// is split, so at most two entries of each level matter.
    fn plan<F: Frames>(
        self,
        frames: &mut F,
        reserve: &mut Reserve,
        table: HostPhys,
        level: Level,
        span: Span,
    ) -> Result<(), MapError> {
        for slot in span.slots(level).filter(|slot| !slot.whole) {
            let entry = Entry(frames.read(table, slot.index));
            match entry.decode(level) {
                Decoded::Page(_) if self.of(entry).is_some() => {
                    reserve.add(frames, tables_to_split(level, slot.part))?;
                }
                Decoded::Table { table, level } => self.plan(frames, reserve, table, level, slot.part)?,
                Decoded::Page(_) | Decoded::Empty => {}
            }
        }
        Ok(())
    }

    fn apply<F: Frames>(
        self,
        frames: &mut F,
        reserve: &mut Reserve,
        table: HostPhys,
        level: Level,
        span: Span,
    ) -> Result<Invalidation, MapError> {
        let mut invalidation = Invalidation::None;
        for slot in span.slots(level) {
            let entry = Entry(frames.read(table, slot.index));
            let changed = match entry.decode(level) {
                Decoded::Empty => continue,
                Decoded::Page(size) => {
                    let Some(changed) = self.of(entry) else { continue };
                    match level.below() {
                        Some(below) if !slot.whole => {
                            // Split and changed while nothing refers to it: the guest sees the old page or the
                            // finished table. The invalidation of what nobody could have cached is moot.
                            let child = split(frames, reserve, entry, size)?;
                            let _ = self.apply(frames, reserve, child, below, slot.part)?;
                            Entry::table(child)
                        }
                        _ => changed,
                    }
                }
                Decoded::Table { table: child, level: below } => {
                    if slot.whole && matches!(self, Self::Unmap) {
                        frames.write(table, slot.index, Entry::EMPTY.0);
                        free_tables(frames, child, below);
                        invalidation = Invalidation::Needed;
                        continue;
                    }
                    let inner = self.apply(frames, reserve, child, below, slot.part)?;
                    let keeps = matches!(self, Self::Clear);
                    if inner == Invalidation::Needed && !keeps && is_empty(frames, child) {
                        frames.write(table, slot.index, Entry::EMPTY.0);
                        frames.free(child);
                    }
                    invalidation = invalidation.and(inner);
                    continue;
                }
            };
            frames.write(table, slot.index, changed.0);
            invalidation = Invalidation::Needed;
        }
        Ok(invalidation)
    }
}

/// The tables it takes to split a page mapped at `level` so that `part` of it has entries of its own.
fn tables_to_split(level: Level, part: Span) -> usize {
    match level.below() {
        Some(below) => {
            let ends = part.slots(below).filter(|slot| !slot.whole);
            1 + ends.map(|slot| tables_to_split(below, slot.part)).sum::<usize>()
        }
        None => 0,
    }
}

/// A table, not linked yet, that maps what `page` maps.
fn split<F: Frames>(
    frames: &mut F,
    reserve: &mut Reserve,
    page: Entry,
    size: PageSize,
) -> Result<HostPhys, MapError> {
    let table = reserve.take(frames)?;
    for index in 0..ENTRIES {
        frames.write(table, index, page.piece(size, index).0);
    }
    Ok(table)
}
