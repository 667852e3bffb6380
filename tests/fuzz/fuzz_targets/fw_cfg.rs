//! The target `fw_cfg` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::devices::fw_cfg(bytes));
