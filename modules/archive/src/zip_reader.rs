//! Owns the reading of a zip archive. Its entries can be anywhere in the file, so one
//! thread looks them up, decompresses them and sends them on, each behind a small record
//! of what the central directory says about it; the other end reads that like a tar.

use std::fs::File;
use std::io::{self, Read};

use oxistrano_core::{Failure, clock};
use zip::extra_fields::ExtraField;
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, System, ZipReadOptions};

use crate::entry::{Entry, Kind, Time};
use crate::failures;
use crate::file::ArchiveFile;
use crate::pattern::Pattern;
use crate::stream::{Body, Feed, Stream};

const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// No path can be longer.
const LONGEST_TARGET: u64 = 4095;

/// Why an entry has no contents behind its record.
const FINE: u8 = 0;
const ENCRYPTED: u8 = 1;
const METHOD: u8 = 2;
const BROKEN: u8 = 3;

/// What goes before an entry's contents.
struct Record {
    problem: u8,
    mode: u32,
    size: u64,
    /// `i64::MIN` when it is not known.
    mtime: i64,
    name: Vec<u8>,
}

/// Whether the list of a zip's entries is at the end of a file, behind a program that unpacks it.
pub(crate) fn is_behind_program(file: &File, start: &[u8]) -> bool {
    let is_program = [&b"#!"[..], b"MZ", b"\x7fELF"].iter().any(|magic| start.starts_with(magic));
    is_program && ZipIterable::try_new(ArchiveFile::new(file), Default::default()).is_ok()
}

impl Record {
    const LENGTH: usize = 1 + 4 + 8 + 8 + 4;

    fn send(&self, feed: &mut Feed) -> io::Result<()> {
        let length = u32::try_from(self.name.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(Self::LENGTH + self.name.len());
        bytes.push(self.problem);
        bytes.extend(self.mode.to_le_bytes());
        bytes.extend(self.size.to_le_bytes());
        bytes.extend(self.mtime.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(&self.name);
        feed.take_from(&mut bytes.as_slice()).map(drop)
    }

    fn receive(stream: &mut Stream<'_>) -> Result<Option<Self>, Failure> {
        let mut bytes = [0; Self::LENGTH];
        if !stream.fill(&mut bytes)? {
            return Ok(None);
        }
        fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
            std::array::from_fn(|n| bytes[at + n])
        }
        let mut name = vec![0; u32::from_le_bytes(field(&bytes, 21)) as usize];
        stream.fill(&mut name)?;
        Ok(Some(Self {
            problem: bytes[0],
            mode: u32::from_le_bytes(field(&bytes, 1)),
            size: u64::from_le_bytes(field(&bytes, 5)),
            mtime: i64::from_le_bytes(field(&bytes, 13)),
            name,
        }))
    }
}

/// Sends every entry; the contents of what is excluded stay where they are.
pub(crate) fn feed(file: &File, exclude: &[Pattern], feed: &mut Feed) -> io::Result<()> {
    // Not `ZipArchive`: it keeps an index of all entries, and only one of each name.
    let mut archive =
        ZipIterable::try_new(ArchiveFile::new(file), Default::default()).map_err(plain)?;
    let mut bodies = ArchiveFile::new(file);
    let now = clock::now();
    for entry in archive.files().map_err(plain)? {
        let entry = entry.map_err(plain)?;
        // The upper half is what `stat` said where the archive was made.
        let attributes = entry.external_attributes() >> 16;
        let mut record = Record {
            problem: FINE,
            mode: mode(attributes, entry.name_raw().ends_with(b"/")),
            size: entry.size(),
            mtime: i64::MIN,
            name: name(entry.name_raw(), entry.system(), || {
                entry.name().map(|name| name.into_owned())
            }),
        };
        let excluded = exclude.iter().any(|pattern| pattern.matches(&record.name));
        let has_contents = matches!(record.mode & TYPE, REGULAR | SYMLINK) && !excluded;
        if !has_contents {
            record.size = 0;
        } else if entry.encrypted() {
            record.problem = ENCRYPTED;
        } else if !matches!(
            entry.compression(),
            CompressionMethod::Stored | CompressionMethod::Deflated
        ) {
            // Its number stands for its name.
            record.problem = METHOD;
            record.mtime = match entry.compression() {
                CompressionMethod::DEFLATE64 => 9,
                CompressionMethod::BZIP2 => 12,
                CompressionMethod::LZMA => 14,
                CompressionMethod::ZSTD => 93,
                _ => 0,
            };
        }
        if excluded || record.problem != FINE {
            record.send(feed)?;
            continue;
        }
        let dos_time = entry.last_modified();
        let mut contents = match entry.with_reader(&mut bodies, ZipReadOptions::new()) {
            Ok(contents) => contents,
            Err(error) => {
                record.problem = BROKEN;
                record.send(feed)?;
                return Err(plain(error));
            }
        };
        let extended = contents.extra_data_fields().find_map(|field| match field {
            ExtraField::ExtendedTimestamp(times) => times.mod_time(),
            _ => None,
        });
        // 32 bits with a sign, so that times before 1970 can be told.
        let extended = extended.map(|seconds| i64::from(seconds as i32));
        record.mtime =
            extended.or_else(|| dos_time.map(utc).map(|time| time.min(now))).unwrap_or(i64::MIN);
        record.send(feed)?;
        if record.size > 0 && feed.take_from(&mut (&mut contents).take(record.size))? != record.size
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Only the read that finds the end compares the checksum, and there must be one.
        if has_contents && contents.read(&mut [0])? != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it has more contents than \
                announced",
            ));
        }
    }
    Ok(())
}

/// Type and permissions: what the archive says, or what is usual.
fn mode(attributes: u32, is_dir: bool) -> u32 {
    let kind = if is_dir { DIRECTORY } else { REGULAR };
    let usual = if is_dir { 0o755 } else { 0o644 };
    match (attributes & TYPE, attributes & 0o777) {
        (0, 0) => kind | usual,
        (0, mode) => kind | mode,
        // The name decides: a file `a/` cannot be made, a directory `a` is one all the same.
        (REGULAR, mode) => kind | mode,
        (kind, mode) => kind | mode,
    }
}

/// Unix programs write names as the file system has them; only DOS has a code page.
fn name<E>(raw: &[u8], system: System, decoded: impl Fn() -> Result<String, E>) -> Vec<u8> {
    if system == System::Unix || std::str::from_utf8(raw).is_ok() {
        return raw.to_vec();
    }
    decoded().map_or_else(|_| raw.to_vec(), String::into_bytes)
}

/// DOS time is local time of an unknown place; it is taken as UTC. East of Greenwich that may be
/// later than now.
fn utc(time: zip::DateTime) -> i64 {
    let (year, month) = (i64::from(time.year()), i64::from(time.month()));
    // Days from civil, by Howard Hinnant; the year begins in March.
    let shifted = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(time.day()) - 1;
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
    days * 86_400
        + i64::from(time.hour()) * 3600
        + i64::from(time.minute()) * 60
        + i64::from(time.second())
}

fn plain(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

/// Entries of a zip archive, in the order of its central directory.
pub(crate) struct ZipReader<'a> {
    stream: Stream<'a>,
    remaining: u64,
}

impl<'a> ZipReader<'a> {
    /// Reads what [`feed`] sends.
    pub(crate) fn new(stream: Stream<'a>) -> Self {
        Self { stream, remaining: 0 }
    }

    /// The next entry; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Failure> {
        let rest = std::mem::take(&mut self.remaining);
        self.stream.skip(rest)?;
        let Some(record) = Record::receive(&mut self.stream)? else {
            return Ok(None);
        };
        let archive = self.stream.archive();
        self.stream.enter(&record.name);
        match record.problem {
            ENCRYPTED => {
                return Err(failures::bad(archive, &record.name, "it is encrypted")
                    .remedy("create the archive without a password"));
            }
            METHOD => {
                let method = match record.mtime {
                    9 => "Deflate64",
                    12 => "bzip2",
                    14 => "LZMA",
                    93 => "zstd",
                    _ => "an unusual one",
                };
                let cause = format!("its compression is not supported in a zip ({method})");
                return Err(failures::bad(archive, &record.name, cause)
                    .remedy("create the archive with the usual one (deflate)"));
            }
            BROKEN => self.stream.drain()?,
            _ => {}
        }
        if record.name.contains(&b'\\') {
            return Err(failures::unsafe_entry(
                archive,
                &record.name,
                "its name contains a backslash",
            )
            .remedy("create the archive with a program that separates directories by '/'"));
        }
        self.remaining = record.size;
        let kind = match record.mode & TYPE {
            DIRECTORY => Kind::Directory,
            REGULAR => Kind::File(None),
            SYMLINK if record.size > LONGEST_TARGET => {
                return Err(self.stream.bad("the target of the link is too long"));
            }
            SYMLINK => Kind::Symlink(self.body().read_all()?),
            0o010_000 => Kind::Special("a FIFO"),
            0o020_000 => Kind::Special("a character device"),
            0o060_000 => Kind::Special("a block device"),
            0o140_000 => Kind::Special("a socket"),
            _ => Kind::Special("of an unknown type"),
        };
        let mtime = Some(record.mtime)
            .filter(|mtime| *mtime != i64::MIN)
            .map(|seconds| Time { seconds, nanoseconds: 0 });
        Ok(Some(Entry { name: record.name, kind, mode: record.mode & 0o777, mtime, owner: None }))
    }

    /// The contents of the entry that `next` returned.
    pub(crate) fn body(&mut self) -> Body<'_, 'a> {
        Body::of_stream(&mut self.stream, &mut self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dos_times_are_taken_as_utc() {
        for (year, month, day, expected) in [
            (1980, 1, 1, 315_532_800 + 3722),
            (2000, 2, 29, 951_782_400 + 3722),
            (2026, 12, 31, 1_798_675_200 + 3722),
        ] {
            let time = zip::DateTime::from_date_and_time(year, month, day, 1, 2, 2).unwrap();
            assert_eq!(utc(time), expected);
        }
    }

    #[test]
    fn modes_are_what_the_archive_says_or_what_is_usual() {
        assert_eq!(mode(0, false), REGULAR | 0o644);
        assert_eq!(mode(0, true), DIRECTORY | 0o755);
        assert_eq!(mode(0o100_755, false), REGULAR | 0o755);
        assert_eq!(mode(0o040_700, false), DIRECTORY | 0o700);
        assert_eq!(mode(0o120_777, false), SYMLINK | 0o777);
    }

    #[test]
    fn names_of_dos_are_translated() {
        let name = |raw: &[u8], system| name(raw, system, || Ok::<_, ()>("é".to_owned()));
        assert_eq!(name(b"\x82", System::Dos), "é".as_bytes());
        assert_eq!(name(b"\x82", System::Unix), b"\x82");
        assert_eq!(name("ü".as_bytes(), System::Dos), "ü".as_bytes());
    }
}
