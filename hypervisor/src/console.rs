//! The hypervisor's log: the first serial port, and a ring in memory that domain 0 can read (`atoll dmesg`).
//!
//! The one lock of the hypervisor is here. Nothing on an exit path or a ring path logs.

use core::fmt::{self, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::{Mutex, MutexGuard};
use x86::io::{inb, outb};

use crate::machine::Patience;

/// The first serial port (16550).
const COM1: u16 = 0x3f8;
/// Bytes of the log that are kept.
const KEPT: usize = 64 * 1024;

/// The serial port and the ring.
pub struct Console {
    kept: [u8; KEPT],
    /// Bytes ever written.
    end: u64,
}

static CONSOLE: Mutex<Console> = Mutex::new(Console { kept: [0; KEPT], end: 0 });

/// Sets up the port, 115200 baud, 8 data bits, FIFOs on, no interrupts, and makes it the target of `log`.
pub fn init() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 3)] {
        // SAFETY: the registers of a serial port, whose interrupts go off first.
        unsafe { outb(COM1 + register, value) };
    }
    // It can only be set already, by an earlier call.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Info);
}

/// The console, for whoever has more to say than one line. Waits for others to finish theirs.
pub fn lock() -> MutexGuard<'static, Console> {
    let mut patience = Patience::default();
    loop {
        if let Some(console) = CONSOLE.try_lock() {
            return console;
        }
        patience.wait();
    }
}

/// The console of a machine that is about to stop, even if the core that holds it is the one that failed.
pub fn lock_for_the_end() -> MutexGuard<'static, Console> {
    for _ in 0..1_000_000 {
        if let Some(console) = CONSOLE.try_lock() {
            return console;
        }
        core::hint::spin_loop();
    }
    // SAFETY: its holder has had ages to write one line, so it is this core in a panic, or stuck; the worst that can
    // come of it is a garbled line.
    unsafe { CONSOLE.force_unlock() };
    CONSOLE.lock()
}

impl Console {
    /// Positions of the oldest byte kept, and behind the newest.
    pub fn range(&self) -> (u64, u64) {
        (self.end.saturating_sub(KEPT as u64), self.end)
    }

    /// Copies bytes from `position` on; `None` where it lies outside of what is kept. Returns how many.
    pub fn read(&self, position: u64, into: &mut [u8]) -> Option<usize> {
        let (start, end) = self.range();
        if !(start..=end).contains(&position) {
            return None;
        }
        let mut copied = 0;
        for (to, at) in into.iter_mut().zip(position..end) {
            *to = self.kept[at as usize % KEPT];
            copied += 1;
        }
        Some(copied)
    }

    /// Writes bytes as they are.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
            self.kept[self.end as usize % KEPT] = byte;
            self.end += 1;
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_bytes(text.as_bytes());
        Ok(())
    }
}

fn send(byte: u8) {
    const LINE_STATUS: u16 = 5;
    const TRANSMITTER_EMPTY: u8 = 1 << 5;
    // A port that is not there reads as all ones, and so as empty; a wedged one costs the byte, not the machine.
    for _ in 0..100_000 {
        // SAFETY: reading the line status has no side effect on what is sent.
        if unsafe { inb(COM1 + LINE_STATUS) } & TRANSMITTER_EMPTY != 0 {
            break;
        }
        core::hint::spin_loop();
    }
    // SAFETY: the transmit register of a serial port.
    unsafe { outb(COM1, byte) };
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            // The console's own writing can not fail.
            let _ = writeln!(lock(), "atoll: {}", record.args());
        }
    }

    fn flush(&self) {}
}
