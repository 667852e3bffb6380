//! Memory for the hypervisor itself, taken once at boot and never given back.

use abi::address::{HostPhys, PAGE_SIZE, PageCount};
use boot::handover::{Handover, Range};

/// Takes pages from the top of the largest piece of free RAM below 4 GiB.
#[derive(Debug)]
pub struct Early {
    start: u64,
    end: u64,
    /// Where the whole piece ended.
    top: u64,
}

/// What lies at `end` or above is not ours to use early: the boot's page tables end there.
const LIMIT: u64 = 1 << 32;
/// Below 1 MiB lies what firmware left, and the trampoline.
const LOW: u64 = 1 << 20;

impl Early {
    /// Finds that piece: RAM by the memory map, less `used`.
    pub fn find(handover: &Handover, used: &[Range]) -> Option<Self> {
        let mut best = Self { start: 0, end: 0, top: 0 };
        for region in &handover.memory {
            let mut start = region.start.as_u64().max(LOW);
            let end = region.end.as_u64().min(LIMIT);
            // The used ranges cut the region into pieces; each round looks at the lowest piece left.
            while start < end {
                let cut =
                    used.iter().filter(|range| range.end.as_u64() > start).min_by_key(|range| range.start);
                let piece_end = cut.map_or(end, |range| range.start.as_u64().clamp(start, end));
                if piece_end - start > best.end - best.start {
                    best = Self { start, end: piece_end, top: 0 };
                }
                match cut {
                    Some(range) if range.start.as_u64() < end => start = range.end.as_u64(),
                    _ => break,
                }
            }
        }
        best.start = best.start.next_multiple_of(PAGE_SIZE);
        best.end &= !(PAGE_SIZE - 1);
        best.top = best.end;
        (best.end > best.start).then_some(best)
    }

    /// `pages` pages of zeroes, aligned to `align`, a power of two.
    pub fn take(&mut self, pages: PageCount, align: u64) -> Option<HostPhys> {
        let start = self.end.checked_sub(pages.checked_bytes()?)? & !(align.max(PAGE_SIZE) - 1);
        if start < self.start {
            return None;
        }
        self.end = start;
        // SAFETY: free RAM by the memory map, below 4 GiB and so mapped by the boot's tables, and never handed out twice.
        unsafe { super::physical::scrub(HostPhys::new(start), pages.checked_bytes()?) };
        Some(HostPhys::new(start))
    }

    /// What is left: from the first address to where the pieces taken begin.
    pub fn rest(&self) -> Range {
        Range { start: HostPhys::new(self.start), end: HostPhys::new(self.end) }
    }

    /// Whether the address lies in the piece, taken or not.
    pub fn piece_contains(&self, address: u64) -> bool {
        (self.start..self.top).contains(&address)
    }
}
