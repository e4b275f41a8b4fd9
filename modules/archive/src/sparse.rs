//! Owns the maps of sparse files: which parts of a file are in the archive. GNU tar has
//! written four kinds: in the header, and in three versions of PAX records.

use oxistrano_core::Failure;

use crate::header::{BLOCK, Header, number};
use crate::stream::Stream;

/// More parts than this are refused: they would have to be kept in memory.
pub(crate) const MOST_PARTS: usize = 256 * 1024;

/// Where the contents belong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Map {
    /// Offset and length of each part, ascending.
    pub(crate) parts: Vec<(u64, u64)>,
    /// The size of the file with its holes.
    pub(crate) size: u64,
}

impl Map {
    /// Whether the parts are in order, inside the file, and together `stored` bytes.
    pub(crate) fn check(&self, stored: u64) -> Result<(), &'static str> {
        let mut end = 0;
        let mut sum = 0u64;
        for (offset, length) in &self.parts {
            if *offset < end {
                return Err("its sparse map is not in order");
            }
            end = offset.checked_add(*length).ok_or("its sparse map is too large")?;
            sum = sum.checked_add(*length).ok_or("its sparse map is too large")?;
        }
        if end > self.size || i64::try_from(self.size).is_err() {
            return Err("its sparse map reaches beyond its end");
        }
        if sum != stored {
            return Err("its sparse map does not fit its contents");
        }
        Ok(())
    }
}

/// Reads the map of an old GNU header (type `S`), which may go on in further blocks.
pub(crate) fn from_header(header: &Header, stream: &mut Stream<'_>) -> Result<Map, Failure> {
    let mut map = Map::default();
    let nonsense = |stream: &Stream<'_>| stream.bad("its sparse map is damaged");
    map.size = number(&header.0[483..495])
        .and_then(|size| u64::try_from(size).ok())
        .ok_or_else(|| nonsense(stream))?;
    add(&mut map, &header.0[386..482]).ok_or_else(|| nonsense(stream))?;
    let mut more = header.0[482] != 0;
    while more {
        let mut block = [0; BLOCK];
        if !stream.fill(&mut block)? || map.parts.len() > MOST_PARTS {
            return Err(nonsense(stream));
        }
        add(&mut map, &block[..504]).ok_or_else(|| nonsense(stream))?;
        more = block[504] != 0;
    }
    Ok(map)
}

fn add(map: &mut Map, fields: &[u8]) -> Option<()> {
    for field in fields.chunks_exact(24) {
        // An unused place begins with NUL.
        if field[0] == 0 {
            break;
        }
        let offset = u64::try_from(number(&field[..12])?).ok()?;
        let length = u64::try_from(number(&field[12..])?).ok()?;
        map.parts.push((offset, length));
    }
    Some(())
}

/// Reads the map that stands before the contents in PAX version 1.0; takes what it read
/// from `remaining`.
pub(crate) fn from_contents(
    stream: &mut Stream<'_>,
    remaining: &mut u64,
    size: u64,
) -> Result<Map, Failure> {
    let mut digits = Numbers { block: [0; BLOCK], at: BLOCK, remaining };
    let count = digits.next(stream)?;
    if count > MOST_PARTS as u64 {
        return Err(stream.bad("its sparse map has too many parts"));
    }
    let mut map = Map { size, parts: Vec::new() };
    for _ in 0..count {
        let offset = digits.next(stream)?;
        map.parts.push((offset, digits.next(stream)?));
    }
    Ok(map)
}

/// Decimal numbers, one a line, in blocks of their own.
struct Numbers<'r> {
    block: [u8; BLOCK],
    at: usize,
    remaining: &'r mut u64,
}

impl Numbers<'_> {
    fn next(&mut self, stream: &mut Stream<'_>) -> Result<u64, Failure> {
        let mut value = 0u64;
        loop {
            if self.at == BLOCK {
                let left = self.remaining.checked_sub(BLOCK as u64);
                *self.remaining = left.ok_or_else(|| stream.bad("its sparse map is damaged"))?;
                if !stream.fill(&mut self.block)? {
                    return Err(stream.bad("the archive is cut off here"));
                }
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            let next = match byte {
                b'\n' => return Ok(value),
                b'0'..=b'9' => {
                    value.checked_mul(10).and_then(|v| v.checked_add(u64::from(byte - b'0')))
                }
                _ => None,
            };
            value = next.ok_or_else(|| stream.bad("its sparse map is damaged"))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_maps_that_fit_are_accepted() {
        let check = |parts: &[(u64, u64)], size, stored| {
            Map { parts: parts.to_vec(), size }.check(stored).is_ok()
        };
        assert!(check(&[(0, 5), (10, 5), (20, 0)], 20, 10));
        assert!(check(&[], 1 << 40, 0));
        assert!(!check(&[(10, 5), (0, 5)], 20, 10));
        assert!(!check(&[(0, 5), (4, 5)], 20, 10));
        assert!(!check(&[(0, 50)], 20, 50));
        assert!(!check(&[(0, 5)], 20, 6));
        assert!(!check(&[(u64::MAX, 5)], 20, 5));
        assert!(!check(&[], u64::MAX, 0));
    }
}
