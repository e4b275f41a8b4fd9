//! What listens at a pool's address answers anything, in pieces of any length.
#![no_main]

use oxistrano_fastcgi::{Decoder, Response};

/// Bytes of answer that are accepted.
const LIMIT: usize = 4096;
const STDERR: usize = 64 << 10;

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let mut whole = Decoder::new(LIMIT);
    let wholly = whole.push(bytes);
    let mut pieces = Decoder::new(LIMIT);
    let piecemeal =
        bytes.chunks(usize::from(piece).max(1)).try_for_each(|piece| pieces.push(piece));
    assert_eq!(wholly, piecemeal);
    if wholly.is_ok() {
        assert_eq!(whole.end(), pieces.end());
        let (stdout, stderr) = whole.into_streams();
        assert!(stdout.len() <= LIMIT && stderr.len() <= STDERR);
        assert_eq!((&stdout, &stderr), { (&pieces.into_streams().0, &stderr) });
        if let Ok(response) = Response::new(stdout.clone(), &stderr) {
            assert!((100..1000).contains(&response.status) && stdout.ends_with(&response.body));
        }
    }
});
