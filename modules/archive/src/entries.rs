//! Owns the entries of an archive of any format: the thread that reads the file ahead, and the
//! reader that parses what it sends.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;

use oxistrano_core::{Failure, IoContext};

use crate::built::BuiltReader;
use crate::entry::Entry;
use crate::file::ArchiveFile;
use crate::format::Format;
use crate::options::UnpackOptions;
use crate::stream::{Body, Feed, Stream};
use crate::tar_reader::TarReader;
use crate::zip_reader::{self, ZipReader};

/// What the thread that reads has found out.
pub(crate) type Reader<'scope> = thread::ScopedJoinHandle<'scope, io::Result<Option<String>>>;

/// Starts the thread that reads.
pub(crate) fn read_ahead<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    file: &'env File,
    path: &Path,
    format: Format,
    options: &'env UnpackOptions,
    feed: Feed,
) -> Result<Reader<'scope>, Failure> {
    thread::Builder::new()
        .spawn_scoped(scope, move || produce(file, format, options, feed))
        .or_fail("start a thread to read", path)
}

/// The reading thread: sends the tar stream, or the parts of a zip.
fn produce(
    file: &File,
    format: Format,
    options: &UnpackOptions,
    mut feed: Feed,
) -> io::Result<Option<String>> {
    let hashing = options.checksum && format != Format::Zip;
    let mut input = if hashing { ArchiveFile::hashing(file) } else { ArchiveFile::new(file) };
    let result = if format == Format::Zip {
        zip_reader::feed(file, &options.exclude, &mut feed)
    } else {
        let mut take = |mut tar: &mut dyn io::Read| feed.take_from(&mut tar).map(|_| true);
        format.decompress(&mut input, &options.limits, &mut take)
    };
    let fine = result.is_ok();
    feed.finish(result);
    if !fine {
        return Ok(None);
    }
    if options.checksum && format == Format::Zip {
        // A zip is not read in order, so its checksum needs a second read, from the cache.
        input = ArchiveFile::hashing(file);
    }
    input.finish_hash()
}

/// The entries of an archive, or of a release that is built from parts.
pub(crate) enum Entries<'a> {
    Tar(Box<TarReader<'a>>),
    Zip(ZipReader<'a>),
    Built(Box<BuiltReader<'a>>),
}

impl<'a> Entries<'a> {
    pub(crate) fn new(stream: Stream<'a>, format: Format) -> Self {
        match format {
            Format::Zip => Entries::Zip(ZipReader::new(stream)),
            format => Entries::Tar(Box::new(TarReader::new(stream, format != Format::Tar))),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Failure> {
        match self {
            Entries::Tar(tar) => tar.next(),
            Entries::Zip(zip) => zip.next(),
            Entries::Built(built) => built.next(),
        }
    }

    pub(crate) fn body(&mut self) -> Body<'_, 'a> {
        match self {
            Entries::Tar(tar) => tar.body(),
            Entries::Zip(zip) => zip.body(),
            Entries::Built(built) => built.body(),
        }
    }
}
