//! Gives a new release its final name: the common part of `release_unpack` and `release_copy`.

use oxistrano_core::{Dir, Failure, RelPath};

use crate::deployer::Deployer;
use crate::release::{REVISION, State};
use crate::root::Root;
use crate::staging::Staging;
use crate::{EventKind, Version, durable, links, replaced, trash};

/// Whether there is anything to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The release exists, from the same archive.
    Unchanged,
    /// It has to be made.
    Make,
    /// It has to be made, and replaces an existing one.
    Replace,
}

/// A release to be made.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// The deploy root.
    pub root: &'a Root,
    /// The release.
    pub version: &'a Version,
    /// The content of its `REVISION`.
    pub revision: &'a str,
    /// What it is made from, if that can be recognised: an archive's checksum and how it is unpacked.
    pub source: Option<&'a str>,
    /// Replace even the active release, or one that no deploy has made.
    pub force: bool,
    /// The shared paths. A release that replaces the active one needs its links before it does.
    pub shared: &'a [RelPath],
}

impl Placement<'_> {
    /// Decides by what exists.
    ///
    /// # Errors
    /// `release_exists` when replacing it needs `force`; `release_in_use`.
    pub fn decide(&self) -> Result<Decision, Failure> {
        if self.root.is_busy(self.version)? {
            let path = self.root.layout().release_path(self.version);
            return Err(Failure::new(
                "release_in_use",
                format!("cannot make release {}", self.version),
            )
            .cause(
                "an interrupted deploy made a release with this name, and a command is still \
                 running in it",
            )
            .remedy(
                "deploy again when the command has ended, or choose another \
                ansistrano_release_version",
            )
            .state("Nothing was changed.")
            .path(path));
        }
        let releases = self.root.all_releases()?;
        let Some(there) = releases.get(self.version) else {
            let exists = match self.root.releases_if_there()? {
                Some(dir) => dir.lookup(self.version)?.is_some(),
                None => false,
            };
            // A file or a link is not a release.
            return if exists {
                Err(self.exists("it is not a directory"))
            } else {
                Ok(Decision::Make)
            };
        };
        let recorded = there.record.as_ref().and_then(|record| record.source.as_deref());
        if recorded.is_some() && recorded == self.source && self.same_revision()? {
            return Ok(Decision::Unchanged);
        }
        match there.state {
            State::Active if !self.force => Err(self.exists("it is live")),
            State::Unrecognised if !self.force => Err(self.exists("no known deploy made it")),
            _ => Ok(Decision::Replace),
        }
    }

    fn same_revision(&self) -> Result<bool, Failure> {
        let dir = self.root.releases()?.open_dir(self.version)?;
        Ok(dir.read(REVISION)?.as_deref() == Some(self.revision.as_bytes()))
    }

    fn exists(&self, why: &str) -> Failure {
        Failure::new("release_exists", format!("release {} already exists", self.version))
            .cause(why)
            .remedy(
                "choose another ansistrano_release_version, or replace it with force (in the \
                 role, oxistrano_replace_release: true)",
            )
            .state("Nothing was changed.")
            .path(self.root.layout().release_path(self.version))
    }

    /// Records in lock and history that this is the release in progress.
    ///
    /// # Errors
    /// `locked`, or an I/O error.
    pub fn begin(&self, deployer: &Deployer) -> Result<(), Failure> {
        if let Some(lock) = self.root.require_unlocked(deployer)? {
            self.root.relabel_lock(lock, self.version)?;
        }
        let history = self.root.history()?;
        let open = history.latest(self.version).is_some_and(|record| {
            record.ended.is_none() && record.activated.is_none() && !record.placed
        });
        if !open {
            self.root.record(self.version, Root::started_event(deployer))?;
        }
        Ok(())
    }

    /// Writes `REVISION`, gives the staged tree its final name and records that in the history.
    /// Returns the replaced release, as trash.
    ///
    /// # Errors
    /// An I/O error; nothing is left behind then.
    pub fn finish(&self, staging: Staging<'_>) -> Result<Option<trash::Item>, Failure> {
        let nothing_left = |failure: Failure| {
            failure.state("The unfinished release was removed; the live release is unchanged.")
        };
        write_revision(staging.dir(), self.revision).map_err(nothing_left)?;
        let layout = self.root.layout();
        let there = self.root.all_releases().map_err(nothing_left)?;
        let state = there.get(self.version).map(|release| release.state);
        if state == Some(State::Active) {
            let missing =
                links::missing(staging.dir(), self.shared, |path| layout.shared_target(path));
            for link in missing.map_err(nothing_left)? {
                link.make(staging.dir()).map_err(nothing_left)?;
            }
            // It is live as soon as it has its final name.
            durable::secure(self.root, staging.dir()).map_err(nothing_left)?;
        }
        let releases = self.root.releases().map_err(nothing_left)?;
        let was_live = matches!(state, Some(State::Active | State::Complete | State::RolledBack));
        // If one is already kept, that is the one to restore.
        let keep = was_live && !replaced::is_kept(&releases, self.version)?;
        let replaced = staging.commit(self.version, keep).map_err(nothing_left)?;
        let in_place = |failure: Failure| {
            failure.state(format!(
                "The release {} was made, but the history does not record it.",
                self.version
            ))
        };
        let source = self.source.map(str::to_owned);
        self.root.record(self.version, EventKind::Placed { source }).map_err(in_place)?;
        Ok(replaced)
    }
}

/// Writes `REVISION` as the upstream role does: no newline, permissions by the umask.
fn write_revision(release: &Dir, revision: &str) -> Result<(), Failure> {
    if release.lookup(REVISION)?.is_some_and(|info| info.is_dir()) {
        return Err(Failure::new("revision_is_a_directory", "cannot write REVISION")
            .cause("the artifact has a directory of that name")
            .remedy("build the artifact without it"));
    }
    release.write(REVISION, revision.as_bytes(), 0o666)
}
