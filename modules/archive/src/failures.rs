//! The failures of archives: messages, and codes for programs.

use std::fmt::Display;
use std::io;
use std::path::Path;

use oxistrano_core::{Failure, interrupt};

/// Longer names are cut in messages: one from a hostile header may have a megabyte.
const SHOWN: usize = 200;

/// `'name'`, with control characters escaped.
pub(crate) fn show(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(4 * SHOWN)]);
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < name.len() && text.chars().count() > SHOWN {
        shown.push('…');
    }
    format!("'{}'", shown.escape_debug())
}

fn about(code: &'static str, archive: &Path, entry: &[u8], cause: impl Display) -> Failure {
    let what = format!("cannot unpack {}", show(archive.as_os_str().as_encoded_bytes()));
    let failure = Failure::new(code, what).path(archive);
    if entry.is_empty() {
        return failure.cause(cause);
    }
    failure
        .cause(format!("{}: {cause}", show(entry)))
        .value("entry", String::from_utf8_lossy(&entry[..entry.len().min(4096)]).into_owned())
}

/// The archive is truncated, damaged, or uses an unsupported feature.
pub(crate) fn bad(archive: &Path, entry: &[u8], cause: impl Display) -> Failure {
    about("bad_archive", archive, entry, cause)
        .remedy("create the archive again, or transfer it again")
}

/// An entry that will not be written, whatever the options say.
pub(crate) fn unsafe_entry(archive: &Path, entry: &[u8], cause: impl Display) -> Failure {
    about("unsafe_entry", archive, entry, cause)
        .remedy("create the archive without this entry, or exclude it")
}

/// One of [`crate::Limits`] was reached.
pub(crate) fn too_large(archive: &Path, entry: &[u8], cause: impl Display) -> Failure {
    about("too_large", archive, entry, cause).remedy("check the archive, or raise the limit")
}

/// What should be in a file of a release is not there any more.
pub(crate) fn stale(path: &Path) -> Failure {
    Failure::new("stale", format!("cannot copy {}", show(path.as_os_str().as_encoded_bytes())))
        .cause("it has changed meanwhile")
}

/// It has no entries, or all are excluded.
pub(crate) fn empty(archive: &Path, cause: impl Display, remedy: &str) -> Failure {
    about("empty_archive", archive, b"", cause).remedy(remedy)
}

/// What a decompressor says: the file could not be read, or it is damaged; or that it was
/// interrupted.
pub(crate) fn unreadable(archive: &Path, entry: &[u8], error: io::Error) -> Failure {
    if let Err(interrupted) = interrupt::check() {
        return interrupted;
    }
    if error.raw_os_error().is_some() {
        return Failure::io("read", archive, error);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return bad(archive, entry, "the archive is truncated here");
    }
    let text = error.to_string();
    if text.contains("too much memory") || text.contains("memory limit") {
        return about("too_large", archive, entry, "its compression window is too large")
            .remedy("compress it with a window of at most 128 MB (zstd --long=27)");
    }
    bad(archive, entry, format!("the archive is damaged here ({text})"))
}
