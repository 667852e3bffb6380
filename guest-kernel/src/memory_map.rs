//! Which memory is free: the loader's RAM less what is in use.

use core::ops::Range;

use arrayvec::ArrayVec;

/// The most pieces free memory may fall into; what lies beyond is not used.
pub const MAX_PIECES: usize = 64;

/// Bytes in a page.
const PAGE: u64 = 4096;

/// `ram` in whole pages, below `limit`, without any of `holes`, which are rounded outwards to whole pages.
pub fn free_pages(
    ram: impl Iterator<Item = Range<u64>>,
    limit: u64,
    holes: &[Range<u64>],
) -> ArrayVec<Range<u64>, MAX_PIECES> {
    let mut free = ArrayVec::new();
    for range in ram {
        // A range whose start cannot be rounded up has no whole page.
        let Some(start) = range.start.checked_next_multiple_of(PAGE) else { continue };
        cut(start..range.end.min(limit) & !(PAGE - 1), holes, &mut free);
    }
    free
}

/// Adds what is left of `range` without the first hole to `free`, less the other holes.
fn cut(range: Range<u64>, holes: &[Range<u64>], free: &mut ArrayVec<Range<u64>, MAX_PIECES>) {
    if range.is_empty() {
        return;
    }
    let Some((hole, others)) = holes.split_first() else {
        // More pieces than we keep cost memory, never correctness.
        let _ = free.try_push(range);
        return;
    };
    if hole.is_empty() {
        return cut(range, others, free);
    }
    let hole_start = hole.start & !(PAGE - 1);
    let hole_end = hole.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    cut(range.start..range.end.min(hole_start), others, free);
    cut(range.start.max(hole_end)..range.end, others, free);
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of ranges, some with one")]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn free(ram: Vec<Range<u64>>, holes: &[Range<u64>]) -> Vec<Range<u64>> {
        free_pages(ram.into_iter(), 1 << 32, holes).into_iter().collect()
    }

    #[test]
    fn holes_are_cut_out_and_rounded_outwards() {
        let pieces = free(vec![0..0x10_0000], &[0x2800..0x3001, 0x8000..0x9000]);
        assert_eq!(pieces, [0..0x2000, 0x4000..0x8000, 0x9000..0x10_0000]);
    }

    #[test]
    fn ram_is_rounded_inwards_and_cut_at_the_limit() {
        assert_eq!(free(vec![0x800..0x3fff], &[]), [0x1000..0x3000]);
        assert_eq!(free(vec![0xffff_0000..0x1_8000_0000], &[]), [0xffff_0000..0x1_0000_0000]);
        assert_eq!(free(vec![u64::MAX - 5..u64::MAX], &[]), []);
    }

    #[test]
    fn a_hole_that_covers_everything_leaves_nothing() {
        assert_eq!(free(vec![0x1000..0x2000], &[0..u64::MAX]), []);
        assert_eq!(free(vec![0x1000..0x2000], &[0x1800..0x1800]), [0x1000..0x2000], "an empty hole is none");
    }
}
