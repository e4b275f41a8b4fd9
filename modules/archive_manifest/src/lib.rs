//! Makes the manifest of an archive where the archive is built. On the controller, the action
//! plugin also uses it to make what is sent instead of an archive.
//!
//! Does: reads the archive once, writes the manifest in one step. Requires: nothing.
//! After a failure: existing files are unchanged.

mod docs;

use std::fs::File;
use std::path::{Path, PathBuf};

use oxistrano_archive::{
    self as archive, MOST_BYTES_OF_MANIFEST, Manifest, Message, Numbers, Packed, Packing,
    UnpackOptions,
};
use oxistrano_core::dir::{open_followed, read_followed};
use oxistrano_core::{AbsPath, Context, Dir, Documentation, Failure, IoContext, Module, Outcome};

oxistrano_core::options! {
    /// The options of `archive_manifest`.
    pub struct Options {
        /// The archive, an absolute path: a tar (plain, gzip, zstd, xz or bzip2) or a zip,
        /// recognised by its content.
        src: AbsPath;
        /// The file to write the manifest to. By default, O(src) with C(.manifest) appended, where
        /// M(oxistrano.deploy.release_unpack) looks for it.
        dest: Option<AbsPath>;
        /// The manifest of the archive, if it is known. For the action plugin of
        /// M(oxistrano.deploy.release_unpack).
        known: Option<AbsPath>, internal = true;
        /// The manifest of an archive that the host has.
        base: Option<AbsPath>, internal = true;
        /// The entries of O(base) whose contents the host has lost.
        lost: Option<String>, internal = true;
        /// Manifests of other archives that the host has. Their contents are not written either.
        also: Option<Vec<String>>, internal = true;
        /// The entries whose contents are wanted in any case.
        wanted: Option<String>, internal = true;
        /// With O(known), the most bytes of contents that are worth sending. If there are more, the module fails.
        most: Option<u64>, internal = true;
        /// Whether the host computes the hashes itself, so that they can be cut.
        cut: Option<bool>, internal = true;
        /// Whether the host has the manifest already.
        told: Option<bool>, internal = true;
        /// The file to write the contents to. The message is written next to it.
        contents: Option<AbsPath>, internal = true;
    }
}

/// The module.
pub struct ArchiveManifest;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_core::Program::of::<ArchiveManifest>();

impl Module for ArchiveManifest {
    type Options = Options;
    const NAME: &'static str = "archive_manifest";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        run(&options, context).map_err(|failure| failure.state("Nothing was changed."))
    }
}

fn run(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let src = options.src.as_path();
    let file = open_followed(src).or_fail("open", src)?;
    let dest = options.dest.as_ref().map_or_else(|| beside(src), |dest| dest.as_path().to_owned());
    if let Some(contents) = &options.contents {
        return bundle(options, &file, contents.as_path(), &dest);
    }
    let there = read(&dest).ok();
    if let Some(there) = there.filter(|there| archive_is(there, &file, src)) {
        return Ok(result(&there, &dest, false, "is there"));
    }
    // No contents are wanted, so nothing is written to `file`.
    let Packed { manifest, .. } = pack(&file, src, Packing::default(), &file)?;
    if context.check_mode {
        return Ok(result(&manifest, &dest, true, "would be made"));
    }
    write(&dest, &manifest.encode())?;
    Ok(result(&manifest, &dest, true, "was made"))
}

fn beside(src: &Path) -> PathBuf {
    let mut name = src.as_os_str().to_owned();
    name.push(".manifest");
    name.into()
}

fn archive_is(manifest: &Manifest, file: &File, src: &Path) -> bool {
    archive::sha256(file, src).is_ok_and(|sha256| sha256 == manifest.archive())
}

fn result(manifest: &Manifest, dest: &Path, changed: bool, what: &str) -> Outcome {
    let entries = manifest.entries();
    Outcome::new(changed)
        .msg(format!("the manifest of {entries} entries {what}: {}", dest.display()))
        .value("dest", dest.display().to_string())
        .value("entries", entries)
        .value("files", manifest.files())
        .value("digest", manifest.digest())
        .value("archive", manifest.archive())
}

fn pack(file: &File, src: &Path, packing: Packing<'_>, into: &File) -> Result<Packed, Failure> {
    let options = UnpackOptions { checksum: true, ..UnpackOptions::default() };
    archive::pack(file, src, &options, packing, into)
}

fn read(path: &Path) -> Result<Manifest, Failure> {
    let bytes = read_followed(path, MOST_BYTES_OF_MANIFEST).or_fail("read", path)?;
    Manifest::parse(bytes).map_err(|why| {
        let what = format!("cannot use the manifest '{}'", path.display());
        Failure::new("bad_manifest", what).cause(why).path(path)
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    Dir::open(parent)?.write(path.file_name().unwrap_or_default(), bytes, 0o644)
}

/// Makes a bundle for the action plugin, in a directory of the plugin's.
fn bundle(
    options: &Options,
    file: &File,
    contents: &Path,
    dest: &Path,
) -> Result<Outcome, Failure> {
    let given = |path: &Option<AbsPath>| path.as_ref().map(|path| read(path.as_path())).transpose();
    let (known, base) = (given(&options.known)?, given(&options.base)?);
    let new = known.is_none();
    let numbers = |given: &Option<String>| {
        let text = given.as_deref().unwrap_or_default();
        text.parse::<Numbers>()
            .map_err(|why| Failure::new("bad_arguments", "wanted or lost is wrong").cause(why))
    };
    let (wanted, lost) = (numbers(&options.wanted)?, numbers(&options.lost)?);
    let directory = Dir::open(contents.parent().unwrap_or(Path::new("/")))?;
    let into = directory.create_file(contents.file_name().unwrap_or_default(), 0o600)?;
    let also = options.also.iter().flatten().map(|path| read(Path::new(path)));
    let also = also.collect::<Result<Vec<_>, _>>()?;
    let packing =
        Packing { known, base: base.as_ref(), lost, also: &also, wanted, most: options.most };
    let Packed { manifest, sent } = pack(file, options.src.as_path(), packing, &into)?;
    let message = match &base {
        _ if options.told == Some(true) => Message::new(sent),
        Some(base) if also.is_empty() => Message::difference(sent, &manifest, base)?,
        Some(base) => {
            let all = also.iter().chain([base]);
            let nearest = all.max_by_key(|it| archive::in_common(&manifest, it).0);
            Message::difference(sent, &manifest, nearest.unwrap_or(base))?
        }
        None if options.cut == Some(true) => Message::whole(sent, &manifest.cut()),
        None => Message::whole(sent, &manifest),
    };
    let mut name = contents.as_os_str().to_owned();
    name.push(".message");
    write(name.as_ref(), &message.encode())?;
    if new {
        write(dest, &manifest.encode())?;
    }
    let size = into.metadata().or_fail("examine", contents)?.len();
    Ok(result(&manifest, dest, new, "was used").value("contents", size))
}
