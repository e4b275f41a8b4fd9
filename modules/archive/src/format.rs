//! Owns the formats: telling them apart by what is in the file, and undoing the
//! compression.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

use oxistrano_core::Failure;

use crate::failures;
use crate::file::ArchiveFile;
use crate::header::{Header, BLOCK};
use crate::Limits;

/// What can be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// tar, not compressed
    Tar,
    /// tar in gzip
    TarGz,
    /// tar in zstd
    TarZst,
    /// tar in xz
    TarXz,
    /// tar in bzip2
    TarBz2,
    /// zip
    Zip,
}

/// For messages.
const SUPPORTED: &str = "tar, tar.gz, tar.zst, tar.xz, tar.bz2 and zip";

impl Format {
    /// The usual ending of a file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Tar => "tar",
            Format::TarGz => "tar.gz",
            Format::TarZst => "tar.zst",
            Format::TarXz => "tar.xz",
            Format::TarBz2 => "tar.bz2",
            Format::Zip => "zip",
        }
    }

    /// By the first bytes of the file; `None` for what can only be a plain tar.
    fn by_magic(start: &[u8]) -> Option<Self> {
        Some(match start {
            [0x1f, 0x8b, ..] => Format::TarGz,
            // The second is a skippable frame, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::TarZst,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::TarXz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Format::TarBz2,
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] | [b'P', b'K', 7, 8, ..] => Format::Zip,
            _ => return None,
        })
    }

    /// A reader of the tar inside.
    pub(crate) fn decompress<'f>(
        self,
        file: &'f mut ArchiveFile<'_>,
        limits: &Limits,
    ) -> io::Result<Box<dyn Read + 'f>> {
        Ok(match self {
            Format::Tar | Format::Zip => Box::new(file),
            Format::TarGz => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Format::TarZst => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
                decoder.window_log_max(limits.window.max(1).ilog2().clamp(10, 31))?;
                Box::new(decoder)
            }
            Format::TarXz => {
                use liblzma::stream::{Stream, CONCATENATED};
                let stream = Stream::new_stream_decoder(limits.window, CONCATENATED)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
            }
            Format::TarBz2 => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
        })
    }
}

/// Says what a file is by what is in it, whatever its name; in what is compressed there
/// must be a tar. The file's own position stays.
///
/// # Errors
/// `unknown_format`, `empty_archive` for a file without a byte, `bad_archive` when not
/// even the beginning can be decompressed.
pub fn format_of(file: &File, path: &Path) -> Result<Format, Failure> {
    format_within(file, path, &Limits::default())
}

pub(crate) fn format_within(file: &File, path: &Path, limits: &Limits) -> Result<Format, Failure> {
    let mut input = ArchiveFile::new(file);
    let start = input.fill_buf().map_err(|error| failures::unreadable(path, b"", error))?;
    if start.is_empty() {
        return Err(failures::empty(path, "the file has no bytes", "transfer it again"));
    }
    let format = Format::by_magic(start).unwrap_or(Format::Tar);
    if format == Format::Zip {
        return Ok(format);
    }
    let mut beginning = Vec::with_capacity(BLOCK);
    format
        .decompress(&mut input, limits)
        .and_then(|tar| tar.take(BLOCK as u64).read_to_end(&mut beginning))
        .map_err(|error| failures::unreadable(path, b"", error))?;
    match beginning.try_into().map(Header) {
        Ok(header) if header.is_valid() || header.is_end() => Ok(format),
        _ => Err(unknown(format, path)),
    }
}

fn unknown(format: Format, path: &Path) -> Failure {
    let cause = match format.name().strip_prefix("tar.") {
        Some(compression) => format!("it is compressed ({compression}), but no tar is inside"),
        None => "it is neither a tar nor a zip archive".to_owned(),
    };
    let what = format!("cannot unpack {}", failures::show(path.as_os_str().as_encoded_bytes()));
    Failure::new("unknown_format", what)
        .cause(cause)
        .remedy(format!("make one of {SUPPORTED}; the name of the file does not matter"))
        .path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart_by_their_first_bytes() {
        for (start, format) in [
            (&b"\x1f\x8b\x08"[..], Some(Format::TarGz)),
            (b"\x28\xb5\x2f\xfd\0", Some(Format::TarZst)),
            (b"\x5a\x2a\x4d\x18\0", Some(Format::TarZst)),
            (b"\xfd7zXZ\0", Some(Format::TarXz)),
            (b"BZh91AY", Some(Format::TarBz2)),
            (b"BZhello", None),
            (b"PK\x03\x04", Some(Format::Zip)),
            (b"PK\x05\x06", Some(Format::Zip)),
            (b"PKware", None),
            (b"\x1f", None),
        ] {
            assert_eq!(Format::by_magic(start), format, "{start:?}");
        }
    }
}
