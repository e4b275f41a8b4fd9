//! Creates directories and decides their owner, permissions and time.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oxistrano_core::{Failure, IoContext};
use rustix::fs::{self, FileType, Gid, Mode, Uid};
use rustix::io::Errno;

use crate::directories::{Directories, State, Wanted, created_with};
use crate::failures;
use crate::identity::Ids;
use crate::pending::Pending;
use crate::place::{self, Finally, Owner, Place, kind};

/// The memory limit, in bytes, for permissions that are set at the end.
const MOST_KEPT: usize = 12 << 20;
/// The approximate memory of one, in addition to its name.
const KEPT: usize = 96;

impl Directories<'_> {
    /// Creates the directory of an entry, or sets the attributes of the existing one.
    pub(crate) fn make(
        &mut self,
        path: &Path,
        wanted: Wanted,
        pending: &mut Pending<'_>,
    ) -> Result<(), Failure> {
        let bytes = path.as_os_str().as_bytes();
        let name = path.file_name().unwrap_or_default();
        if let Some(level) = self.level_of(bytes) {
            let finally = self.finally_of_old(bytes, wanted)?;
            match self.levels.get_mut(level).map(|level| &mut level.state) {
                Some(State::Open(place)) => place.set_finally(finally),
                Some(State::Unopened(unopened) | State::Quiet(unopened)) => *unopened = finally,
                None => {}
            }
            return Ok(());
        }
        loop {
            let above = self.parent_of(path, pending)?;
            if pending.has(&above, name) {
                pending.settle()?;
            }
            if self.takes(bytes) {
                return self.adopt(&above, name, wanted);
            }
            let mode = Mode::from_raw_mode(created_with(wanted.mode));
            match fs::mkdirat(&above, name, mode) {
                Ok(()) => return self.made(&above, name, wanted),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.failed("create the directory", &above, name, error)),
            }
            let there = above.lookup(name).or_fail("examine", self.shown(path))?;
            if there.is_some_and(|stat| kind(&stat) == FileType::Directory) {
                // It was left before, and files in it may still be unwritten.
                pending.settle()?;
                let finally = self.finally_of_old(bytes, wanted)?;
                return self.finish_by_name(&above, name, finally);
            }
            self.clear(path, pending)?;
        }
    }

    /// Remembers the final attributes of a new directory and enters it.
    pub(super) fn made(
        &mut self,
        above: &Place,
        name: &OsStr,
        wanted: Wanted,
    ) -> Result<(), Failure> {
        let owner = self.owner_of_new(above, name, (wanted.uid, wanted.gid))?;
        let mode = wanted.mode | self.inherited;
        let mode_known =
            !above.peculiar && created_with(wanted.mode) & !self.umask | self.inherited == mode;
        let (mtime, number) = (wanted.mtime, wanted.number);
        let mut finally = Finally { owner, mtime, number, ..Finally::default() };
        let path = above.path().join(name);
        if !self.keep(path.as_os_str().as_bytes(), wanted.mode)? && !mode_known {
            finally.mode = Some(mode);
        }
        self.push(name, State::Unopened(finally));
        Ok(())
    }

    /// The final attributes of an existing directory.
    fn finally_of_old(&mut self, path: &[u8], wanted: Wanted) -> Result<Finally, Failure> {
        let Wanted { mode, uid, gid, mtime, number } = wanted;
        let mode = (!self.keep(path, mode)?).then_some(mode | self.inherited);
        let owner = (uid.is_some() || gid.is_some())
            .then_some((uid.map(Uid::from_raw), gid.map(Gid::from_raw)));
        Ok(Finally { mode, owner, mtime, adopted: false, number })
    }

    /// Whether the permissions have to be set at the end; the last entry counts.
    pub(super) fn keep(&mut self, path: &[u8], mode: u32) -> Result<bool, Failure> {
        if mode & 0o700 == 0o700 {
            self.forget(Path::new(OsStr::from_bytes(path)));
            return Ok(false);
        }
        if self.kept.insert(path.to_vec(), mode | self.inherited).is_none() {
            self.kept_bytes += path.len() + KEPT;
        }
        if self.kept_bytes > MOST_KEPT {
            let why = "too many of its directories have permissions without u+rwx";
            return Err(failures::too_large(self.archive, path, why));
        }
        Ok(true)
    }

    /// Something else may replace a directory.
    pub(crate) fn forget(&mut self, path: &Path) {
        let path = path.as_os_str().as_bytes();
        if !self.kept.is_empty() && self.kept.remove(path).is_some() {
            self.kept_bytes -= path.len() + KEPT;
        }
    }

    /// Owner and group of a new file, if they must be changed.
    pub(crate) fn owner_of_new(
        &mut self,
        place: &Place,
        name: &OsStr,
        (uid, gid): (Option<u32>, Option<u32>),
    ) -> Result<Option<Owner>, Failure> {
        if uid.is_none() && gid.is_none() {
            return Ok(None);
        }
        let born = if place.peculiar { (u32::MAX, u32::MAX) } else { self.born_in(place, name)? };
        let uid = uid.filter(|wanted| *wanted != born.0).map(Uid::from_raw);
        let gid = gid.filter(|wanted| *wanted != born.1).map(Gid::from_raw);
        Ok((uid.is_some() || gid.is_some()).then_some((uid, gid)))
    }

    /// Owner and group of new files, as seen with the first one.
    pub(crate) fn born_in(&mut self, place: &Place, name: &OsStr) -> Result<Ids, Failure> {
        if let Some(born) = self.born {
            return Ok(born);
        }
        let stat = place.lookup(name).or_fail("examine", self.shown(&place.path().join(name)))?;
        let born = stat.map_or((u32::MAX, u32::MAX), |stat| (stat.st_uid, stat.st_gid));
        Ok(*self.born.insert(born))
    }

    /// Removes what a later entry of the same name replaces: a file, a link, or an empty directory.
    pub(crate) fn clear(&mut self, path: &Path, pending: &mut Pending<'_>) -> Result<(), Failure> {
        let place = self.parent_of(path, pending)?;
        // Only after all is written, it is known whether a directory is empty.
        pending.settle()?;
        place::remove(&place, path, self.root_path, self.archive)?;
        self.forget(path);
        Ok(())
    }
}
