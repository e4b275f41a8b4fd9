//! Owns the pass over an archive: each entry is chosen, noted and given to a sink, which writes it
//! or, in check mode, only checks it.

use std::fs::File;
use std::path::Path;
use std::thread;

use oxistrano_core::{Failure, IoContext, interrupt};

use crate::entries::{Entries, read_ahead};
use crate::entry::Kind;
use crate::failures;
use crate::format::{self, Format};
use crate::limits::Ceiling;
use crate::manifest::Encoder;
use crate::notes::Note;
use crate::noting::Noting;
use crate::options::UnpackOptions;
use crate::select::{Item, ItemKind, Selection, Top};
use crate::stream::{self, Body};

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
pub(crate) trait Sink {
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

/// Reads the whole archive.
pub(crate) fn run(
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

/// The writing thread.
pub(crate) fn consume(
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
