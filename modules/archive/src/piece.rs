//! Owns parts of bytes that several owners share, for example the columns of a manifest that was read
//! in one piece.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// A part of shared bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Piece {
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Piece {
    /// A part of this part; `None` if it is not that long.
    pub(crate) fn part(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start;
        let range = start + range.start..start + range.end;
        Some(Self { bytes: Arc::clone(&self.bytes), range })
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { bytes: Arc::new(bytes), range }
    }
}

impl Deref for Piece {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_part_has_its_bytes() {
        let whole = Piece::from(b"0123456789".to_vec());
        let part = whole.part(2..8).unwrap();
        assert_eq!(*part, *b"234567");
        assert_eq!(*part.part(1..3).unwrap(), *b"34");
        assert!(part.part(3..7).is_none() && part.part(0..6).is_some());
    }
}
