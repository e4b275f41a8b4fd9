//! Directories during the walk of a tree. As many stay open as the limit of open files allows; the
//! others are opened again, name by name, when they are needed.

use std::ffi::{OsStr, OsString};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oxistrano_core::{Dir, Failure, RelPath};

/// How many more directories may stay open.
#[derive(Debug)]
pub struct Budget {
    free: AtomicUsize,
}

impl Budget {
    pub fn new(kept: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(kept) })
    }

    fn take(&self) -> bool {
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }
}

/// A directory of a tree, open or not.
#[derive(Debug)]
pub struct Place {
    parent: Option<Arc<Place>>,
    name: OsString,
    dir: Option<Dir>,
    counted: bool,
    budget: Arc<Budget>,
    /// Device and inode, where other users could replace it.
    identity: Option<(u64, u64)>,
}

/// A directory, opened temporarily or permanently.
pub enum Opened<'a> {
    Kept(&'a Dir),
    Now(Dir),
}

impl Deref for Opened<'_> {
    type Target = Dir;
    fn deref(&self) -> &Dir {
        match self {
            Self::Kept(dir) => dir,
            Self::Now(dir) => dir,
        }
    }
}

impl Place {
    /// The root of a tree; stays open.
    pub fn root(dir: &Dir, budget: &Arc<Budget>) -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self {
            counted: false,
            parent: None,
            name: OsString::new(),
            dir: Some(dir.duplicate()?),
            budget: Arc::clone(budget),
            identity: None,
        }))
    }

    /// The directory `name` in `parent`, which the caller has opened as `dir`; it is returned if it
    /// could not be kept open.
    pub fn below(parent: &Arc<Self>, name: &OsStr, dir: Dir) -> (Arc<Self>, Option<Dir>) {
        Self::known_below(parent, name, dir, None)
    }

    /// The same, where other users could replace the directory.
    pub fn of_others_below(
        parent: &Arc<Self>,
        name: &OsStr,
        dir: Dir,
    ) -> Result<(Arc<Self>, Option<Dir>), Failure> {
        let info = dir.info()?;
        let identity = Some((info.device(), info.inode()));
        Ok(Self::known_below(parent, name, dir, identity))
    }

    fn known_below(
        parent: &Arc<Self>,
        name: &OsStr,
        dir: Dir,
        identity: Option<(u64, u64)>,
    ) -> (Arc<Self>, Option<Dir>) {
        let kept = parent.budget.take();
        let (keep, back) = if kept { (Some(dir), None) } else { (None, Some(dir)) };
        let place = Self {
            parent: Some(Arc::clone(parent)),
            name: name.to_owned(),
            dir: keep,
            counted: kept,
            budget: Arc::clone(&parent.budget),
            identity,
        };
        (Arc::new(place), back)
    }

    /// The directory: the handle that [`Self::below`] gave back, or its own.
    pub fn with(&self, spare: Option<Dir>) -> Result<Opened<'_>, Failure> {
        spare.map_or_else(|| self.open(), |dir| Ok(Opened::Now(dir)))
    }

    /// The directory, opened through the nearest one above that is open.
    pub fn open(&self) -> Result<Opened<'_>, Failure> {
        let mut names = Vec::new();
        let mut place = self;
        loop {
            match (&place.dir, &place.parent) {
                (Some(dir), _) if names.is_empty() => return Ok(Opened::Kept(dir)),
                (Some(dir), _) => {
                    let mut names = names.into_iter().rev();
                    let first = dir.open_dir(names.next().unwrap_or_default())?;
                    let dir = names.try_fold(first, |dir, name| dir.open_dir(name))?;
                    return self.require_same(dir).map(Opened::Now);
                }
                (None, Some(parent)) => {
                    names.push(place.name.as_os_str());
                    place = parent;
                }
                // A root is always open.
                (None, None) => {
                    return Err(Failure::new(
                        "io",
                        "a directory was closed too early \
                    (a bug)",
                    ));
                }
            }
        }
    }
}

impl Place {
    fn require_same(&self, dir: Dir) -> Result<Dir, Failure> {
        let Some(identity) = self.identity else { return Ok(dir) };
        let info = dir.info()?;
        if (info.device(), info.inode()) == identity {
            return Ok(dir);
        }
        Err(Failure::new("exchanged", format!("cannot write into '{}'", dir.path().display()))
            .cause("it was replaced in the meantime")
            .path(dir.path()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.counted {
            self.budget.free.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Opens a directory below another, name by name, no link followed. An empty path is
/// the directory itself.
pub fn open_below(root: &Dir, path: &Path) -> Result<Dir, Failure> {
    path.iter().try_fold(root.duplicate()?, |dir, name| dir.open_dir(name))
}

/// The same, and whether no other user can change the names in it or replace a directory on the way.
pub fn open_below_ours(root: &Dir, path: &Path) -> Result<(Dir, bool), Failure> {
    let here = (root.duplicate()?, root.is_ours_alone()?);
    path.iter().try_fold(here, |(dir, ours), name| {
        let dir = dir.open_dir(name)?;
        let ours = ours && dir.is_ours_alone()?;
        Ok((dir, ours))
    })
}

/// The last names of those paths that are directly in the directory `rel` (empty: the root).
pub fn names_in<'a>(paths: &'a [RelPath], rel: &Path) -> Vec<&'a OsStr> {
    paths.iter().filter(|path| path.as_path().parent() == Some(rel)).map(RelPath::name).collect()
}

/// Those paths that are below the directory `rel`, relative to it.
pub fn below(paths: &[RelPath], rel: &Path) -> Vec<RelPath> {
    paths
        .iter()
        .filter_map(|path| path.as_path().strip_prefix(rel).ok())
        .filter_map(|path| RelPath::new(path).ok())
        .collect()
}

/// Nothing is copied or deleted across a mount point.
pub fn same_device(dir: &Dir, device: u64) -> Result<(), Failure> {
    if dir.info()?.device() == device {
        return Ok(());
    }
    Err(mount_point(dir.path()))
}

pub fn mount_point(path: &Path) -> Failure {
    Failure::new("mount_point", format!("refusing to enter '{}'", path.display()))
        .cause("another file system is mounted there")
        .remedy("unmount it, or exclude that path")
        .path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_another_one_has_taken_the_place_of_is_not_opened_again() {
        let scratch = tempfile::tempdir().unwrap();
        let top = Dir::open(scratch.path()).unwrap();
        let below = top.make_dir("below", 0o755).unwrap();
        let root = Place::root(&top, &Budget::new(0)).unwrap();
        let (place, back) = Place::of_others_below(&root, OsStr::new("below"), below).unwrap();
        assert!(back.is_some(), "no more may stay open");
        assert!(place.open().is_ok());
        top.rename("below", "elsewhere").unwrap();
        top.make_dir("below", 0o755).unwrap();
        assert_eq!(place.open().err().unwrap().code(), "exchanged");
    }
}
