//! The files that Git tracks in a work tree.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oxistrano_core::{Dir, Failure, RelPath, command, users};

/// Long enough for a repository of a million files on a slow disk.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The files that Git tracks in `tree` (its submodules included) below `subtree`,
/// relative to `subtree` if there is one.
///
/// # Errors
/// When Git fails, or when it tracks no file there.
pub fn files(git: &Path, tree: &Dir, subtree: Option<&RelPath>) -> Result<Vec<RelPath>, Failure> {
    require_trusted(tree)?;
    let words = ["-c", "core.fsmonitor=false", "ls-files", "-z", "--recurse-submodules"];
    let words = words.map(OsString::from);
    let argv: Vec<OsString> = std::iter::once(git.as_os_str().to_owned()).chain(words).collect();
    let output = command::run(&argv, tree.path(), TIMEOUT)?;
    let mut files = Vec::new();
    for name in output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let path = PathBuf::from(OsString::from_vec(name.to_vec()));
        let path = RelPath::new(path).map_err(|why| {
            Failure::new(
                "bad_tracked_name",
                format!("cannot copy what Git tracks in '{}'", tree.path().display()),
            )
            .cause(why)
        })?;
        let below = match subtree {
            None => Some(path),
            Some(subtree) => {
                path.as_path().strip_prefix(subtree).ok().and_then(|rest| RelPath::new(rest).ok())
            }
        };
        files.extend(below);
    }
    match (files.is_empty(), subtree) {
        (false, _) => Ok(files),
        (true, Some(subtree)) => {
            Err(Failure::new("empty_subtree", format!("Git tracks nothing below '{subtree}'"))
                .remedy("correct ansistrano_git_repo_tree")
                .path(tree.at(subtree)))
        }
        (true, None) => Err(Failure::new(
            "empty_repository",
            format!("Git tracks nothing in '{}'", tree.path().display()),
        )
        .path(tree.path())),
    }
}

/// Git runs programs that a repository's configuration names. From 2.35.2 on, it refuses
/// repositories of other users by itself; Debian 11's does not.
fn require_trusted(tree: &Dir) -> Result<(), Failure> {
    // As in Git: a user who became root by sudo may use their own repository.
    let by_sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok());
    let by_sudo = by_sudo.filter(|_| users::is_root());
    let trusted = |uid: u32| uid == 0 || uid == users::current() || Some(uid) == by_sudo;
    for info in [Some(tree.info()?), tree.lookup(".git")?].into_iter().flatten() {
        if !trusted(info.uid()) {
            return Err(Failure::new(
                "untrusted_repository",
                format!("refusing to run git in '{}'", tree.path().display()),
            )
            .cause(format!(
                "it belongs to user id {}, and git would run programs that this user \
                has configured there",
                info.uid()
            ))
            .remedy(
                "deploy as that user, or change the owner of the repository to the user who \
                deploys",
            )
            .path(tree.path()));
        }
    }
    Ok(())
}
