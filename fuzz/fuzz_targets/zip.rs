//! A zip: anything that begins as one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"PK") {
        oxistrano_fuzz::attack(bytes);
    }
});
