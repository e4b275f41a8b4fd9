//! Deletion in two steps: a rename, after which it is not a release any more, and the removal,
//! which another process may do in the background.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use rustix::io::Errno;
use serde::Serialize;

use oxistrano_core::command::start_detached;
use oxistrano_core::remove::{self, Removed};
use oxistrano_core::{Dir, Failure, IoContext, interrupt};

const PREFIX: &str = ".oxistrano-trash-";
/// The prefix for something that is removed without a rename. A file of this name exists during the
/// removal, so that the rest of a release never counts as a release.
const IN_PLACE: &str = ".oxistrano-removing-";
/// The prefix for something in the trash that could not be removed. The file of this name says why.
const STAYS: &str = ".oxistrano-stays-";
/// The argument of the process that removes.
const REAPER: &str = "--oxistrano-empty-trash";
/// The number of names that always fit on one command line, which may have 128 KiB.
const TOGETHER: usize = 400;
/// A reason contains at most two paths.
const LONGEST_REASON: u64 = 16 << 10;

/// Something in the trash, by its name in the directory of the releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item(OsString);

impl Item {
    /// Its name.
    pub fn name(&self) -> &OsString {
        &self.0
    }
}

/// Moves `name` to the trash by a rename. A directory that cannot be renamed, because it is on a
/// lower layer of an overlayfs, is removed at once.
///
/// # Errors
/// An I/O error.
pub fn discard(dir: &Dir, name: impl AsRef<Path>) -> Result<Item, Failure> {
    let name = name.as_ref();
    loop {
        let trash = Dir::unused(PREFIX, name);
        match dir.rename_new(name, &trash) {
            Ok(true) => return Ok(Item(trash)),
            Ok(false) => {}
            Err(failure) if failure.is(Errno::XDEV) => {
                let mark = mark(name);
                dir.write(&mark, b"", 0o600)?;
                finish(dir, name, &mark)?;
                // The name does not exist; removing it is not an error.
                return Ok(Item(trash));
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Creates an empty directory in the trash.
///
/// # Errors
/// An I/O error.
pub fn begin(dir: &Dir, name: &str) -> Result<(Item, Dir), Failure> {
    let trash = Dir::unused(PREFIX, name);
    let made = dir.make_dir(&trash, 0o777)?;
    Ok((Item(trash), made))
}

fn mark(name: &Path) -> OsString {
    let mut mark = OsString::from(IN_PLACE);
    mark.push(name);
    mark
}

fn finish(dir: &Dir, name: &Path, mark: &OsStr) -> Result<(), Failure> {
    let removed = remove::remove_tree(dir, name).and_then(|_| remove::remove_tree(dir, mark));
    removed.map(drop).map_err(|failure| {
        failure.state(format!(
            "'{}' is partly removed and is no longer a release; the next deploy removes the rest.",
            dir.at(name).display()
        ))
    })
}

/// Whether a name is being removed without a rename, also if that was interrupted.
///
/// # Errors
/// An I/O error.
pub fn is_going(dir: &Dir, name: impl AsRef<Path>) -> Result<bool, Failure> {
    Ok(dir.lookup(mark(name.as_ref()))?.is_some())
}

/// Removes the rest of such a name, before something new gets it.
///
/// # Errors
/// An I/O error.
pub fn make_way(dir: &Dir, name: impl AsRef<Path>) -> Result<(), Failure> {
    let name = name.as_ref();
    match is_going(dir, name)? {
        true => finish(dir, name, &mark(name)),
        false => Ok(()),
    }
}

/// Removes all such rests, at once, because a new release may get the name.
///
/// # Errors
/// An I/O error.
pub fn finish_in_place(dir: &Dir) -> Result<(), Failure> {
    dir.names()?.iter().try_for_each(|mark| {
        match mark.as_bytes().strip_prefix(IN_PLACE.as_bytes()) {
            Some(name) if !name.is_empty() => finish(dir, OsStr::from_bytes(name).as_ref(), mark),
            _ => Ok(()),
        }
    })
}

/// Moves a directory from elsewhere in the deploy root into the trash of the releases.
///
/// # Errors
/// An I/O error. A directory on another file system is removed at once instead.
pub fn adopt(from: &Dir, name: &Path, releases: &Dir) -> Result<Item, Failure> {
    let trash = Dir::unused(PREFIX, name);
    match from.rename_to(name, releases, &trash) {
        Ok(()) => Ok(Item(trash)),
        Err(_) => {
            remove::remove_tree(from, name)?;
            // The name does not exist; removing it is not an error.
            Ok(Item(trash))
        }
    }
}

/// What earlier processes have left in the trash.
///
/// # Errors
/// An I/O error.
pub fn leftovers(dir: &Dir) -> Result<Vec<Item>, Failure> {
    Ok(dir.names()?.into_iter().filter(is_trash).map(Item).collect())
}

/// Something in the trash, as a module returns it.
#[derive(Debug, Clone, Serialize)]
pub struct Left {
    /// Its path.
    path: String,
    /// Why it could not be deleted; `None` if it is being removed, or will be.
    reason: Option<String>,
}

impl Left {
    /// Those among these names of `dir`.
    pub(crate) fn among(dir: &Dir, names: &[OsString]) -> Vec<Self> {
        let trash = names.iter().filter(|name| is_trash(name));
        trash
            .map(|name| {
                let note = note(name);
                let there = names.contains(&note).then(|| dir.read_up_to(&note, LONGEST_REASON));
                let unread = || "it could not be deleted".to_owned();
                let reason = there.map(|text| match text {
                    Ok(Some(text)) => String::from_utf8_lossy(&text).into_owned(),
                    _ => unread(),
                });
                Self { path: dir.at(name).display().to_string(), reason }
            })
            .collect()
    }

    /// The warning, if any.
    pub(crate) fn warning(all: &[Self]) -> Option<String> {
        let mut stay = all.iter().filter_map(|left| Some((&left.path, left.reason.as_ref()?)));
        let (path, reason) = stay.next()?;
        let more = match stay.count() {
            0 => String::new(),
            more => format!(" (there are {more} more such directories next to it)"),
        };
        Some(format!(
            "a removed release still takes up disk space: {reason} Delete '{path}' as root or as \
             the owner of its contents{more}."
        ))
    }
}

fn note(trash: &OsStr) -> OsString {
    let mut note = OsString::from(STAYS);
    note.push(OsStr::from_bytes(
        trash.as_bytes().strip_prefix(PREFIX.as_bytes()).unwrap_or_default(),
    ));
    note
}

/// Removes the notes about names that are no longer in the trash.
///
/// # Errors
/// An I/O error.
pub fn forget(dir: &Dir) -> Result<(), Failure> {
    let names = dir.names()?;
    let notes: Vec<_> = names.iter().filter(|name| is_trash(name)).map(|name| note(name)).collect();
    for name in names {
        if name.as_bytes().starts_with(STAYS.as_bytes()) && !notes.contains(&name) {
            remove::remove_tree(dir, name)?;
        }
    }
    Ok(())
}

pub(crate) fn is_trash(name: &OsString) -> bool {
    let name = name.as_bytes();
    name.starts_with(PREFIX.as_bytes()) && !name.contains(&b'/')
}

/// Removes it now.
///
/// # Errors
/// The first one that could not be removed; all are tried.
pub fn empty(dir: &Dir, items: Vec<Item>) -> Result<Removed, Failure> {
    let mut removed = Removed::default();
    let mut failure = None;
    for Item(name) in items {
        match remove::remove_tree(dir, name) {
            Ok(more) => {
                removed.files += more.files;
                removed.directories += more.directories;
            }
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(removed), Err)
}

/// Starts a process of low priority for the removal, which outlives this one. If it cannot be
/// started, this is a warning, not a failure, because the next deploy's setup removes the rest.
pub fn empty_later(dir: &Dir, items: &[Item]) -> Option<String> {
    items
        .chunks(TOGETHER)
        .try_for_each(|items| start_reaper(dir, items))
        .err()
        .map(|failure| format!("{failure} The next deploy deletes the removed releases there."))
}

fn start_reaper(dir: &Dir, items: &[Item]) -> Result<(), Failure> {
    // It gets the directory as a handle, because the path may lead elsewhere by then.
    let handle = dir.as_fd().try_clone_to_owned().or_fail("reopen", dir.path())?;
    let names = items.iter().map(|item| item.name().as_os_str());
    let arguments = [OsStr::new(REAPER)].into_iter().chain(names);
    // In its own session, so that the end of the connection does not end it.
    start_detached(arguments, Stdio::from(handle), Stdio::null())
        .or_fail("start a process that removes old releases in", dir.path())
}

/// Does the removal, if this process was started by [`empty_later`].
pub(crate) fn reap(arguments: &[OsString]) -> Option<ExitCode> {
    let names = arguments.split_first().filter(|(job, _)| *job == REAPER)?.1;
    remove::be_nice();
    let Ok(dir) = Dir::from_stdin() else { return Some(ExitCode::FAILURE) };
    let mut all = true;
    for name in names.iter().filter(|name| is_trash(name)) {
        let note = note(name);
        match remove::remove_tree(&dir, name) {
            Ok(_) => {
                let _ = dir.remove_file(&note);
            }
            // After a signal, the rest needs no note.
            Err(failure) if interrupt::check().is_ok() => {
                let _ = dir.write(&note, failure.to_string().as_bytes(), 0o644);
                all = false;
            }
            Err(_) => all = false,
        }
    }
    Some(ExitCode::from(u8::from(!all)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_discarded_is_out_of_sight_and_can_be_found_again() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scratch.path().join("7/sub")).unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        let item = discard(&dir, "7").unwrap();
        assert!(!scratch.path().join("7").exists());
        let found = leftovers(&dir).unwrap();
        assert_eq!(found, [item]);
        assert_eq!(empty(&dir, found).unwrap().directories, 2);
        assert!(dir.names().unwrap().is_empty());
    }

    #[test]
    fn only_trash_is_ever_trash() {
        for name in ["7", ".oxistrano-staging", "../.oxistrano-trash-1", ".oxistrano-trash-/../7"] {
            assert!(!is_trash(&name.into()), "{name}");
        }
    }
}
