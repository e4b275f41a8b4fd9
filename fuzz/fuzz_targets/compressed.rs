//! Whatever it is by its first bytes; the seeds are gzip, zstd, xz and bzip2.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxistrano_fuzz::compressed(bytes));
