//! A plain tar, its headers' checksums put right.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxistrano_fuzz::tar(bytes));
