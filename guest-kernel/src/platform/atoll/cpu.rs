//! Single instructions that the kernel needs, each with the reason why it is harmless.

use core::arch::asm;

/// The time-stamp counter.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { x86::time::rdtsc() }
}

/// Turns interrupts on for the length of one instruction, then off.
#[inline]
pub fn interrupt_window() {
    // SAFETY: handlers run on stacks of their own and only leave notes.
    unsafe { asm!("sti", "nop", "cli") }
}

/// Runs `work` with interrupts on.
pub fn with_interrupts<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: handlers run on stacks of their own and only leave notes.
    unsafe { asm!("sti") }
    let result = work();
    // SAFETY: back to how the kernel works.
    unsafe { asm!("cli") }
    result
}

/// Turns interrupts on and halts in one step: STI takes effect behind the instruction that follows it, so an interrupt
/// that waits ends the halt. Interrupts are off again on return.
#[inline]
pub fn halt_until_interrupt() {
    // SAFETY: handlers run on stacks of their own and only leave notes.
    unsafe { asm!("sti", "hlt", "cli") }
}

/// The end: interrupts off, halted.
pub fn halt_for_ever() -> ! {
    loop {
        // SAFETY: nothing is to happen on this core any more.
        unsafe { asm!("cli", "hlt") }
    }
}
