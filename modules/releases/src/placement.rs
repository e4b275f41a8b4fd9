//! Putting a release in its place: what `release_unpack` and `release_copy` have in
//! common.

use oxistrano_core::{Dir, Failure, RelPath};

use crate::deployer::Deployer;
use crate::release::{REVISION, State};
use crate::root::Root;
use crate::staging::Staging;
use crate::{EventKind, Version, durable, links, replaced, trash};

/// Whether there is anything to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The release is there, from the same archive.
    Unchanged,
    /// It has to be made.
    Make,
    /// It has to be made and takes the place of one that is there.
    Replace,
}

/// A release that is to be put in its place.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// The deploy root.
    pub root: &'a Root,
    /// The release.
    pub version: &'a Version,
    /// What its `REVISION` will say.
    pub revision: &'a str,
    /// What it is made from, where that can be told again: an archive's checksum and how it
    /// is unpacked.
    pub source: Option<&'a str>,
    /// Replace even the active release and what no deploy has made.
    pub force: bool,
    /// The shared paths. A release that takes the place of the active one is linked to
    /// them before it does.
    pub shared: &'a [RelPath],
}

impl Placement<'_> {
    /// Looks at what is there.
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
                "an interrupted deploy has made one of that name, and a command still runs in it",
            )
            .remedy("deploy again when it has ended, or choose another ansistrano_release_version")
            .state("Nothing was changed.")
            .path(path));
        }
        let releases = self.root.all_releases()?;
        let Some(there) = releases.get(self.version) else {
            let exists = match self.root.releases_if_there()? {
                Some(dir) => dir.lookup(self.version)?.is_some(),
                None => false,
            };
            // A file or a link: no release.
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
            State::Unrecognised if !self.force => {
                Err(self.exists("no deploy is known to have made it"))
            }
            _ => Ok(Decision::Replace),
        }
    }

    fn same_revision(&self) -> Result<bool, Failure> {
        let dir = self.root.releases()?.open_dir(self.version)?;
        Ok(dir.read(REVISION)?.as_deref() == Some(self.revision.as_bytes()))
    }

    fn exists(&self, why: &str) -> Failure {
        Failure::new("release_exists", format!("there is a release {} already", self.version))
            .cause(why)
            .remedy(
                "choose another ansistrano_release_version, or replace it with force \
                 (the role: oxistrano_replace_release: true)",
            )
            .state("Nothing was changed.")
            .path(self.root.layout().release_path(self.version))
    }

    /// Says in lock and history that this is the release in progress.
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

    /// Writes `REVISION`, gives the staged tree its final name and says so in the
    /// history. Returns what was replaced, as trash.
    ///
    /// # Errors
    /// An I/O error; nothing is left behind then.
    pub fn finish(&self, staging: Staging<'_>) -> Result<Option<trash::Item>, Failure> {
        let nothing_left = |failure: Failure| {
            failure.state("The unfinished release was removed; what was live is untouched.")
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
            // It is live as soon as it has its name.
            durable::secure(self.root, staging.dir()).map_err(nothing_left)?;
        }
        let releases = self.root.releases().map_err(nothing_left)?;
        let was_live = matches!(state, Some(State::Active | State::Complete | State::RolledBack));
        // One that is kept already is the one to go back to.
        let keep = was_live && !replaced::is_kept(&releases, self.version)?;
        let replaced = staging.commit(self.version, keep).map_err(nothing_left)?;
        let in_place = |failure: Failure| {
            failure
                .state(format!("Release {} is in its place, but not noted as such.", self.version))
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
