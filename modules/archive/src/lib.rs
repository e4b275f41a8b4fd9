//! Unpacks an archive below an open directory, in one pass, without any other program.
//!
//! tar (v7, ustar, GNU, PAX; plain or in gzip, zstd, xz or bzip2) and zip. One thread reads and
//! decompresses the file, and computes its checksum on the way; another reads entries from that
//! stream and writes them, with the help of a crew for small files. Memory does not grow with the
//! archive, except for the decompressor's window.
//!
//! An archive is not trusted, and this process may be root: nothing is written outside the
//! directory, no link is followed, no device is made. See [`unpack`] for what is refused.
//!
//! The parts: [`format`](format_of) recognises archives and decompresses, the stream passes bytes
//! from one thread to the other, the readers parse entries, the selection decides what to do with
//! an entry, and a sink writes it or, in check mode, only checks it.

mod attributes;
mod batch;
mod built;
mod bundle;
mod crew;
mod directories;
mod earlier;
mod entry;
mod failures;
mod file;
mod format;
mod header;
mod identity;
mod index;
mod limits;
mod look;
mod manifest;
mod notes;
mod numbers;
mod paths;
mod pattern;
mod pax;
mod pending;
mod piece;
mod place;
mod plan;
mod recorded;
mod remains;
mod replica;
mod rows;
mod select;
mod spare;
mod sparse;
mod stream;
mod survey;
mod tar_reader;
mod twins;
mod writer;
mod zip_reader;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use oxistrano_core::dir::has_attributes;
use oxistrano_core::{Dir, Failure, IoContext, Mode, interrupt};
use oxistrano_tree::Files;

use built::BuiltReader;
use entry::{Entry, Kind};
use file::ArchiveFile;
use limits::Ceiling;
use manifest::Encoder;
use notes::Note;
use plan::{Known, Quiet};
use select::{Item, ItemKind, Selection, Top};
use spare::Stock;
use stream::{Body, Feed, Stream};
use tar_reader::TarReader;
use zip_reader::ZipReader;

pub use bundle::{Message, Packed, Packing, pack};
pub use earlier::{Earlier, Unchanged};
pub use file::sha256;
pub use format::{Format, format_of};
pub use index::{Index, Noted};
pub use limits::Limits;
pub use manifest::{MOST_BYTES as MOST_BYTES_OF_MANIFEST, Manifest};
pub use numbers::Numbers;
pub use pattern::Pattern;
pub use plan::{Indexed, Plan};
pub use spare::Spare;

/// How to unpack. The default writes everything as the user of this process, with the
/// permissions of the archive.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// Owner of everything that is unpacked.
    pub owner: Option<u32>,
    /// Group of everything that is unpacked.
    pub group: Option<u32>,
    /// Changes the permissions of files; applied last.
    pub mode: Option<Mode>,
    /// Changes the permissions of directories, also of those that the archive does not
    /// mention; applied last.
    pub directory_mode: Option<Mode>,
    /// The number of leading components to remove from each path, counted as in GNU tar: `./a/b`
    /// has three. Entries without further components are left out.
    pub strip_components: u32,
    /// Entries to leave out, even if they would be refused. Matched against the name in the archive.
    pub exclude: Vec<Pattern>,
    /// Keep owner and group of the archive, by name if this host knows it, else by number, as GNU
    /// tar does for root. A zip has no owners.
    pub preserve_owner: bool,
    /// With `preserve_owner`, also keep setuid and setgid bits of files: this trusts the creator of
    /// the archive with the rights of every owner in it. Setgid of directories only passes on a
    /// group, and is always kept.
    pub set_id: bool,
    /// Apply the umask, and drop setuid, setgid and sticky bits, as GNU tar does for users other
    /// than root.
    pub apply_umask: bool,
    /// Whether to compute the checksum of the archive file on the way.
    pub checksum: bool,
    /// The limits.
    pub limits: Limits,
}

/// What was unpacked, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `tar`, `tar.gz`, `tar.zst`, `tar.xz`, `tar.bz2` or `zip`
    pub format: &'static str,
    /// Entries that are files.
    pub files: u64,
    /// Entries that are directories.
    pub directories: u64,
    /// Entries that are symbolic or hard links.
    pub links: u64,
    /// The total size of the files, including holes.
    pub bytes: u64,
    /// The number of files that are shared with the earlier release.
    pub shared_files: u64,
    /// Their total size.
    pub shared_bytes: u64,
    /// The number of files that existed before and stayed.
    pub kept_files: u64,
    /// Their total size.
    pub kept_bytes: u64,
    /// SHA-256 of the archive file, in hexadecimal, if it was asked for.
    pub sha256: Option<String>,
}

/// Where chosen entries go.
trait Sink {
    /// Writes an item; the rest of its contents is skipped.
    fn write(&mut self, item: &Item, body: &mut Body<'_, '_>) -> Result<(), Failure>;
    /// Notes a file that is left out.
    fn note(&mut self, _: Note) {}
    /// The number of directories that were made without an entry.
    fn unmentioned(&self) -> u64;
    /// Called after the last entry; `top` is the entry of the directory itself. Returns the number
    /// of files that are shared with an earlier release and of those that stayed, each with their
    /// bytes.
    fn finish(&mut self, top: Option<&Top>) -> Result<[(u64, u64); 2], Failure>;
}

/// Reports what `unpack` would do, and fails if it would fail: reads the whole archive and writes
/// nothing.
///
/// # Errors
/// As [`unpack`], except for errors that occur only during writing.
pub fn list(file: &File, path: &Path, options: &UnpackOptions) -> Result<Summary, Failure> {
    run(file, path, options, umask(), &mut survey::Survey::new(path, None), &mut Noting::Nothing)
}

/// The same, with the digests of the contents.
///
/// # Errors
/// As [`list`].
pub fn list_contents(
    file: &File,
    path: &Path,
    options: &UnpackOptions,
) -> Result<(Summary, Files), Failure> {
    let mut survey = survey::Survey::new(path, Some(Files::default()));
    let summary = run(file, path, options, umask(), &mut survey, &mut Noting::Nothing)?;
    Ok((summary, survey.files.unwrap_or_default()))
}

/// Unpacks the archive `file`, which was found at `path`, below `into`, which should be empty:
/// existing entries may be replaced. The file is read from its beginning.
///
/// Kept are permissions, times of modification, links, holes, and owners if wanted. If several
/// entries have the same name, the last one counts; an existing directory stays. While root creates
/// files for another user, only the owner may enter `into`.
///
/// # Errors
/// In each case, a part may have been written and should be removed.
///
/// * `unknown_format`: neither tar nor zip.
/// * `empty_archive`: there is nothing to write.
/// * `bad_archive`: truncated, damaged, or with an unsupported feature.
/// * `unsafe_entry`: an absolute name, one with `..` or a NUL byte, an entry below a symbolic
///   link, a hard link to outside, a device, a FIFO, a socket, in a zip a backslash, a name
///   too long or too deep.
/// * `too_large`: more than [`Limits`] allows.
/// * `io`, `interrupted`.
pub fn unpack(
    file: &File,
    path: &Path,
    into: &Dir,
    options: &UnpackOptions,
) -> Result<Summary, Failure> {
    unpack_sharing(file, path, into, options, None)
}

/// The same, but files that are the same in `earlier` (contents, owner and permissions, under the
/// same path) are shared with it if the file system supports that. Hard links have the earlier
/// file's time.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_sharing(
    file: &File,
    path: &Path,
    into: &Dir,
    options: &UnpackOptions,
    earlier: Option<Earlier>,
) -> Result<Summary, Failure> {
    let stock = Stock { earlier, ..Stock::default() };
    write(file, path, into, options, stock, false).map(|(summary, _)| summary)
}

/// The same as [`unpack`], but `into` is a tree that was unpacked before and may have been changed:
/// files that match the archive stay, everything else is removed. `into` itself must have the
/// metadata of a new directory.
///
/// # Errors
/// As [`unpack`]; and `strange_spare` if this tree cannot be used.
pub fn unpack_onto(
    file: &File,
    path: &Path,
    into: &Dir,
    options: &UnpackOptions,
    spare: Spare,
) -> Result<Summary, Failure> {
    unpack_noting(file, path, into, options, Some(spare)).map(|(summary, _)| summary)
}

/// Unpacks as [`unpack`], or with a spare as [`unpack_onto`]. Also returns the content of an index,
/// which tells later which files were changed; `None` if the archive cannot have a manifest.
///
/// # Errors
/// As these.
pub fn unpack_noting(
    file: &File,
    path: &Path,
    into: &Dir,
    options: &UnpackOptions,
    spare: Option<Spare>,
) -> Result<(Summary, Option<Noted>), Failure> {
    write(file, path, into, options, Stock { spare, ..Stock::default() }, true)
}

fn write(
    file: &File,
    path: &Path,
    into: &Dir,
    options: &UnpackOptions,
    stock: Stock,
    noting: bool,
) -> Result<(Summary, Option<Noted>), Failure> {
    let umask = umask();
    // An index does not record extended attributes, so none is made if new files get some here.
    let mut noting = match noting && !has_attributes(into) {
        true => Noting::Archive(None),
        false => Noting::Nothing,
    };
    let mut writer = writer::Writer::new(into, path, umask, options, stock)?;
    let summary = run(file, path, options, umask, &mut writer, &mut noting)?;
    let Noting::Archive(Some(encoder)) = noting else { return Ok((summary, None)) };
    let mut notes = writer.notes().take();
    notes.grow(encoder.files() as usize, encoder.directories() as usize);
    let (strip_components, lost) = (options.strip_components, Numbers::default());
    let manifest = encoder.finish_with(std::mem::take(&mut notes.hashes)).ok();
    Ok((summary, manifest.map(|manifest| Noted { manifest, notes, strip_components, lost })))
}

/// What a release is built from.
#[derive(Debug)]
pub struct Building<'a> {
    /// The manifest of the release; its hashes may be cut.
    pub manifest: Manifest,
    /// The digest of the manifest with whole hashes.
    pub digest: &'a str,
    /// Where the contents come from.
    pub plan: Plan,
    /// The bundles that were sent.
    pub bundles: &'a [(File, PathBuf)],
    /// The size of the archive.
    pub size: u64,
}

/// Builds in `into` what [`unpack_noting`] would unpack from the archive that `building` describes.
/// `path` is the archive's, for messages.
///
/// # Errors
/// As [`unpack_noting`], and `stale` if contents are not those of the manifest.
pub fn build(
    building: Building<'_>,
    path: &Path,
    into: &Dir,
    options: &UnpackOptions,
    spare: Option<Spare>,
) -> Result<(Summary, Noted), Failure> {
    let Building { mut manifest, digest, plan, bundles, size } = building;
    let umask = umask();
    let stock = Stock { spare, ..Stock::default() };
    let mut writer = writer::Writer::new(into, path, umask, options, stock)?;
    // What is excluded was not sent.
    let reading = UnpackOptions { exclude: Vec::new(), checksum: false, ..options.clone() };
    let summary = thread::scope(|scope| {
        let mut streams = Vec::new();
        for (file, path) in bundles {
            let format = format::format_within(file, path, &options.limits)?;
            // What is in a bundle is in the archive, which may compress it less well.
            let size = size.max(file.metadata().or_fail("read", path)?.len());
            let (feed, stream) = stream::pipe(path, options.limits.ceiling(size));
            read_ahead(scope, file, path, format, &reading, feed)?;
            streams.push((stream, format != Format::Tar));
        }
        let strip = options.strip_components;
        let reader = BuiltReader::new(path, &manifest, &plan, into, strip, streams)?;
        let entries = Entries::Built(Box::new(reader));
        let selection = Selection::new(options, path, umask);
        let ceiling = options.limits.ceiling(size);
        let format = manifest.format();
        consume(path, entries, format, selection, ceiling, &mut writer, &mut Noting::Built)
    })?;
    let mut notes = writer.notes().take();
    notes.grow(manifest.files() as usize, manifest.directories() as usize);
    let hashes = std::mem::take(&mut notes.hashes);
    complete(&mut manifest, hashes, digest).ok_or_else(|| failures::stale(path))?;
    let (strip_components, lost) = (options.strip_components, plan.lost);
    Ok((summary, Noted { manifest, notes, strip_components, lost }))
}

/// Makes sure that all that was written is what the manifest says, and that it is the right manifest.
fn complete(manifest: &mut Manifest, hashes: Vec<u8>, digest: &str) -> Option<()> {
    for (file, hash) in (0..manifest.files()).zip(hashes.chunks_exact(32)) {
        // What is left out is not known.
        let known = hash.iter().any(|byte| *byte != 0);
        let fits = match known {
            true => hash.starts_with(manifest.hash(file)),
            false => !manifest.is_cut(),
        };
        if !fits {
            return None;
        }
    }
    if manifest.is_cut() {
        manifest.complete(hashes).ok()?;
    }
    (manifest.digest()? == digest).then_some(())
}

/// Whether, and how, files are noted.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Noting {
    Nothing,
    /// The manifest is made on the way, from the first entry on.
    Archive(Option<Encoder>),
    /// It is there.
    Built,
}

/// What is known of an entry before it is written.
#[derive(Default)]
struct Told {
    /// The number of a file or directory, if it is to be noted.
    number: Option<u32>,
    known: Option<Known>,
    quiet: Option<Quiet>,
}

impl Noting {
    fn tell(&mut self, entry: &Entry, entries: &mut Entries<'_>) -> Told {
        match (&mut *self, &mut *entries) {
            (Noting::Built, Entries::Built(built)) => match entry.kind {
                Kind::File(_) => {
                    let (number, known) = built.file();
                    Told { number: Some(number), known, quiet: None }
                }
                Kind::Directory => {
                    let (number, quiet) = built.directory();
                    Told { number: Some(number), known: None, quiet }
                }
                _ => Told::default(),
            },
            (Noting::Archive(Some(encoder)), _) => {
                let size = *entries.body().remaining;
                match encoder.push(entry, size, None) {
                    Ok(number) => Told { number, ..Told::default() },
                    Err(_) => {
                        *self = Noting::Nothing;
                        Told::default()
                    }
                }
            }
            _ => Told::default(),
        }
    }
}

fn run(
    file: &File,
    path: &Path,
    options: &UnpackOptions,
    umask: u32,
    sink: &mut dyn Sink,
    noting: &mut Noting,
) -> Result<Summary, Failure> {
    let format = format::format_within(file, path, &options.limits)?;
    if let Noting::Archive(encoder) = noting {
        // Of a zip, contents that are excluded are not read.
        match format == Format::Zip && !options.exclude.is_empty() {
            true => *noting = Noting::Nothing,
            false => *encoder = Some(Encoder::new(format)),
        }
    }
    let size = file.metadata().or_fail("read", path)?.len();
    let ceiling = options.limits.ceiling(size);
    let (feed, stream) = stream::pipe(path, ceiling);
    let (mut summary, checksum) = thread::scope(|scope| {
        let reader = read_ahead(scope, file, path, format, options, feed)?;
        // This drops the stream, which ends the other thread in any case.
        let entries = Entries::new(stream, format);
        let selection = Selection::new(options, path, umask);
        let summary = consume(path, entries, format, selection, ceiling, sink, noting);
        let checksum = reader.join().map_err(|_| {
            failures::bad(
                path,
                b"",
                "its reader stopped \
            unexpectedly",
            )
        });
        Ok::<_, Failure>((summary?, checksum?))
    })?;
    summary.sha256 = checksum.map_err(|error| failures::unreadable(path, b"", error))?;
    Ok(summary)
}

/// What the thread that reads has found out.
type Reader<'scope> = thread::ScopedJoinHandle<'scope, io::Result<Option<String>>>;

/// Starts the thread that reads.
fn read_ahead<'scope, 'env>(
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

/// Either kind of archive, as entries.
enum Entries<'a> {
    Tar(Box<TarReader<'a>>),
    Zip(ZipReader<'a>),
    Built(Box<BuiltReader<'a>>),
}

impl<'a> Entries<'a> {
    fn new(stream: Stream<'a>, format: Format) -> Self {
        match format {
            Format::Zip => Entries::Zip(ZipReader::new(stream)),
            format => Entries::Tar(Box::new(TarReader::new(stream, format != Format::Tar))),
        }
    }

    fn next(&mut self) -> Result<Option<Entry>, Failure> {
        match self {
            Entries::Tar(tar) => tar.next(),
            Entries::Zip(zip) => zip.next(),
            Entries::Built(built) => built.next(),
        }
    }

    fn body(&mut self) -> Body<'_, 'a> {
        match self {
            Entries::Tar(tar) => tar.body(),
            Entries::Zip(zip) => zip.body(),
            Entries::Built(built) => built.body(),
        }
    }
}

/// The writing thread.
fn consume(
    archive: &Path,
    mut entries: Entries<'_>,
    format: Format,
    mut selection: Selection<'_>,
    ceiling: Ceiling,
    sink: &mut dyn Sink,
    noting: &mut Noting,
) -> Result<Summary, Failure> {
    let mut summary = Summary {
        format: format.name(),
        files: 0,
        directories: 0,
        links: 0,
        bytes: 0,
        shared_files: 0,
        shared_bytes: 0,
        kept_files: 0,
        kept_bytes: 0,
        sha256: None,
    };
    let mut sparse = 0u64;
    while let Some(entry) = entries.next()? {
        interrupt::check()?;
        let told = noting.tell(&entry, &mut entries);
        let is_file = matches!(entry.kind, Kind::File(_));
        let Some(mut item) = selection.choose(entry)? else {
            if let (Noting::Archive(_), Some(file), true) = (&*noting, told.number, is_file) {
                let mut body = entries.body();
                body.start_hash();
                let hash = body.finish_hash()?;
                sink.note(Note { file, hash, mark: None });
            }
            continue;
        };
        (item.number, item.known, item.quiet) = (told.number, told.known, told.quiet);
        let mut body = entries.body();
        match &item.kind {
            ItemKind::Directory => summary.directories += 1,
            ItemKind::Symlink(_) | ItemKind::HardLink(_) => summary.links += 1,
            ItemKind::File(map) => {
                summary.files += 1;
                let size = map.as_ref().map_or(*body.remaining, |map| map.size);
                summary.bytes = summary.bytes.saturating_add(size);
                let name = item.path.as_path().as_os_str().as_encoded_bytes();
                ceiling.check_claim(summary.bytes, archive, name)?;
                if map.is_some() {
                    sparse = sparse.saturating_add(size);
                    ceiling.check(sparse, archive, name)?;
                }
            }
        }
        sink.write(&item, &mut body)?;
        selection.check(sink.unmentioned(), &item)?;
    }
    if summary.files + summary.directories + summary.links == 0 {
        return Err(match selection.seen {
            0 => failures::empty(archive, "it has no entries", "add the application to it"),
            _ => failures::empty(
                archive,
                "all of its entries were excluded",
                "check strip_components and exclude",
            ),
        });
    }
    let [shared, kept] = sink.finish(selection.top.as_ref())?;
    (summary.shared_files, summary.shared_bytes) = shared;
    (summary.kept_files, summary.kept_bytes) = kept;
    Ok(summary)
}

/// The umask of this process; asking the kernel for it would change it for a moment.
#[expect(clippy::disallowed_methods, reason = "a file of the kernel")]
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let shown = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    match shown.and_then(|shown| u32::from_str_radix(shown.trim(), 8).ok()) {
        Some(umask) => umask,
        None => {
            let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            rustix::process::umask(umask);
            umask.as_raw_mode()
        }
    }
}
