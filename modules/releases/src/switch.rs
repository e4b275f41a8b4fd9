//! The switch: the one way in which `current` comes to lead to another release, for
//! deploys and rollbacks alike. A reader always finds `current`.

use std::path::{Path, PathBuf};

use oxistrano_core::{Diff, Dir, Failure, RelPath};
use oxistrano_tree::{copy_tree, sync_tree, CopyOptions, SyncOptions};

use crate::options::Via;
use crate::release::REVISION;
use crate::root::Root;
use crate::{trash, EventKind, Version};

/// The `code` of the failure that the release is missing.
pub const NO_RELEASE: &str = "no_release";

/// What has to be done, found out without changing anything.
#[derive(Debug)]
pub struct Plan {
    version: Version,
    via: Via,
    now: Now,
    /// What a link would hold.
    target: PathBuf,
    /// The paths that stay as links to `shared` in a copy.
    shared: Vec<RelPath>,
}

/// What `current` is now.
#[derive(Debug, PartialEq, Eq)]
enum Now {
    Nothing,
    Link(PathBuf),
    Directory,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Switched {
    /// Whether `current` is different now.
    pub changed: bool,
    /// What stood in the way and has been moved into the trash of the releases'
    /// directory.
    pub trash: Vec<trash::Item>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Looks at `current` and plans its switch to a release.
///
/// # Errors
/// When the release is missing, or when something stands at `current` that no deploy
/// has put there.
pub fn plan(root: &Root, version: &Version, via: Via, shared: &[RelPath]) -> Result<Plan, Failure> {
    let layout = root.layout();
    let cannot = |code, cause: String| {
        Failure::new(code, format!("cannot activate {version}"))
            .cause(cause)
            .state("Nothing was changed.")
    };
    let release = root.releases_if_there()?.map(|dir| dir.lookup(version)).transpose()?.flatten();
    if !release.is_some_and(|info| info.is_dir()) {
        let path = layout.release_path(version);
        return Err(cannot(NO_RELEASE, format!("there is no release '{}'", path.display()))
            .remedy("deploy it first (release_unpack or release_copy)")
            .path(path));
    }
    let current = layout.current_path();
    let now = match root.dir().lookup(&layout.current_dir)? {
        None => Now::Nothing,
        Some(info) if info.is_symlink() => {
            Now::Link(root.dir().read_link(&layout.current_dir)?.unwrap_or_default())
        }
        Some(info) if info.is_dir() => {
            // A copy of a release has its REVISION. Anything else is somebody's data.
            let dir = root.dir().open_below(&layout.current_dir)?;
            if dir.lookup(REVISION)?.is_none() && !dir.names()?.is_empty() {
                return Err(cannot(
                    "blocked_path",
                    format!("'{}' is a directory that no deploy has made", current.display()),
                )
                .remedy("move it away, then deploy again")
                .path(current));
            }
            Now::Directory
        }
        Some(info) => {
            return Err(cannot(
                "blocked_path",
                format!(
                    "'{}' is {}, neither a link nor a directory",
                    current.display(),
                    info.noun()
                ),
            )
            .remedy("move it away, then deploy again")
            .path(current));
        }
    };
    Ok(Plan {
        version: version.clone(),
        via,
        now,
        target: layout.link_target(version),
        shared: shared.to_vec(),
    })
}

impl Plan {
    /// Whether anything has to be done. A copy is compared when it is made.
    pub fn is_needed(&self) -> bool {
        self.via == Via::Rsync || self.now != Now::Link(self.target.clone())
    }

    /// For `--diff`.
    pub fn diff(&self, root: &Root) -> Diff {
        let before = match &self.now {
            Now::Nothing => "absent".to_owned(),
            Now::Link(target) => format!("link to {}", target.display()),
            Now::Directory => "directory".to_owned(),
        };
        let after = match self.via {
            Via::Symlink => format!("link to {}", self.target.display()),
            Via::Rsync => format!("directory, a copy of {}", self.target.display()),
        };
        Diff {
            header: root.layout().current_path().display().to_string(),
            before: vec![before],
            after: vec![after],
        }
    }

    /// Does it and writes it into the history.
    ///
    /// # Errors
    /// An I/O error, with what `current` leads to then.
    pub fn apply(&self, root: &Root) -> Result<Switched, Failure> {
        let parent = match root.layout().current_dir.parent() {
            Some(path) => root.dir().ensure_below(&path)?.0,
            None => root.dir().duplicate()?,
        };
        let name = Path::new(root.layout().current_dir.name());
        let releases = root.releases()?;
        let switched = match self.via {
            Via::Symlink => self.to_link(&parent, name, &releases),
            Via::Rsync => self.to_copy(&parent, name, &releases, root),
        }?;
        let revision = releases.open_dir(&self.version)?.read(REVISION).ok().flatten();
        let revision = revision.map(|text| {
            let text = String::from_utf8_lossy(&text).into_owned();
            text.lines().next().unwrap_or_default().chars().take(200).collect()
        });
        let history = root.history()?;
        // A live release that was deployed again is not switched to, but it is live anew.
        let noted = history.last_activated() == Some(self.version.as_str())
            && history.latest(&self.version).is_some_and(|record| record.activated.is_some());
        if switched.changed || !noted {
            root.record(&self.version, EventKind::Activated { revision })?;
        }
        Ok(switched)
    }

    fn to_link(&self, parent: &Dir, name: &Path, releases: &Dir) -> Result<Switched, Failure> {
        let mut switched = Switched { changed: true, ..Switched::default() };
        match self.now {
            Now::Link(ref target) if *target == self.target => switched.changed = false,
            Now::Nothing | Now::Link(_) => parent.replace_with_symlink(name, &self.target)?,
            Now::Directory => {
                let link = parent.temporary(name);
                parent.make_symlink(&link, &self.target)?;
                self.put_in_place(parent, link.as_ref(), name, releases, &mut switched)?;
            }
        }
        parent.sync()?;
        Ok(switched)
    }

    fn to_copy(
        &self,
        parent: &Dir,
        name: &Path,
        releases: &Dir,
        root: &Root,
    ) -> Result<Switched, Failure> {
        let release = releases.open_dir(&self.version)?;
        if self.now == Now::Directory {
            let live = parent.open_dir(name)?;
            let options = SyncOptions { protect: self.shared.clone(), ..SyncOptions::default() };
            let synced = sync_tree(&release, &live, &options)?;
            let linked = self.link_shared(&live, root, releases)?;
            return Ok(Switched {
                changed: synced.changed() || linked.changed,
                trash: linked.trash,
                warnings: Vec::new(),
            });
        }
        let mut switched = Switched { changed: true, ..Switched::default() };
        let temporary = parent.temporary(name);
        let copy = parent.make_dir(&temporary, 0o777)?;
        // Like rsync --no-times: a file's time says when it went live.
        let options =
            CopyOptions { exclude: self.shared.clone(), times: false, ..CopyOptions::default() };
        let made = copy_tree(&release, &copy, &options)
            .and_then(|_| self.link_shared(&copy, root, releases));
        if let Err(failure) = made {
            // Not here: after a signal nothing is removed in this process any more.
            let _ = trash::adopt(parent, temporary.as_ref(), releases)
                .and_then(|item| trash::empty_later(releases, &[item]));
            return Err(failure.state("'current' is as it was."));
        }
        if self.now == Now::Nothing {
            parent.rename(&temporary, name)?;
        } else {
            self.put_in_place(parent, temporary.as_ref(), name, releases, &mut switched)?;
        }
        parent.sync()?;
        Ok(switched)
    }

    /// Exchanges what has been made with what is there, and discards that.
    fn put_in_place(
        &self,
        parent: &Dir,
        made: &Path,
        name: &Path,
        releases: &Dir,
        switched: &mut Switched,
    ) -> Result<(), Failure> {
        if !parent.exchange(made, name)? {
            // No renameat2 here. The gap is two renames long.
            let aside = parent.temporary(name);
            parent.rename(name, &aside)?;
            if let Err(failure) = parent.rename(made, name) {
                let _ = parent.rename(&aside, name);
                return Err(failure.state("'current' is as it was."));
            }
            parent.rename(&aside, made)?;
            switched.warnings.push(format!(
                "this file system cannot exchange two names: '{}' was missing for a moment",
                parent.at(name).display()
            ));
        }
        if parent.lookup(made)?.is_some_and(|info| info.is_dir()) {
            switched.trash.push(trash::adopt(parent, made, releases)?);
        } else {
            parent.remove_file(made)?;
        }
        Ok(())
    }

    /// The links to what is shared, in a copy of a release: one by one, each by a rename.
    fn link_shared(&self, live: &Dir, root: &Root, releases: &Dir) -> Result<Switched, Failure> {
        let mut switched = Switched::default();
        for path in &self.shared {
            let (dir, _) = match path.parent() {
                Some(parent) => live.ensure_below(&parent)?,
                None => (live.duplicate()?, false),
            };
            let name = Path::new(path.name());
            let up = path.depth() - 1 + root.layout().current_dir.depth();
            let target: PathBuf = std::iter::repeat_n(Path::new(".."), up)
                .chain([root.layout().shared_dir.as_path(), path.as_path()])
                .collect();
            if dir.read_link(name)?.as_ref() == Some(&target) {
                continue;
            }
            switched.changed = true;
            if dir.lookup(name)?.is_some_and(|info| info.is_dir()) {
                let link = dir.temporary(name);
                dir.make_symlink(&link, &target)?;
                self.put_in_place(&dir, link.as_ref(), name, releases, &mut switched)?;
            } else {
                dir.replace_with_symlink(name, &target)?;
            }
        }
        Ok(switched)
    }
}
