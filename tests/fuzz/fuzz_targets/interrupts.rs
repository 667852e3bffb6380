//! The target `interrupts` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::interrupts::interrupts(bytes));
