//! A manifest, the first entry of a bundle, or an index.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxistrano_fuzz::manifest(bytes));
