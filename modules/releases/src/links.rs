//! The links of a release to what releases share.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use oxistrano_core::{Dir, Failure, RelPath, remove, users};

use crate::root::Layout;

/// One link that is missing or wrong.
#[derive(Debug)]
pub struct Link {
    /// Its path in the release.
    pub path: RelPath,
    /// Its new target.
    pub target: PathBuf,
    /// What exists there now, in words; `None` if nothing.
    pub instead_of: Option<String>,
}

impl Layout {
    /// `../../shared/var`: the target of a release's link to a shared path, as the upstream role writes it.
    pub fn shared_target(&self, path: &RelPath) -> PathBuf {
        self.shared_from(path.depth() + self.releases_dir.depth(), path)
    }

    /// `../shared/var`: the same in a `current` that is a copy.
    pub fn shared_target_of_copy(&self, path: &RelPath) -> PathBuf {
        self.shared_from(path.depth() - 1 + self.current_dir.depth(), path)
    }

    fn shared_from(&self, up: usize, path: &RelPath) -> PathBuf {
        std::iter::repeat_n(Path::new(".."), up)
            .chain([self.shared_dir.as_path(), path.as_path()])
            .collect()
    }
}

/// Finds the links that are missing in a tree; `target` returns the target of each.
///
/// # Errors
/// `blocked_path` if the artifact has a file or link where a directory above a link is needed.
pub fn missing(
    release: &Dir,
    paths: &[RelPath],
    target: impl Fn(&RelPath) -> PathBuf,
) -> Result<Vec<Link>, Failure> {
    let mut links = Vec::new();
    for path in paths {
        let target = target(path);
        let there = match parent(release, path)? {
            Some(dir) => dir.lookup(path.name())?.map(|info| (dir, info)),
            None => None,
        };
        let instead_of = match there {
            None => None,
            Some((dir, info)) if info.is_symlink() => {
                let now = dir.read_link(path.name())?.unwrap_or_default();
                // Compared as bytes, because a `Path` treats "file/" and "file" as equal.
                if now.as_os_str() == target.as_os_str() {
                    continue;
                }
                Some(format!("link to {}", now.display()))
            }
            Some((_, info)) => Some(info.noun().to_owned()),
        };
        links.push(Link { path: path.clone(), target, instead_of });
    }
    Ok(links)
}

/// The directory in the release for the link, if it exists.
fn parent(release: &Dir, path: &RelPath) -> Result<Option<Dir>, Failure> {
    let mut dir = release.duplicate()?;
    let Some(parent) = path.parent() else { return Ok(Some(dir)) };
    for name in parent.names() {
        match dir.lookup(name)? {
            None => return Ok(None),
            Some(info) if info.is_dir() => dir = dir.open_dir(name)?,
            Some(info) => {
                let at = dir.at(name);
                return Err(Failure::new(
                    "blocked_path",
                    format!("cannot link the shared path '{path}'"),
                )
                .cause(format!(
                    "'{}' in the release is {}, not a directory",
                    at.display(),
                    info.noun()
                ))
                .remedy("share that path instead, or leave it out of the artifact")
                .state("Nothing was changed.")
                .path(at));
            }
        }
    }
    Ok(Some(dir))
}

impl Link {
    /// Makes the link and replaces what exists there.
    ///
    /// # Errors
    /// An I/O error.
    pub fn make(&self, release: &Dir) -> Result<(), Failure> {
        let dir = match self.path.parent() {
            Some(parent) => make_dirs(release, &parent)?,
            None => release.duplicate()?,
        };
        let name = self.path.name();
        if !dir.lookup(name)?.is_some_and(|info| info.is_dir()) {
            return dir.replace_with_symlink(name, &self.target);
        }
        // A directory of the artifact is exchanged with the link, so that it is never missing in a live release.
        let link = dir.temporary(name);
        dir.make_symlink(&link, &self.target)?;
        match dir.put_in_place(&link, name) {
            // On a lower layer of an overlayfs it can be removed, but not renamed.
            Err(failure) if failure.is(Errno::XDEV) => {
                remove::remove_tree(&dir, name)?;
                return dir.rename(&link, name);
            }
            other => other?,
        };
        remove::remove_tree(&dir, link).map(drop)
    }
}

/// Makes the directories above a link, following no link of the artifact. If root makes one, it
/// belongs to the owner of its parent, as if it came from the artifact.
fn make_dirs(release: &Dir, path: &RelPath) -> Result<Dir, Failure> {
    path.names().try_fold(release.duplicate()?, |dir, name| {
        let info = dir.info()?;
        let owner = users::is_root().then(|| (info.uid(), info.gid())).unzip();
        dir.make_dir_owned(name, owner.0, owner.1)?;
        dir.open_dir(name)
    })
}
