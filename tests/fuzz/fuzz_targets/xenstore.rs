//! The target `xenstore` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::wires::xenstore(bytes));
