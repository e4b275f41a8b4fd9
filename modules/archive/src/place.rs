//! A directory that is written into: its handle, and its final attributes.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oxistrano_core::Failure;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::entry::Time;
use crate::failures;
use crate::notes::{Mark, Notes};

/// What is to be changed of owner and group.
pub(crate) type Owner = (Option<Uid>, Option<Gid>);

const OPEN: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The final attributes of a directory; `None` leaves one unchanged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Finally {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<Owner>,
    pub(crate) mtime: Option<Time>,
    /// It existed before: its time is set only if it differs, and to now if none is given.
    pub(crate) adopted: bool,
    /// Its number among the directories of the archive, if it is to be noted.
    pub(crate) number: Option<u32>,
}

/// An open directory. Its writers share it; the last one to give it back ([`give_back`]) finishes it.
#[derive(Debug)]
pub(crate) struct Place {
    fd: OwnedFd,
    /// Different from that of every other place, one of the same directory included.
    pub(crate) number: u64,
    /// Where it was found; below the root.
    path: PathBuf,
    /// New files in it get another group: it was finished with a setgid bit, and then entered again.
    pub(crate) peculiar: bool,
    finally: Mutex<Finally>,
    /// The same directory of an earlier release.
    pub(crate) earlier: Option<OwnedFd>,
}

impl Place {
    /// A directory that is open; `path` is below the root.
    pub(crate) fn new(
        fd: OwnedFd,
        number: u64,
        path: PathBuf,
        peculiar: bool,
        earlier: Option<OwnedFd>,
    ) -> Self {
        Self { fd, number, path, peculiar, finally: Mutex::default(), earlier }
    }

    /// The same directory, to look around from.
    pub(crate) fn again(&self) -> Result<Self, Errno> {
        let fd = self.open(OsStr::new("."))?;
        Ok(Self::new(fd, self.number, self.path.clone(), self.peculiar, None))
    }

    /// A directory of the earlier release, where it is the same as here.
    pub(crate) fn earlier_below(&self, name: &OsStr) -> Option<OwnedFd> {
        self.earlier.as_ref().and_then(|above| crate::earlier::below(above, name))
    }

    /// Below the root.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes what it gets at the end.
    pub(crate) fn set_finally(&self, finally: Finally) {
        *self.finally.lock().unwrap_or_else(PoisonError::into_inner) = finally;
    }

    /// Opens a directory in it; never through a link.
    pub(crate) fn open(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        fs::openat(&self.fd, name, OPEN, Mode::empty())
    }

    /// The metadata of a name; `None` if it does not exist.
    pub(crate) fn lookup(&self, name: &OsStr) -> Result<Option<Stat>, Errno> {
        match fs::statat(&self.fd, name, fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Gives a place back; the last one to do so gives the directory what it gets at the end.
pub(crate) fn give_back(place: Arc<Place>, root: &Path, notes: &Notes) -> Result<(), Failure> {
    let Some(place) = Arc::into_inner(place) else { return Ok(()) };
    let finally = place.finally.into_inner().unwrap_or_else(PoisonError::into_inner);
    finish(&place.fd, finally, notes)
        .map_err(|(verb, error)| Failure::io(verb, &root.join(&place.path), error))
}

/// Gives it to an open directory; `Err` says what could not be done.
pub(crate) fn finish(
    fd: &OwnedFd,
    finally: Finally,
    notes: &Notes,
) -> Result<(), (&'static str, Errno)> {
    if let Some((uid, gid)) = finally.owner {
        fs::fchown(fd, uid, gid).map_err(|error| ("change the owner of", error))?;
    }
    if let Some(mode) = finally.mode {
        fs::fchmod(fd, Mode::from_raw_mode(mode)).map_err(|error| ("set the mode of", error))?;
    }
    let set = match finally.mtime {
        mtime if finally.adopted => set_time_if_other(fd, mtime),
        Some(mtime) => fs::futimens(fd, &times(mtime)),
        None => Ok(()),
    };
    set.map_err(|error| ("set the time of", error))?;
    if let Some((number, stat)) = finally.number.zip(fs::fstat(fd).ok()) {
        notes.add_directory(number, &Mark::of_directory(&stat));
    }
    Ok(())
}

/// The time of something that was there before: of an open file or directory.
pub(crate) fn set_time_if_other(fd: &OwnedFd, mtime: Option<Time>) -> Result<(), Errno> {
    match mtime {
        Some(mtime) if has_time(&fs::fstat(fd)?, mtime) => Ok(()),
        Some(mtime) => fs::futimens(fd, &times(mtime)),
        None => fs::futimens(fd, &now()),
    }
}

/// The same of something that is only held (`O_PATH`).
pub(crate) fn set_held_time_if_other(held: &OwnedFd, mtime: Option<Time>) -> Result<(), Errno> {
    match mtime {
        Some(mtime) if has_time(&fs::fstat(held)?, mtime) => Ok(()),
        Some(mtime) => set_time(held, &times(mtime)),
        None => set_time(held, &now()),
    }
}

pub(crate) fn has_time(stat: &Stat, mtime: Time) -> bool {
    (stat.st_mtime, stat.st_mtime_nsec as u32) == (mtime.seconds, mtime.nanoseconds)
}

/// The time of something that is only held (`O_PATH`).
#[expect(clippy::disallowed_methods, reason = "of what is held, by an empty name or its number")]
pub(crate) fn set_time(held: &OwnedFd, times: &Timestamps) -> Result<(), Errno> {
    match fs::utimensat(held, "", times, fs::AtFlags::EMPTY_PATH) {
        // Before Linux 5.8.
        Err(Errno::INVAL | Errno::NOENT) => {
            let by_number = format!("/proc/self/fd/{}", held.as_raw_fd());
            fs::utimensat(fs::CWD, by_number, times, fs::AtFlags::empty())
        }
        other => other,
    }
}

/// The time of modification; that of the last access stays.
pub(crate) fn times(mtime: Time) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: omit, last_modification }
}

/// Modified now; that of the last access stays.
fn now() -> Timestamps {
    let stamp = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    Timestamps { last_access: stamp(fs::UTIME_OMIT), last_modification: stamp(fs::UTIME_NOW) }
}

/// What it is.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes a file, a link or an empty directory.
pub(crate) fn remove(
    place: &Place,
    path: &Path,
    root_path: &Path,
    archive: &Path,
) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default();
    match fs::unlinkat(place, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux returns the first, POSIX the second.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(Failure::io("replace", &root_path.join(path), error)),
    }
    match fs::unlinkat(place, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            let why = "the archive has a directory with entries under the same name";
            Err(failures::bad(archive, path.as_os_str().as_bytes(), why))
        }
        Err(error) => Err(Failure::io("replace", &root_path.join(path), error)),
    }
}
