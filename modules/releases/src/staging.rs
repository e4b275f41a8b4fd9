//! A release that is being made: a directory next to the releases that gets its final name when it is complete.

use rustix::io::Errno;

use oxistrano_core::{Dir, Failure, remove};

use crate::{Version, replaced, trash};

/// The name of the staging directory. One is enough, because the lock allows one deploy.
pub const NAME: &str = ".oxistrano-staging";

/// The staging directory. If it is dropped without [`Staging::commit`], it is removed.
#[derive(Debug)]
pub struct Staging<'a> {
    releases: &'a Dir,
    dir: Dir,
    committed: bool,
    /// The name that it had before. It gets it again if it does not become a release.
    before: Option<&'static str>,
}

impl<'a> Staging<'a> {
    /// Creates an empty one and removes that of an earlier try.
    ///
    /// # Errors
    /// An I/O error.
    pub fn create(releases: &'a Dir) -> Result<Self, Failure> {
        remove::remove_tree(releases, NAME)?;
        let dir = releases.make_dir(NAME, 0o777).inspect_err(|_| {
            // It may have been created, but could not be opened.
            let _ = remove::remove_tree(releases, NAME);
        })?;
        Ok(Self { releases, dir, committed: false, before: None })
    }

    /// Opens the one that another program has filled.
    ///
    /// # Errors
    /// When there is none.
    pub fn adopt(releases: &'a Dir) -> Result<Self, Failure> {
        let dir = releases.open_dir(NAME)?;
        Ok(Self { releases, dir, committed: false, before: None })
    }

    /// Remembers the name that it had before.
    pub(crate) fn had_name(&mut self, name: &'static str) {
        self.before = Some(name);
    }

    /// Moves it to the trash.
    ///
    /// # Errors
    /// An I/O error.
    pub fn give_up(mut self) -> Result<trash::Item, Failure> {
        let item = trash::discard(self.releases, NAME)?;
        self.committed = true;
        Ok(item)
    }

    /// The directory to fill.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Gives it its final name. An existing release of that name is exchanged with it in one step,
    /// and kept ([`replaced`]) or returned as trash.
    ///
    /// # Errors
    /// An I/O error; nothing is left behind then.
    pub fn commit(mut self, version: &Version, keep: bool) -> Result<Option<trash::Item>, Failure> {
        trash::make_way(self.releases, version)?;
        if self.releases.rename_new(NAME, version)? {
            self.committed = true;
            return Ok(None);
        }
        if keep {
            replaced::exchange(self.releases, NAME, version).map_err(|failure| {
                match failure.is(Errno::XDEV) {
                    true => failure.remedy(
                        "it is part of a container image (a lower layer of an overlayfs) and \
                         cannot be replaced in one step: choose another version",
                    ),
                    false => failure,
                }
            })?;
            self.committed = true;
            return Ok(None);
        }
        match self.releases.put_in_place(NAME, version) {
            // It was never live, so it may be missing for a moment.
            Err(failure) if failure.is(Errno::XDEV) => {
                trash::discard(self.releases, version)?;
                self.releases.rename(NAME, version)?;
                self.committed = true;
                return Ok(None);
            }
            other => other?,
        };
        self.committed = true;
        let replaced = trash::discard(self.releases, NAME)?;
        Ok(Some(replaced))
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // Unless there is another one of that name.
        if let Some(before) = self.before.filter(|_| !self.committed)
            && self.releases.rename_new(NAME, before).unwrap_or(false)
        {
            return;
        }
        // After a signal, this process removes nothing any more; another process does it.
        if !self.committed && remove::remove_tree(self.releases, NAME).is_err() {
            // Otherwise the next release_setup removes it.
            let _ = trash::discard(self.releases, NAME)
                .map(|item| trash::empty_later(self.releases, &[item]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_absent_or_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let releases = Dir::open(scratch.path()).unwrap();
        let version = Version::new("1").unwrap();
        let staging = Staging::create(&releases).unwrap();
        std::fs::write(staging.dir().at("file"), "").unwrap();
        drop(staging);
        assert!(releases.names().unwrap().is_empty());
        let staging = Staging::create(&releases).unwrap();
        std::fs::write(staging.dir().at("file"), "new").unwrap();
        assert!(staging.commit(&version, false).unwrap().is_none());
        assert_eq!(std::fs::read(scratch.path().join("1/file")).unwrap(), b"new");
    }

    #[test]
    fn a_release_of_the_same_name_is_exchanged() {
        let scratch = tempfile::tempdir().unwrap();
        let releases = Dir::open(scratch.path()).unwrap();
        let version = Version::new("1").unwrap();
        std::fs::create_dir(scratch.path().join("1")).unwrap();
        std::fs::write(scratch.path().join("1/old"), "").unwrap();
        let staging = Staging::create(&releases).unwrap();
        std::fs::write(staging.dir().at("new"), "").unwrap();
        let old = staging.commit(&version, false).unwrap().unwrap();
        assert!(scratch.path().join("1/new").exists());
        assert!(scratch.path().join(old.name()).join("old").exists());
        trash::empty(&releases, vec![old]).unwrap();
        assert_eq!(releases.names().unwrap(), ["1"]);
    }
}
