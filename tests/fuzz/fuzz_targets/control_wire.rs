//! The target `control_wire` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::wires::control_wire(bytes));
