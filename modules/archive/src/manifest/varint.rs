//! Owns the encoding of numbers with a variable number of bytes, and the reading of a column.

use std::ffi::CStr;

/// What is wrong with bytes that should be a manifest.
pub(crate) type Wrong = &'static str;

const SHORT: Wrong = "it is cut off";

/// Appends a number: seven bits in each byte, the lowest first.
pub(super) fn push(column: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        column.push(number as u8 | 0x80);
        number >>= 7;
    }
    column.push(number as u8);
}

/// Maps numbers near zero, positive and negative, to small numbers.
pub(super) fn zigzag(number: i64) -> u64 {
    (number.wrapping_shl(1) ^ (number >> 63)) as u64
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// The part of a column that is not read yet.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        self.take(N)?.try_into().map_err(|_| SHORT)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Wrong> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, Wrong> {
        // Most are short.
        if let Some((byte @ ..0x80, rest)) = self.0.split_first() {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number of it is too large")
    }

    /// Reads the bytes before the next NUL, and skips the NUL.
    pub(super) fn text(&mut self) -> Result<&'a [u8], Wrong> {
        // It looks at several bytes at a time.
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| SHORT)?.to_bytes();
        self.take(text.len() + 1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were() {
        for number in [0, 1, -1, 63, 64, -65, i64::MAX, i64::MIN] {
            let mut column = Vec::new();
            push(&mut column, zigzag(number));
            assert_eq!(Reader(&column).number().map(unzigzag), Ok(number));
            column.pop();
            assert!(Reader(&column).number().is_err());
        }
        assert!(Reader(&[0xff; 11]).number().is_err());
    }
}
