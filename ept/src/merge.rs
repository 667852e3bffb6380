//! `merge`: turns full tables of contiguous pages back into one large page, once what split them is gone.

use abi::address::HostPhys;

use crate::entry::{Decoded, Entry};
use crate::error::Invalidation;
use crate::frames::{ENTRIES, Frames};
use crate::level::{Level, PageSize};
use crate::table::Ept;

impl Ept {
    /// Replaces every table whose 512 entries map what one larger page would map, with the same permissions and memory
    /// type, by that page. Frees the tables; allocates nothing; no translation changes.
    ///
    /// Reads every table: meant for after a burst of changes, not for an exit path.
    pub fn merge<F: Frames>(&mut self, frames: &mut F) -> Invalidation {
        merge_below(frames, self.root(), Level::Pml4e, self.settings().largest_page)
    }
}

/// Merges bottom-up, so that 2 MiB pages made here can become 1 GiB pages at once.
fn merge_below<F: Frames>(frames: &mut F, table: HostPhys, level: Level, largest: PageSize) -> Invalidation {
    let mut invalidation = Invalidation::None;
    for index in 0..ENTRIES {
        let Decoded::Table { table: child, level: below } = Entry(frames.read(table, index)).decode(level)
        else {
            continue;
        };
        invalidation = invalidation.and(merge_below(frames, child, below, largest));
        let size = level.page_size().filter(|&size| size <= largest);
        if let Some(page) = size.and_then(|size| one_page(frames, child, below, size)) {
            frames.write(table, index, page.0);
            frames.free(child);
            invalidation = Invalidation::Needed;
        }
    }
    invalidation
}

/// The page of `size` that is the same as the table in frame `table`, if there is one.
fn one_page<F: Frames>(frames: &F, table: HostPhys, level: Level, size: PageSize) -> Option<Entry> {
    let mut page: Option<Entry> = None;
    let mut flags = 0;
    for index in 0..ENTRIES {
        let entry = Entry(frames.read(table, index));
        let Decoded::Page(_) = entry.decode(level) else { return None };
        let whole = entry.whole(size, index)?;
        if *page.get_or_insert(whole) != whole {
            return None;
        }
        flags |= entry.flags();
    }
    page.map(|page| Entry(page.0 | flags))
}
