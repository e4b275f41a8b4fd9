//! What listens at a pool's address answers anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| oxistrano_fuzz::fastcgi(input.0, input.1));
