//! The switch: the only code that changes which release `current` leads to, for deploys and
//! rollbacks. A reader always finds `current`, with one exception: a change between directory and
//! link on a file system that cannot exchange two names.

use std::path::{Path, PathBuf};

use oxistrano_core::{Diff, Dir, Failure, RelPath};
use oxistrano_tree::{CopyOptions, SyncOptions, copy_tree, sync_tree};

use crate::options::Via;
use crate::release::REVISION;
use crate::root::{Layout, Root};
use crate::{EventKind, Version, durable, links, replaced, shared_links, trash};

/// The file with the shared paths of a release for an `rsync` into `current`. The upstream role
/// writes it, and hooks that call rsync may use it.
pub const FILTER: &str = ".rsync-filter";

/// The `code` of the failure for a missing release.
pub const NO_RELEASE: &str = "no_release";

/// What has to be done; making the plan changes nothing.
#[derive(Debug)]
pub struct Plan {
    version: Version,
    via: Via,
    now: Now,
    /// The target of the link.
    target: PathBuf,
    /// The paths that stay links to `shared` in a copy.
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
    /// Whether `current` has changed.
    pub changed: bool,
    /// What was replaced and is now in the trash.
    pub trash: Vec<trash::Item>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Examines `current` and plans the switch to a release.
///
/// # Errors
/// When the release is missing, or when no deploy has made what is at `current`.
pub fn plan(root: &Root, version: &Version, via: Via, shared: &[RelPath]) -> Result<Plan, Failure> {
    let layout = root.layout();
    let release = root.releases_if_there()?.map(|dir| dir.lookup(version)).transpose()?.flatten();
    if !release.is_some_and(|info| info.is_dir()) {
        let path = layout.release_path(version);
        return Err(Failure::new(NO_RELEASE, format!("cannot activate {version}"))
            .cause(format!("the release '{}' does not exist", path.display()))
            .remedy("deploy it first (release_unpack or release_copy)")
            .state("Nothing was changed.")
            .path(path));
    }
    let shared = if shared.is_empty() { known_shared(root, version)? } else { shared.to_vec() };
    Ok(Plan { shared, ..plan_ahead(root, version, via)? })
}

/// The same for a release that does not exist yet, in check mode.
///
/// # Errors
/// When no deploy has made what is at `current`.
pub fn plan_ahead(root: &Root, version: &Version, via: Via) -> Result<Plan, Failure> {
    let layout = root.layout();
    let cannot = |code, cause: String| {
        Failure::new(code, format!("cannot activate {version}"))
            .cause(cause)
            .state("Nothing was changed.")
    };
    let current = layout.current_path();
    let now = match root.dir().lookup(&layout.current_dir)? {
        None => Now::Nothing,
        Some(info) if info.is_symlink() => {
            Now::Link(root.dir().read_link(&layout.current_dir)?.unwrap_or_default())
        }
        Some(info) if info.is_dir() => {
            // A copy of a release has its REVISION. Any other directory may be somebody's data.
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
                format!("'{}' is {}, not a link or a directory", current.display(), info.noun()),
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
        shared: Vec::new(),
    })
}

/// The shared paths that a release was deployed with, from the history, and from its filter file if
/// the upstream role made it.
fn known_shared(root: &Root, version: &Version) -> Result<Vec<RelPath>, Failure> {
    let history = root.history()?;
    let noted = history.maker(version).map(|(_, record)| record.shared.clone()).unwrap_or_default();
    let filter = root.releases()?.open_dir(version)?.read(FILTER)?.unwrap_or_default();
    let filter = String::from_utf8_lossy(&filter).into_owned();
    let named = filter.lines().filter_map(|line| line.strip_prefix("- /"));
    let paths: Vec<_> = noted
        .iter()
        .map(String::as_str)
        .chain(named)
        .filter_map(|path| RelPath::new(path).ok())
        .collect();
    Ok(shared_links(&paths, &[]).paths)
}

/// Adds the activation of the live release to the history if it is missing: the module that
/// switched was killed or could not write, or the release was made without Oxistrano, and a
/// rollback may go to it.
///
/// # Errors
/// An I/O error.
pub fn note_what_is_live(root: &Root, releases: &Dir) -> Result<(), Failure> {
    let all = root.all_releases()?;
    let Some(active) = all.active() else { return Ok(()) };
    let unnoted = match &active.record {
        None => true,
        Some(record) => record.rolled_back.is_none() && !all.history().was_active(&active.version),
    };
    if unnoted && all.via() == Some(Via::Symlink) && !replaced::is_kept(releases, &active.version)?
    {
        let (revision, shared) = (revision_of(releases, &active.version)?, Vec::new());
        // It is live since the link was made.
        let link = root.dir().lookup(&root.layout().current_dir)?;
        let since = link.map_or(i64::MAX, |link| link.mtime());
        root.record_at(since, &active.version, EventKind::Activated { revision, shared })?;
    }
    Ok(())
}

/// The first line of a release's `REVISION`, if it can be read.
pub fn revision(root: &Root, version: &Version) -> Option<String> {
    let releases = root.releases_if_there().ok()??;
    revision_of(&releases, version).ok()?
}

fn revision_of(releases: &Dir, version: &Version) -> Result<Option<String>, Failure> {
    let text = releases.open_dir(version)?.read(REVISION).ok().flatten();
    Ok(text.map(|text| {
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().next().unwrap_or_default().chars().take(200).collect()
    }))
}

/// For `--diff`, if there is no deploy root yet.
pub fn first_diff(layout: &Layout, version: &Version, via: Via) -> Diff {
    diff(layout, &Now::Nothing, via, &layout.link_target(version))
}

fn diff(layout: &Layout, now: &Now, via: Via, target: &Path) -> Diff {
    let before = match now {
        Now::Nothing => "absent".to_owned(),
        Now::Link(target) => format!("link to {}", target.display()),
        Now::Directory => "directory".to_owned(),
    };
    let after = match via {
        Via::Symlink => format!("link to {}", target.display()),
        Via::Rsync => format!("directory, a copy of {}", target.display()),
    };
    Diff {
        header: layout.current_path().display().to_string(),
        before: vec![before],
        after: vec![after],
    }
}

impl Plan {
    /// Whether anything has to be done. A copy is compared when it is made.
    pub fn is_needed(&self) -> bool {
        self.via == Via::Rsync || self.now != Now::Link(self.target.clone())
    }

    /// For `--diff`.
    pub fn diff(&self, root: &Root) -> Diff {
        diff(root.layout(), &self.now, self.via, &self.target)
    }

    /// Switches and records it in the history. With `durable`, waits first until the release is on
    /// the disk; one that was live before is already there.
    ///
    /// # Errors
    /// An I/O error, with what `current` leads to then.
    pub fn apply(&self, root: &Root, durable: bool) -> Result<Switched, Failure> {
        let parent = match root.layout().current_dir.parent() {
            Some(path) => root.dir().ensure_below(&path)?.0,
            None => root.dir().duplicate()?,
        };
        let name = Path::new(root.layout().current_dir.name());
        let releases = root.releases()?;
        if durable && self.via == Via::Symlink && self.is_needed() {
            durable::secure(root, &releases.open_dir(&self.version)?)
                .map_err(|failure| failure.state("'current' was not changed."))?;
        }
        let switched = match self.via {
            Via::Symlink => self.to_link(&parent, name, &releases),
            Via::Rsync => self.to_copy(&parent, name, &releases, root, durable),
        }?;
        let history = root.history()?;
        // A live release that was deployed again needs no switch, but its activation must be recorded.
        let noted = history.last_activated() == Some(self.version.as_str())
            && history.latest(&self.version).is_some_and(|record| record.activated.is_some());
        if switched.changed || !noted {
            let revision = revision_of(&releases, &self.version)?;
            let shared = self.shared.iter().map(ToString::to_string).collect();
            root.record(&self.version, EventKind::Activated { revision, shared }).map_err(
                |failure| {
                    failure.state(format!(
                        "{} is live, but the history does not record it.",
                        self.version
                    ))
                },
            )?;
        }
        Ok(switched)
    }

    fn to_link(&self, parent: &Dir, name: &Path, releases: &Dir) -> Result<Switched, Failure> {
        let mut switched = Switched { changed: true, ..Switched::default() };
        match self.now {
            Now::Link(ref target) if *target == self.target => switched.changed = false,
            Now::Nothing | Now::Link(_) => parent
                .replace_with_symlink(name, &self.target)
                .map_err(|failure| failure.state("'current' was not changed."))?,
            Now::Directory => {
                let link = parent.temporary(name);
                parent.make_symlink(&link, &self.target)?;
                put_in_place(parent, link.as_ref(), name, releases, &mut switched)?;
            }
        }
        parent.sync().map_err(|failure| {
            failure.state(format!("{} is live, but the history does not record it.", self.version))
        })?;
        Ok(switched)
    }

    fn to_copy(
        &self,
        parent: &Dir,
        name: &Path,
        releases: &Dir,
        root: &Root,
        durable: bool,
    ) -> Result<Switched, Failure> {
        let release = releases.open_dir(&self.version)?;
        if self.now == Now::Directory {
            let live = parent.open_dir(name)?;
            let switched = self.bring_up_to_date(&live, &release, releases, root)?;
            if durable && switched.changed {
                durable::secure(root, &live).map_err(|failure| {
                    failure.state(format!(
                        "{} is live, but the history does not record it.",
                        self.version
                    ))
                })?;
            }
            return Ok(switched);
        }
        let mut switched = Switched { changed: true, ..Switched::default() };
        let temporary = parent.temporary(name);
        let copy = parent.make_dir(&temporary, 0o777)?;
        // Like rsync --no-times: a file's time says when it went live.
        let options = CopyOptions {
            exclude: self.shared.clone(),
            times: false,
            inherit: true,
            ..CopyOptions::default()
        };
        let made = copy_tree(&release, &copy, &options)
            .and_then(|_| self.link_shared(&copy, root))
            .and_then(|_| if durable { durable::secure(root, &copy) } else { Ok(()) });
        if let Err(failure) = made {
            // By another process: after a signal, this one removes nothing any more.
            let _ = trash::adopt(parent, temporary.as_ref(), releases)
                .map(|item| trash::empty_later(releases, &[item]));
            return Err(failure.state("'current' was not changed."));
        }
        if self.now == Now::Nothing {
            parent.rename(&temporary, name)?;
        } else {
            put_in_place(parent, temporary.as_ref(), name, releases, &mut switched)?;
        }
        parent.sync()?;
        Ok(switched)
    }

    /// Updates a live copy to another release. If that fails half way, restores it.
    fn bring_up_to_date(
        &self,
        live: &Dir,
        release: &Dir,
        releases: &Dir,
        root: &Root,
    ) -> Result<Switched, Failure> {
        let all = root.all_releases()?;
        let before = all.active().map(|active| releases.open_dir(&active.version)).transpose()?;
        let options = SyncOptions { protect: self.shared.clone(), ..SyncOptions::default() };
        let brought = sync_tree(release, live, &options)
            .and_then(|synced| Ok((synced, self.link_shared(live, root)?)));
        match brought {
            Ok((synced, linked)) => {
                Ok(Switched { changed: synced.changed() || linked, ..Switched::default() })
            }
            Err(failure) => {
                let back = before.map(|before| sync_tree(&before, live, &options));
                Err(failure.instead_of_state(match back {
                    Some(Ok(_)) => "'current' was restored.".to_owned(),
                    _ => format!(
                        "'current' has files of both the old release and {}: deploy or roll back \
                         again.",
                        self.version
                    ),
                }))
            }
        }
    }

    /// Makes the links to shared paths in a copy of a release, each by a rename.
    fn link_shared(&self, live: &Dir, root: &Root) -> Result<bool, Failure> {
        let target = |path: &RelPath| root.layout().shared_target_of_copy(path);
        let missing = links::missing(live, &self.shared, target)?;
        for link in &missing {
            link.make(live)?;
        }
        Ok(!missing.is_empty())
    }
}

/// Replaces what exists by what was made, and discards the old.
fn put_in_place(
    parent: &Dir,
    made: &Path,
    name: &Path,
    releases: &Dir,
    switched: &mut Switched,
) -> Result<(), Failure> {
    let in_one_step = parent
        .put_in_place(made, name)
        .map_err(|failure| failure.state("'current' was not changed."))?;
    if !in_one_step {
        switched.warnings.push(format!(
            "'{}' was missing for a moment, because this file system cannot exchange two names",
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
