//! Handles what existed before: directories are adapted to the archive, and names without an entry are removed.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use oxistrano_core::{Failure, IoContext};
use rustix::fs::{self, Gid, Mode, Uid};
use rustix::io::Errno;

use crate::directories::{Directories, State, Wanted, created_with};
use crate::entry::Time;
use crate::place::{self, Finally, Place};
use crate::spare::Spare;

impl Directories<'_> {
    /// Uses an existing directory as the wanted one, or replaces it by a new one; enters it.
    pub(super) fn adopt(
        &mut self,
        above: &Place,
        name: &OsStr,
        wanted: Wanted,
    ) -> Result<(), Failure> {
        let path = above.path().join(name);
        let failed =
            |error| Failure::io("bring to the new release", &self.root_path.join(&path), error);
        let stock = Arc::clone(&self.stock);
        let spare = stock.spare.as_ref().ok_or_else(|| failed(Errno::STALE))?;
        let born = self.born.filter(|_| !above.peculiar);
        let there = match above.open(name) {
            Ok(fd) => spare.directory(&fd)?.map(|stat| (fd, stat)),
            Err(_) => None,
        };
        let (Some((fd, stat)), Some(born)) = (there, born) else {
            self.clear_before(spare, above, name)?;
            fs::mkdirat(above, name, Mode::from_raw_mode(created_with(wanted.mode)))
                .map_err(|error| self.failed("create the directory", above, name, error))?;
            return self.made(above, name, wanted);
        };
        // First, so that users who lose access cannot change its contents any more.
        let ids = (wanted.uid.unwrap_or(born.0), wanted.gid.unwrap_or(born.1));
        if ids != (stat.st_uid, stat.st_gid) {
            fs::fchown(&fd, Some(Uid::from_raw(ids.0)), Some(Gid::from_raw(ids.1)))
                .map_err(failed)?;
        }
        let last = wanted.mode | self.inherited;
        let waits = self.keep(path.as_os_str().as_bytes(), wanted.mode)?;
        let now = match waits || last & 0o2000 != self.inherited {
            true => created_with(wanted.mode) | self.inherited,
            false => last,
        };
        if stat.st_mode & 0o7777 != now {
            fs::fchmod(&fd, Mode::from_raw_mode(now)).map_err(failed)?;
        }
        self.remains.enter(path.as_os_str().as_bytes(), &fd).map_err(failed)?;
        self.places += 1;
        let place = Place::new(fd, self.places, path, false, None);
        let mode = (!waits && last != now).then_some(last);
        let (mtime, number) = (wanted.mtime, wanted.number);
        place.set_finally(Finally { mode, owner: None, mtime, adopted: true, number });
        self.push(name, State::Open(Arc::new(place)));
        Ok(())
    }

    /// Removes what exists under a name from before.
    fn clear_before(&self, spare: &Spare, place: &Place, name: &OsStr) -> Result<(), Failure> {
        CString::new(name.as_bytes())
            .map_err(|_| ("replace", Errno::INVAL))
            .and_then(|text| spare.clear(place, &text))
            .map_err(|(verb, error)| self.failed(verb, place, name, error))
    }

    /// Takes the name of an entry that is not a directory; returns whether it exists from before.
    /// An adapted directory contains only entries of the archive by then.
    pub(crate) fn take(&mut self, path: &Path) -> Result<bool, Failure> {
        let bytes = path.as_os_str().as_bytes();
        if self.remains.leave(bytes) {
            self.remove_remains(bytes)?;
        }
        Ok(self.takes(bytes))
    }

    /// Whether something exists only from before.
    pub(crate) fn is_of_before(&self, path: &Path) -> bool {
        self.remains.has(path.as_os_str().as_bytes())
    }

    /// Removes the names in a directory that no entry has taken.
    pub(super) fn remove_remains(&mut self, path: &[u8]) -> Result<(), Failure> {
        let stock = Arc::clone(&self.stock);
        let Some(spare) = stock.spare.as_ref() else { return Ok(()) };
        // As the place of something in it.
        let within = Path::new(OsStr::from_bytes(path)).join("x");
        let Some(place) = self.existing_parent_of(&within)? else { return Ok(()) };
        let shown = self.shown(place.path());
        let fd = place.open(OsStr::new(".")).or_fail("open the directory", &shown)?;
        let stat = fs::fstat(&fd).or_fail("examine", &shown)?;
        for name in self.remains.of(path, &fd).or_fail("read the directory", &shown)? {
            oxistrano_core::interrupt::check()?;
            self.clear_before(spare, &place, OsStr::from_bytes(&name))?;
        }
        let mtime = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
        fs::futimens(&fd, &place::times(mtime)).or_fail("set the time of", &shown)
    }
}
