//! Owns the reading of the maps of sparse files. GNU tar has written four kinds: in the header, and
//! in three versions of PAX records.

use oxistrano_core::Failure;

use crate::entry::Map;
use crate::header::{BLOCK, Header, number};
use crate::stream::Stream;

/// More parts than this are refused: they would have to be kept in memory.
pub(crate) const MOST_PARTS: usize = 256 * 1024;

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
                    return Err(stream.bad("the archive is truncated here"));
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
