//! Lives of a guest on shadows.

use ept::guest_walk::Mode;

use super::life::Store;
use super::run::{Run, Step};

/// The longest life; what a step costs grows with what came before it.
const MOST_STEPS: usize = 200;
/// Entries of the first tables that the bytes themselves say.
const MOST_ENTRIES: usize = 16;

/// Shadow page tables: a mode, the pages for shadows, tables, and what the guest does then.
pub fn shadow(bytes: &[u8]) {
    let Some((&[mode, pages, entries, _], rest)) = bytes.split_first_chunk() else { return };
    let Some((seed, rest)) = rest.split_first_chunk() else { return };
    let modes = [Mode::FourLevel, Mode::Pae, Mode::TwoLevel, Mode::Off];
    let (fill, steps) = rest.split_at(rest.len().min(usize::from(entries) % (MOST_ENTRIES + 1) * 10));
    let fill: Vec<(u8, u8, u64)> = fill
        .as_chunks::<10>()
        .0
        .iter()
        .map(|&[frame, slot, ref entry @ ..]| (frame, slot, number(entry)))
        .collect();
    let mut store = Store::new(8 + usize::from(pages) % 32);
    let mut run = Run::start(&mut store, modes[usize::from(mode) % 4], u64::from_le_bytes(*seed), &fill);
    for step in steps.as_chunks::<17>().0.iter().take(MOST_STEPS) {
        let (numbers, _) = step[1..].as_chunks();
        run.step(Step { kind: step[0], a: number(&numbers[0]), b: number(&numbers[1]) });
    }
}

fn number(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}
