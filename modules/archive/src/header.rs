//! Owns the 512-byte header of a tar entry: old v7, ustar and GNU.

use crate::entry::{Owner, Time};

/// Everything in a tar archive comes in blocks of this size.
pub(crate) const BLOCK: usize = 512;

/// A header block.
pub(crate) struct Header(pub(crate) [u8; BLOCK]);

impl Header {
    /// Whether it is the block of zeros that ends an archive.
    pub(crate) fn is_end(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Whether the checksum is right. Some old programs took bytes as signed.
    pub(crate) fn is_valid(&self) -> bool {
        let Some(sum) = octal(&self.0[148..156]) else { return false };
        // The checksum itself counts as blanks.
        let blanks = 8 * i64::from(b' ');
        let unsigned = i64::from(sum_of(&self.0) - sum_of(&self.0[148..156])) + blanks;
        let signed = || {
            let bytes = self.0[..148].iter().chain(&self.0[156..]);
            bytes.map(|byte| i64::from(*byte as i8)).sum::<i64>() + blanks
        };
        // A block of zeros has no checksum.
        sum != 0 && (sum == unsigned || sum == signed())
    }

    /// The letter that says what the entry is.
    pub(crate) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    /// GNU's own format, in which the prefix field means something else.
    pub(crate) fn is_gnu(&self) -> bool {
        &self.0[257..265] == b"ustar  \0"
    }

    fn is_ustar(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    /// The name, with ustar's prefix before it.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = if self.is_ustar() { text(&self.0[345..500]) } else { b"" };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// Where a link points.
    pub(crate) fn link_name(&self) -> &[u8] {
        text(&self.0[157..257])
    }

    /// Permissions.
    pub(crate) fn mode(&self) -> u32 {
        number(&self.0[100..108]).map_or(0, |mode| (mode & 0o7777) as u32)
    }

    /// The bytes that follow; `None` if the field is nonsense.
    pub(crate) fn size(&self) -> Option<u64> {
        number(&self.0[124..136]).and_then(|size| u64::try_from(size).ok())
    }

    /// Time of modification.
    pub(crate) fn mtime(&self) -> Option<Time> {
        number(&self.0[136..148]).map(|seconds| Time { seconds, nanoseconds: 0 })
    }

    /// Owner and group; what cannot be a number of a user counts as root's.
    pub(crate) fn owner(&self) -> Owner {
        let id = |field: &[u8]| {
            number(field).and_then(|id| u32::try_from(id).ok()).filter(is_id).unwrap_or_default()
        };
        let named = self.is_gnu() || self.is_ustar();
        let name = |field: &[u8]| if named { text(field).to_vec() } else { Vec::new() };
        Owner {
            uid: id(&self.0[108..116]),
            gid: id(&self.0[116..124]),
            user: name(&self.0[265..297]),
            group: name(&self.0[297..329]),
        }
    }
}

/// The sum of the bytes of at most a block, in pieces of eight.
fn sum_of(bytes: &[u8]) -> u32 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let (pieces, rest) = bytes.as_chunks();
    // Four sums at once, of at most 64 times two bytes.
    let sums = pieces.iter().fold(0, |sums, piece| {
        let piece = u64::from_ne_bytes(*piece);
        sums + (piece & EVEN) + (piece >> 8 & EVEN)
    });
    let parts = [sums, sums >> 16, sums >> 32, sums >> 48];
    let rest = rest.iter().map(|byte| u64::from(*byte));
    parts.iter().map(|sum| sum & 0xffff).chain(rest).sum::<u64>() as u32
}

/// -1 is nobody's number: to chown it says that the owner stays.
pub(crate) fn is_id(id: &u32) -> bool {
    *id != u32::MAX
}

/// A field up to its NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// A number: octal digits, or binary when the first bit is set. Blank is 0.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    // Two's complement, the first bit being the mark and the second the sign.
    let sign = if first & 0x40 == 0 { 0 } else { -1 };
    let start = if sign == 0 { i128::from(first & 0x3f) } else { i128::from(first as i8) };
    let value = field[1..].iter().try_fold(start, |value, byte| {
        value.checked_mul(256).map(|value| value | i128::from(*byte))
    })?;
    i64::try_from(value).ok()
}

fn octal(field: &[u8]) -> Option<i64> {
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_added_up() {
        assert_eq!(sum_of(&[0xff; BLOCK]), 0xff * 512);
        assert_eq!(sum_of(&[0xff; 8]), 0xff * 8);
        assert_eq!(sum_of(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), 45);
        assert_eq!(sum_of(&[]), 0);
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"        "), Some(0));
        assert_eq!(number(b"77777777777\0"), Some(0o77_777_777_777));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(1 << 33));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"12x4567\0"), None);
        assert_eq!(number(b""), None);
    }
}
