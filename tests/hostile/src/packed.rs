//! Compression: of what is written into it, so that a bomb of gigabytes takes no memory here.

use std::io::{self, Write};

/// What makes a stream.
pub type Inner<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// In gzip.
///
/// # Errors
/// Those of `out`.
pub fn gzip(out: &mut dyn Write, inner: Inner<'_>) -> io::Result<()> {
    let mut packed = flate2::write::GzEncoder::new(out, flate2::Compression::new(1));
    inner(&mut packed)?;
    packed.finish().map(drop)
}

/// In zstd.
///
/// # Errors
/// Those of `out`.
pub fn zstd(out: &mut dyn Write, inner: Inner<'_>) -> io::Result<()> {
    let mut packed = ::zstd::stream::write::Encoder::new(out, 1)?;
    inner(&mut packed)?;
    packed.finish().map(drop)
}

/// In xz.
///
/// # Errors
/// Those of `out`.
pub fn xz(out: &mut dyn Write, inner: Inner<'_>) -> io::Result<()> {
    let mut packed = liblzma::write::XzEncoder::new(out, 0);
    inner(&mut packed)?;
    packed.finish().map(drop)
}

/// In bzip2.
///
/// # Errors
/// Those of `out`.
pub fn bzip2(out: &mut dyn Write, inner: Inner<'_>) -> io::Result<()> {
    let mut packed = ::bzip2::write::BzEncoder::new(out, ::bzip2::Compression::fast());
    inner(&mut packed)?;
    packed.finish().map(drop)
}

/// All four, by the ending of a file's name.
pub const ALL: [(&str, Pack); 4] = [("gz", gzip), ("zst", zstd), ("xz", xz), ("bz2", bzip2)];

/// One of them.
pub type Pack = fn(&mut dyn Write, Inner<'_>) -> io::Result<()>;

/// Compressed in memory.
///
/// # Panics
/// When there is none.
pub fn bytes(pack: Pack, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    pack(&mut out, &|packed| packed.write_all(contents)).expect("memory");
    out
}

/// Zeros.
///
/// # Errors
/// Those of `out`.
pub fn zeros(out: &mut dyn Write, mut count: u64) -> io::Result<()> {
    let block = [0; 64 << 10];
    while count > 0 {
        let part = block.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        out.write_all(&block[..part])?;
        count -= part as u64;
    }
    Ok(())
}
