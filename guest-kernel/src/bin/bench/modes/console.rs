//! A screenful on the console.

use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::cpu;
use guest_kernel::programs::measure::Row;

use super::Meter;
use crate::{print, rest};

/// Bytes of an operation, and of the pieces in which they are written: each finds room in the ring between a guest and
/// domain 0.
const TEXT: usize = 4096;
const PIECE: usize = 1024;
/// Ticks between two pieces, for whoever reads them: not part of the row. Domain 0 hands on what it read by a serial port.
const PAUSE: u64 = 6_000_000;
/// Operations, of which the first does not count.
const SAMPLES: usize = 5;

/// Measures 4 KiB, as far as the guest itself has to see to them.
pub fn measure(meter: &Meter<'_>) {
    let mut row = Row::of(meter.name("console_4k").leak(), SAMPLES, 1);
    while !row.is_complete() {
        row.add(screenful(meter), 1);
    }
    print(row);
    meter.count("console_4k", SAMPLES as u64, || {
        for _ in 0..SAMPLES {
            screenful(meter);
        }
    });
}

/// Prints, and says how long that took.
fn screenful(meter: &Meter<'_>) -> u64 {
    let mut text = [b'.'; PIECE];
    text[PIECE - 1] = b'\n';
    // The bare machine's port is slow by itself, and nobody is behind it.
    let pause = if meter.mode == "bare" { 0 } else { PAUSE };
    let mut spent = 0;
    for _ in 0..TEXT / PIECE {
        rest(pause);
        let before = cpu::tsc();
        meter.platform.console_write(&text);
        spent += cpu::tsc().wrapping_sub(before).saturating_sub(meter.empty);
    }
    rest(pause);
    spent
}
