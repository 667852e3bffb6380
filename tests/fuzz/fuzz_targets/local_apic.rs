//! The target `local_apic` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::devices::local_apic(bytes));
