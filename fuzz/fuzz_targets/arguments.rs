//! The arguments of modules.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxistrano_fuzz::arguments(bytes));
