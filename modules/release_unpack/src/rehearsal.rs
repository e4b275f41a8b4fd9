//! Check mode: what would be sent, unpacked and, with `--diff`, changed.

use std::io::{BufReader, Read};

use flate2::read::ZlibDecoder;
use oxistrano_archive::{self as archive, UnpackOptions};
use oxistrano_core::{AbsPath, Context, Diff, Failure, IoContext, Outcome, input};
use oxistrano_releases::{Artifact, Comparison, Root, shared_links};
use oxistrano_tree::Files;

use crate::artifact::Archive;
use crate::{Options, release_path, result};

/// The archive is here: it is read to its end.
pub fn would_unpack(
    options: &Options,
    context: &Context,
    unpack_options: &UnpackOptions,
    archive: &Archive<'_>,
    root: Option<&Root>,
) -> Result<Outcome, Failure> {
    let (file, src) = (&archive.file, options.src.as_path());
    let (there, files) = match context.diff || options.listing.is_some() {
        true => archive::list_contents(file, src, unpack_options)
            .map(|(there, files)| (there, Some(files)))?,
        false => (archive::list(file, src, unpack_options)?, None),
    };
    archive.confirm(there.sha256.as_deref())?;
    if let (Some(path), Some(files)) = (&options.listing, &files) {
        write(path, files)?;
    }
    let msg = format!("would unpack {} files into {}", there.files, release_path(options));
    let outcome = result(options, true, msg).value("files", there.files);
    let to_send = options.artifact.as_ref().map(|_| 0);
    tell(outcome, options, root, to_send, files.map(Ok))
}

/// The archive is on the controller. What is in it, the controller can tell.
pub fn would_bring(
    options: &Options,
    context: &Context,
    artifact: &Artifact,
    missing: u64,
) -> Result<Outcome, Failure> {
    let path = release_path(options);
    let outcome =
        result(options, true, format!("would send {missing} bytes and unpack them into {path}"));
    let (outcome, files) = match (artifact.listing, &artifact.unlisted) {
        _ if !context.diff => (outcome, None),
        (Some(bytes), _) => {
            let files = receive(bytes)?;
            (outcome.value("files", files.regular()), Some(Ok(files)))
        }
        (None, Some(why)) => (outcome, Some(Err(why.as_str()))),
        // The action plugin knows this word.
        (None, None) => (outcome.value("listing_wanted", true), None),
    };
    let root = Root::open_if_there(&options.layout())?;
    tell(outcome, options, root.as_ref(), Some(missing), files)
}

fn tell(
    mut outcome: Outcome,
    options: &Options,
    root: Option<&Root>,
    to_send: Option<u64>,
    files: Option<Result<Files, &str>>,
) -> Result<Outcome, Failure> {
    let there = options.layout().release_path(&options.version).exists();
    let mut after = "release".to_owned();
    if let Some(Ok(files)) = &files {
        after += &format!(", {} files and links", files.count());
    }
    if let Some(bytes) = to_send {
        outcome = outcome.value("to_send", bytes);
        after += &match bytes {
            0 => ", nothing to send".to_owned(),
            _ => format!(", {bytes} bytes to send"),
        };
    }
    let before = if there { "release" } else { "absent" };
    let diff =
        Diff { header: release_path(options), before: vec![before.to_owned()], after: vec![after] };
    let (Some(root), Some(files)) = (root, files) else { return Ok(outcome.diff(diff)) };
    let shared = shared_links(&options.shared_paths, &options.shared_files).paths;
    let releases = root.all_releases()?;
    let compared = match files {
        Ok(files) => Comparison::with_live(root, &releases, |_| Ok(files), &shared)?,
        Err(why) => Comparison::impossible(&releases, why),
    };
    Ok(match compared {
        Some(compared) => compared.tell(outcome, diff),
        None => outcome.diff(diff),
    })
}

fn receive(bytes: u64) -> Result<Files, Failure> {
    let mut input = input::lock();
    let packed = (&mut *input).take(bytes);
    Files::decode(BufReader::new(ZlibDecoder::new(packed)))
        .map_err(|error| Failure::io("read", "the list of the archive".as_ref(), error))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the action plugin has named it, in a directory of its own"
)]
fn write(path: &AbsPath, files: &Files) -> Result<(), Failure> {
    std::fs::write(path.as_path(), files.encode()).or_fail("write", path.as_path())
}
