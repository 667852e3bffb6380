//! How a run ends: the exit line, and the emulator's own door where there is one.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::exit_code::{EXIT_LINE, ExitCode};
use x86::io::{outb, outl};

use crate::console;

/// Whether the command line says `exit=debug`: this is an emulator that ends when it is told to.
static DEBUG_EXIT: AtomicBool = AtomicBool::new(false);

/// QEMU's isa-debug-exit, where the toolstack puts it.
const QEMU_DEBUG_EXIT: u16 = 0xf4;
/// The port at which Bochs, given the word, shuts down.
const BOCHS_SHUTDOWN: u16 = 0x8900;

/// The run is at its end: cores that still look at it go no further.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Halts this core for good where another has ended the run.
pub fn halt_if_stopping() {
    if STOPPING.load(Ordering::Relaxed) {
        halt();
    }
}

fn halt() -> ! {
    loop {
        // SAFETY: this core has nothing left to do.
        unsafe { core::arch::asm!("cli", "hlt") };
    }
}

/// Says that the emulator's doors may be used. On a real machine those ports may be anything.
pub fn allow_debug_exit() {
    DEBUG_EXIT.store(true, Ordering::Relaxed);
}

/// Ends the run. The exit line is the last: the console stays locked.
pub fn stop(code: ExitCode) -> ! {
    STOPPING.store(true, Ordering::Relaxed);
    let mut console = console::lock_for_the_end();
    // The console's own writing can not fail.
    let _ = writeln!(console, "{EXIT_LINE}{:#x} {}", code as u8, code.label());
    core::mem::forget(console);
    if DEBUG_EXIT.load(Ordering::Relaxed) {
        // SAFETY: the toolstack has put nothing else at these ports.
        unsafe {
            outl(QEMU_DEBUG_EXIT, u32::from(code as u8));
            for &byte in b"Shutdown" {
                outb(BOCHS_SHUTDOWN, byte);
            }
        }
    }
    halt()
}

/// Ends the run after saying why.
pub fn fail(code: ExitCode, why: core::fmt::Arguments) -> ! {
    log::error!("{why}");
    if !code.remedy().is_empty() {
        log::error!("remedy: {}", code.remedy());
    }
    stop(code)
}
