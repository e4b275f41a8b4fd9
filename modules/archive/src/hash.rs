//! The hash of contents, and how it is written.

use std::fmt::Write;

/// The SHA-256 of a file's contents.
pub(crate) type Hash = [u8; 32];

/// In lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hash with these digits.
pub(crate) fn binary(digits: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(bytes)
}
