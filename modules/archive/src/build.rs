//! Builds what would be unpacked from files of this host and from contents that were sent.
//! `docs/spare.md` says why.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;

use oxistrano_core::{Dir, Failure, IoContext};

use crate::built::BuiltReader;
use crate::entries::{Entries, read_ahead};
use crate::failures;
use crate::format::{self, Format};
use crate::index::Noted;
use crate::manifest::Manifest;
use crate::noting::Noting;
use crate::options::UnpackOptions;
use crate::pass::{Summary, consume};
use crate::plan::Plan;
use crate::select::Selection;
use crate::spare::{Spare, Stock};
use crate::stream;
use crate::umask::umask;
use crate::writer::Writer;

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

/// Builds in `into` what [`crate::unpack_noting`] would unpack from the archive that `building` describes.
/// `path` is the archive's, for messages.
///
/// # Errors
/// As [`crate::unpack_noting`], and `stale` if contents are not those of the manifest.
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
    let mut writer = Writer::new(into, path, umask, options, stock)?;
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
