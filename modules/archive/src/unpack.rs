//! The ways to unpack an archive, and to look at it without unpacking.

use std::fs::File;
use std::path::Path;

use oxistrano_core::dir::has_attributes;
use oxistrano_core::{Dir, Failure};
use oxistrano_tree::Files;

use crate::earlier::Earlier;
use crate::index::Noted;
use crate::noting::Noting;
use crate::numbers::Numbers;
use crate::options::UnpackOptions;
use crate::pass::{Summary, run};
use crate::spare::{Spare, Stock};
use crate::survey::Survey;
use crate::umask::umask;
use crate::writer::Writer;

/// Reports what `unpack` would do, and fails if it would fail: reads the whole archive and writes
/// nothing.
///
/// # Errors
/// As [`unpack`], except for errors that occur only during writing.
pub fn list(file: &File, path: &Path, options: &UnpackOptions) -> Result<Summary, Failure> {
    run(file, path, options, umask(), &mut Survey::new(path, None), &mut Noting::Nothing)
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
    let mut survey = Survey::new(path, Some(Files::default()));
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
/// * `too_large`: more than [`crate::Limits`] allows.
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
    let mut writer = Writer::new(into, path, umask, options, stock)?;
    let summary = run(file, path, options, umask, &mut writer, &mut noting)?;
    let Noting::Archive(Some(encoder)) = noting else { return Ok((summary, None)) };
    let mut notes = writer.notes().take();
    notes.grow(encoder.files() as usize, encoder.directories() as usize);
    let (strip_components, lost) = (options.strip_components, Numbers::default());
    let manifest = encoder.finish_with(std::mem::take(&mut notes.hashes)).ok();
    Ok((summary, manifest.map(|manifest| Noted { manifest, notes, strip_components, lost })))
}
