//! A zip: anything that begins as one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxistrano_fuzz::zip(bytes));
