//! The formats: recognises them by the content of the file, and decompresses.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

use oxistrano_core::Failure;

use crate::failures;
use crate::file::ArchiveFile;
use crate::header::{BLOCK, Header};
use crate::limits::Limits;
use crate::zip_reader;

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

    /// All of them, in an order that stays: manifests have their numbers.
    const ALL: [Self; 6] =
        [Self::Tar, Self::TarGz, Self::TarZst, Self::TarXz, Self::TarBz2, Self::Zip];

    /// In a manifest.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn by_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
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

    /// Gives `take` the tar inside, stream after stream, until that has enough (`false`) or none
    /// is left. Zeros up to the end of the file are padding.
    pub(crate) fn decompress(
        self,
        file: &mut ArchiveFile<'_>,
        limits: &Limits,
        take: &mut dyn FnMut(&mut dyn Read) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut context = None;
        loop {
            let more = match self {
                Format::Tar | Format::Zip => return take(file).map(drop),
                Format::TarXz => {
                    use liblzma::stream::{CONCATENATED, Stream};
                    // Its streams end with a letter.
                    file.end_before_zeros()?;
                    let stream = Stream::new_stream_decoder(limits.window, CONCATENATED)?;
                    let mut decoder = liblzma::bufread::XzDecoder::new_stream(file, stream);
                    return take(&mut decoder).map(drop);
                }
                Format::TarGz => take(&mut flate2::bufread::GzDecoder::new(&mut *file))?,
                Format::TarBz2 => take(&mut bzip2::bufread::BzDecoder::new(&mut *file))?,
                Format::TarZst => {
                    let context = context.get_or_insert_with(zstd::zstd_safe::DCtx::create);
                    let mut decoder =
                        zstd::stream::read::Decoder::with_context(&mut *file, context)
                            .single_frame();
                    decoder.window_log_max(limits.window.max(1).ilog2().clamp(10, 31))?;
                    take(&mut decoder)?
                }
            };
            if !more || file.has_only_zeros_left()? {
                return Ok(());
            }
        }
    }
}

/// Unsupported formats, for messages.
fn foreign(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [b'L', b'Z', b'I', b'P', ..] => "compressed by lzip",
        [0x5d, 0, 0, ..] => "compressed by lzma",
        [0x1f, 0x9d, ..] => "compressed by compress (.Z)",
        [4, 0x22, 0x4d, 0x18, ..] => "compressed by lz4",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z archive",
        [b'R', b'a', b'r', b'!', ..] => "a rar archive",
        _ => return None,
    })
}

/// Recognises the format of a file by its content; a compressed file must contain a tar. The file's
/// position does not change.
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
    let foreign = match zip_reader::is_behind_program(file, start) {
        true => Some("a self-extracting zip"),
        false => foreign(start),
    };
    let format = Format::by_magic(start).unwrap_or(Format::Tar);
    if format == Format::Zip {
        return Ok(format);
    }
    let mut beginning = Vec::with_capacity(BLOCK);
    let mut take = |tar: &mut dyn Read| {
        let missing = BLOCK - beginning.len();
        tar.take(missing as u64).read_to_end(&mut beginning)?;
        Ok(beginning.len() < BLOCK)
    };
    format
        .decompress(&mut input, limits, &mut take)
        .map_err(|error| failures::unreadable(path, b"", error))?;
    match beginning.try_into().map(Header) {
        Ok(header) if header.is_valid() || header.is_end() => Ok(format),
        _ => Err(unknown(format, foreign, path)),
    }
}

fn unknown(format: Format, foreign: Option<&str>, path: &Path) -> Failure {
    let cause = match (format.name().strip_prefix("tar."), foreign) {
        (Some(compression), _) => {
            format!("it is compressed ({compression}), but does not contain a tar")
        }
        (None, Some(what)) => format!("it is {what}, which is not supported"),
        (None, None) => "it is neither a tar nor a zip archive".to_owned(),
    };
    let what = format!("cannot unpack {}", failures::show(path.as_os_str().as_encoded_bytes()));
    Failure::new("unknown_format", what)
        .cause(cause)
        .remedy(format!("create one of {SUPPORTED}; the file name does not matter"))
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
