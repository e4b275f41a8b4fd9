//! What a command of Magento printed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u8, bool, &[u8])| {
    oxistrano_fuzz::magento(input.0, input.1, input.2);
});
