//! Decides which files of an unneeded tree may stay when it becomes a copy of another one, and removes
//! the rest. `docs/spare.md` says why.
//!
//! The tree was a release: other users may have changed its files, and may still have them open. So a
//! file stays only as it is: nothing is written into it, and its owner and permissions are not changed.
//! Files are examined by their handle, because another process may replace the name.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use oxistrano_core::dir::{Info, has_attributes};
use oxistrano_core::remove::remove_tree;
use oxistrano_core::{Dir, Failure, IoContext};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use crate::file::{Source, same_contents};
use crate::metadata::{Exactly, Rules};
use crate::worth::Worth;

/// NONBLOCK: a FIFO must not hold us up.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The state of the tree before the copy.
#[derive(Debug)]
pub struct Spare {
    /// Removed directories are moved here.
    grave: Dir,
    device: u64,
    /// Owner and group of new files.
    born: (u32, u32),
    /// The number of directories in it.
    buried: AtomicU64,
    worth: Worth,
}

/// The tree cannot be used.
fn strange(why: &str) -> Failure {
    Failure::new("strange_spare", "cannot build on the spare").cause(why)
}

impl Spare {
    /// `grave`: an empty directory on the same file system, made in the same parent as the tree.
    /// Removed directories are moved into it; remove it afterwards.
    ///
    /// # Errors
    /// An I/O error, or new files get an access list there.
    pub fn new(grave: Dir) -> Result<Self, Failure> {
        let probe = grave.make_dir("probe", 0o700)?;
        let info = probe.info()?;
        if has_attributes(&probe) {
            return Err(strange("new files get extended attributes there"));
        }
        let born = (info.uid(), info.gid());
        let (buried, worth) = (AtomicU64::default(), Worth::of(0));
        Ok(Self { grave, device: info.device(), born, buried, worth })
    }

    /// The number of files that stayed, and their bytes.
    pub(crate) fn kept(&self) -> (u64, u64) {
        self.worth.kept()
    }

    /// Whether an empty directory would be filled sooner.
    ///
    /// # Errors
    /// [`crate::USELESS`]: it would.
    pub(crate) fn check_worth(&self) -> Result<(), Failure> {
        self.worth.check()
    }

    /// Whether the tree can have hard links to files on this device.
    pub(crate) fn is_on(&self, device: u64) -> bool {
        self.device == device
    }

    /// Gives the directory of this name its owner and permissions; `None` if a new one has to be made.
    ///
    /// # Errors
    /// When another file system is mounted there.
    pub(crate) fn directory(
        &self,
        place: &Dir,
        name: &OsStr,
        rules: &Rules,
        source: &Stat,
    ) -> Result<Option<Dir>, Failure> {
        let Some(fd) = open(place, name, DIRECTORY) else { return Ok(None) };
        let path = place.at(name);
        let stat = fs::fstat(&fd).or_fail("examine", &path)?;
        if stat.st_dev != self.device {
            return Err(strange("another file system is mounted in it").path(path));
        }
        if has_attributes(&fd) {
            return Ok(None);
        }
        // First, so that former owners can no longer replace its entries.
        let Exactly { uid, gid, mode } = rules.wanted(source).exactly(self.born);
        let foreign = (stat.st_uid, stat.st_gid) != (uid, gid);
        if foreign && fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).is_err() {
            return Ok(None);
        }
        // Its owner must be able to write while it is filled.
        let now = if mode & 0o700 == 0o700 { mode } else { 0o700 };
        if stat.st_mode & 0o7777 != now || (foreign && now & 0o6000 != 0) {
            match fs::fchmod(&fd, Mode::from_raw_mode(now)) {
                Ok(()) => {}
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(Dir::held(fd, path)))
    }

    /// Whether kind, owner, device and number of names allow it to stay.
    fn fits(&self, stat: &Stat, kind: FileType, wanted: Exactly) -> bool {
        FileType::from_raw_mode(stat.st_mode) == kind
            && stat.st_nlink == 1
            && stat.st_dev == self.device
            && (stat.st_uid, stat.st_gid) == (wanted.uid, wanted.gid)
    }

    /// Keeps the file of this name if a copy would be the same. `origin`: the source's directory, for
    /// messages.
    pub(crate) fn keep(
        &self,
        rules: &Rules,
        (source, origin): (&Source, &Dir),
        (place, name): (&Dir, &OsStr),
    ) -> Result<bool, Failure> {
        let wanted = rules.wanted(&source.stat).exactly(self.born);
        let fits = |stat: &Stat| {
            self.fits(stat, FileType::RegularFile, wanted)
                && stat.st_size == source.stat.st_size
                && stat.st_mode & 0o7777 == wanted.mode
                // A copy keeps holes.
                && (!source.is_sparse() || stat.st_blocks <= source.stat.st_blocks)
        };
        if wanted.mode & 0o7000 != 0 || (rules.attributes && has_attributes(source)) {
            return Ok(false);
        }
        // First by its name, so that no FIFO and no device is opened.
        match fs::statat(place, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if fits(&stat) => {}
            _ => return Ok(false),
        }
        let Some(fd) = open(place, name, FILE) else { return Ok(false) };
        let path = place.at(name);
        let stat = fs::fstat(&fd).or_fail("examine", &path)?;
        if !fits(&stat) || has_attributes(&fd) {
            return Ok(false);
        }
        let file = Source::held(fd, stat);
        if !same_contents(source, &file, &path)? {
            return Ok(false);
        }
        source.check(&origin.at(name))?;
        rules.set_time_if_other(&file, &stat, &source.stat, &path)?;
        self.worth.keep(source.size());
        Ok(true)
    }

    /// Whether the file of this name is already a hard link to the source.
    pub(crate) fn is_source(&self, source: &Info, place: &Dir, name: &OsStr) -> bool {
        let same = matches!(place.lookup(name), Ok(Some(there)) if there.same_file(source));
        if same {
            self.worth.keep(source.stat().st_size as u64);
        }
        same
    }

    /// Keeps the symbolic link of this name if a copy would be the same.
    pub(crate) fn keep_link(
        &self,
        rules: &Rules,
        (from, source): (&Dir, &Stat),
        (place, name): (&Dir, &OsStr),
    ) -> Result<bool, Failure> {
        let wanted = rules.wanted(source).exactly(self.born);
        let Some(link) = place.handle(name)? else { return Ok(false) };
        let info = link.info()?;
        if !self.fits(info.stat(), FileType::Symlink, wanted) {
            return Ok(false);
        }
        let target = from.read_link(name)?;
        if target.is_none() || link.target()? != target {
            return Ok(false);
        }
        rules.set_link_time_if_other(&link, info.stat(), source)?;
        Ok(true)
    }

    /// Removes what has the name of a file that differs.
    pub(crate) fn replace(&self, place: &Dir, name: &OsStr) -> Result<(), Failure> {
        self.worth.differs();
        self.clear(place, name)
    }

    /// Removes whatever has this name.
    pub(crate) fn clear(&self, place: &Dir, name: &OsStr) -> Result<(), Failure> {
        match fs::unlinkat(place, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Linux says the former, POSIX the latter.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(Failure::io("replace", &place.at(name), error)),
        }
        let number = self.buried.fetch_add(1, Ordering::Relaxed).to_string();
        if fs::renameat(place, name, &self.grave, number.as_str()).is_ok() {
            return Ok(());
        }
        // A directory that its owner cannot write cannot be moved.
        match remove_tree(place, name) {
            Ok(_) => Ok(()),
            // Not to be confused with a mount point in the source.
            Err(failure) if failure.code() == "mount_point" => Err(strange(&failure.to_string())),
            Err(failure) => Err(failure),
        }
    }
}

/// Opens a file or directory to examine it; NOATIME: reading it here is not an access.
fn open(place: &Dir, name: &OsStr, flags: OFlags) -> Option<OwnedFd> {
    match fs::openat(place, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(place, name, flags, Mode::empty()).ok(),
        other => other.ok(),
    }
}

/// The names that were in a directory before; none in a new one.
#[derive(Debug, Default)]
pub(crate) struct Before(HashSet<OsString>);

impl Before {
    pub(crate) fn list(dir: &Dir) -> Result<Self, Failure> {
        Ok(Self(dir.names()?.into_iter().collect()))
    }

    /// Takes a name out; whether it was there.
    pub(crate) fn take(&mut self, name: &OsStr) -> bool {
        self.0.remove(name)
    }

    /// Removes the rest.
    pub(crate) fn clear(self, spare: &Spare, dir: &Dir) -> Result<(), Failure> {
        self.0.iter().try_for_each(|name| spare.clear(dir, name))
    }
}
