//! The target `guest_walk` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::paging::guest_walk(bytes));
