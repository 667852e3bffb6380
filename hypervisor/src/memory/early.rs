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
        let all = handover.memory.iter().flat_map(|ram| pieces(*ram, LOW..LIMIT, used));
        let best = all.max_by_key(|piece| piece.end - piece.start)?;
        Some(Self { start: best.start, end: best.end, top: best.end })
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

    /// What was given out.
    pub fn taken(&self) -> Range {
        Range { start: HostPhys::new(self.end), end: HostPhys::new(self.top) }
    }
}

/// What is left of `ram` within these `limits` and without the `used` ranges, in whole pages: the lowest first.
pub fn pieces(
    ram: Range,
    limits: core::ops::Range<u64>,
    used: &[Range],
) -> impl Iterator<Item = core::ops::Range<u64>> {
    let mut start = ram.start.as_u64().max(limits.start);
    let end = ram.end.as_u64().min(limits.end);
    core::iter::from_fn(move || {
        while start < end {
            let next = used.iter().filter(|range| range.end.as_u64() > start).min_by_key(|range| range.start);
            let piece_end = next.map_or(end, |range| range.start.as_u64().clamp(start, end));
            let piece = start.next_multiple_of(PAGE_SIZE)..piece_end & !(PAGE_SIZE - 1);
            start = next.map_or(end, |range| range.end.as_u64());
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_is_used_is_left_out() {
        let range = |start, end| Range { start: HostPhys::new(start), end: HostPhys::new(end) };
        let left = |ram, limits, used: &[Range]| {
            pieces(ram, limits, used).map(|piece| (piece.start, piece.end)).collect::<Vec<_>>()
        };
        let ram = range(0x1800, 0x9800);
        assert_eq!(left(ram, 0..1 << 32, &[]), [(0x2000, 0x9000)]);
        let used = [range(0x6000, 0x6010), range(0x1000, 0x3000), range(0x9000, 0x20000)];
        assert_eq!(left(ram, 0..1 << 32, &used), [(0x3000, 0x6000), (0x7000, 0x9000)]);
        assert_eq!(left(ram, 0x4000..0x8000, &used), [(0x4000, 0x6000), (0x7000, 0x8000)]);
        // Ranges that overlap, that are empty, and that lie elsewhere.
        let used =
            [range(0x2000, 0x5000), range(0x4000, 0x7000), range(0x8000, 0x8000), range(0x20000, 0x30000)];
        assert_eq!(left(ram, 0..1 << 32, &used), [(0x7000, 0x8000), (0x8000, 0x9000)]);
        assert_eq!(left(ram, 0..1 << 32, &[range(0, 1 << 40)]), []);
    }
}
