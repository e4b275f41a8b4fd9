//! Decides which files of an unneeded tree may stay when it becomes what an archive contains, and
//! removes the rest. `docs/spare.md` says why.
//!
//! The tree was a release: other users may have changed its files, and may still have them open. So
//! a file stays only as it is: nothing is written into it, and its owner and permissions are not
//! changed. Files are examined by their handle, because another process may replace the name.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use oxistrano_core::dir::has_attributes;
use oxistrano_core::remove::remove_tree;
use oxistrano_core::{Dir, Failure, IoContext};
use oxistrano_tree::Worth;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::attributes::{Attributes, Problem};
use crate::earlier::{self, Earlier};
use crate::entry::Time;
use crate::hash::Hash;
use crate::identity::Ids;
use crate::index::Index;
use crate::notes::{Mark, Note, Notes};
use crate::place::{self, Place};
use crate::recorded::Recorded;

/// The state of the tree before the archive is unpacked into it.
#[derive(Debug)]
pub struct Spare {
    /// Removed directories are moved here.
    grave: Dir,
    device: u64,
    recorded: Option<Recorded>,
    /// The number of directories in it.
    buried: AtomicU64,
    worth: Worth,
    /// Whether an empty directory would do as well.
    optional: bool,
}

/// The trees, other than the archive, that files can come from.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    pub(crate) earlier: Option<Earlier>,
    pub(crate) spare: Option<Spare>,
    /// Notes of files.
    pub(crate) notes: Notes,
}

impl Stock {
    /// Adds notes.
    pub(crate) fn note(&self, notes: impl IntoIterator<Item = Note>) {
        self.notes.add(notes);
    }

    /// The number of files that were not written, and their bytes: shared ones, and those that
    /// stayed.
    pub(crate) fn unwritten(&self) -> [(u64, u64); 2] {
        [
            self.earlier.as_ref().map_or((0, 0), Earlier::shared),
            self.spare.as_ref().map_or((0, 0), |spare| spare.worth.kept()),
        ]
    }
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
    /// An I/O error.
    pub fn new(grave: Dir) -> Result<Self, Failure> {
        let device = grave.info()?.device();
        let (recorded, buried, worth) = (None, AtomicU64::default(), Worth::of(0));
        Ok(Self { grave, device, recorded, buried, worth, optional: false })
    }

    /// Ends with [`oxistrano_tree::USELESS`] when it turns out that nearly nothing of the tree can stay.
    #[must_use]
    pub fn if_useful(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Whether an empty directory would do as well and be filled sooner.
    pub(crate) fn check_worth(&self) -> Result<(), Failure> {
        if self.optional { self.worth.check() } else { Ok(()) }
    }

    /// Takes contents that this index of the tree has recorded as known: they are not read.
    #[must_use]
    pub fn with_index(self, index: &Index) -> Self {
        let worth = Worth::of(index.manifest().files().into());
        Self { recorded: Some(Recorded::new(index)), worth, ..self }
    }

    /// Owner and group of new files.
    pub(crate) fn born(&self, umask: u32) -> Result<Ids, Failure> {
        let probe = self.grave.make_dir("probe", 0o777)?;
        let info = probe.info()?;
        if has_attributes(&probe) || info.mode() & 0o777 != 0o777 & !umask {
            return Err(strange("the file system sets its own permissions for new files"));
        }
        Ok((info.uid(), info.gid()))
    }

    /// Whether kind, owner, device and number of names allow it to stay.
    fn fits(&self, stat: &Stat, kind: FileType, ids: Ids) -> bool {
        place::kind(stat) == kind
            && stat.st_nlink == 1
            && stat.st_dev == self.device
            && (stat.st_uid, stat.st_gid) == ids
    }

    /// Opens the file of this name if only its contents and its time may differ from the archive's.
    pub(crate) fn candidate(
        &self,
        place: BorrowedFd<'_>,
        name: &CStr,
        size: u64,
        attributes: &Attributes,
    ) -> Option<OwnedFd> {
        let ids = attributes.ids.filter(|_| attributes.mode & 0o7000 == 0)?;
        let fits = |stat: &Stat| {
            self.fits(stat, FileType::RegularFile, ids)
                && u64::try_from(stat.st_size) == Ok(size)
                && stat.st_mode & 0o7777 == attributes.mode
        };
        // First by its name, so that no FIFO and no device is opened.
        fs::statat(place, name, AtFlags::SYMLINK_NOFOLLOW).ok().filter(fits)?;
        let file = earlier::open(place, name)?;
        fs::fstat(&file).ok().filter(fits)?;
        (!has_attributes(&file)).then_some(file)
    }

    /// Keeps the file of this name if a new one would be the same: it is read. Returns whether it stays.
    pub(crate) fn keep(
        &self,
        place: BorrowedFd<'_>,
        name: &CStr,
        contents: &[u8],
        attributes: &Attributes,
    ) -> Result<bool, Problem> {
        let size = contents.len() as u64;
        let same = |file: &OwnedFd| earlier::has(file, 0, contents);
        match self.candidate(place, name, size, attributes).filter(same) {
            Some(file) => self.stays(&file, size, attributes.mtime).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether it has an index.
    pub(crate) fn has_index(&self) -> bool {
        self.recorded.is_some()
    }

    /// Whether the index has recorded this file with contents of this hash.
    pub(crate) fn has_recorded(&self, file: &OwnedFd, hash: &Hash) -> bool {
        let known = self.recorded.as_ref().zip(fs::fstat(file).ok());
        known.is_some_and(|(recorded, stat)| recorded.has(&stat, hash).is_some())
    }

    /// Keeps the file of this name if the index has recorded contents with this hash, and a new one
    /// would be the same. Returns its mark. Its contents are not read.
    pub(crate) fn keep_recorded(
        &self,
        place: BorrowedFd<'_>,
        name: &CStr,
        hash: &Hash,
        attributes: &Attributes,
    ) -> Result<Option<Mark>, Problem> {
        let stat = self
            .recorded
            .as_ref()
            .and_then(|it| Some((it, fs::statat(place, name, AtFlags::SYMLINK_NOFOLLOW).ok()?)));
        match stat.and_then(|(recorded, stat)| recorded.has(&stat, hash)) {
            Some(mark) => self.keep_known(place, name, &mark, attributes),
            None => Ok(None),
        }
    }

    /// Keeps the file of this name if it is still the one that an index knows, and a new one would
    /// be the same. Returns its mark. Its contents are not read.
    pub(crate) fn keep_known(
        &self,
        place: BorrowedFd<'_>,
        name: &CStr,
        known: &Mark,
        attributes: &Attributes,
    ) -> Result<Option<Mark>, Problem> {
        let Some(ids) = attributes.ids.filter(|_| attributes.mode & 0o7000 == 0) else {
            return Ok(None);
        };
        // Extended attributes that were added after it was written would have changed the mark.
        let fits = |stat: &Stat| {
            self.fits(stat, FileType::RegularFile, ids)
                && Mark::of(stat) == *known
                && stat.st_mode & 0o7777 == attributes.mode
        };
        let Ok(stat) = fs::statat(place, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(None) };
        if !fits(&stat) {
            return Ok(None);
        }
        let mut mark = *known;
        if !attributes.mtime.is_some_and(|mtime| place::has_time(&stat, mtime)) {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(held) = fs::openat(place, name, flags, Mode::empty()) else { return Ok(None) };
            if !fs::fstat(&held).is_ok_and(|stat| fits(&stat)) {
                return Ok(None);
            }
            place::set_held_time_if_other(&held, attributes.mtime)
                .map_err(|error| ("set the time of", error))?;
            mark = fs::fstat(&held).map_or_else(|_| Mark::default(), |stat| Mark::of(&stat));
        }
        self.count(known.size);
        Ok(Some(mark))
    }

    /// Sets the time of a file that stays, and counts it.
    pub(crate) fn stays(
        &self,
        file: &OwnedFd,
        size: u64,
        mtime: Option<Time>,
    ) -> Result<(), Problem> {
        place::set_time_if_other(file, mtime).map_err(|error| ("set the time of", error))?;
        self.count(size);
        Ok(())
    }

    /// Counts a file that stays.
    pub(crate) fn count(&self, size: u64) {
        self.worth.keep(size);
    }

    /// Keeps the symbolic link of this name if a new one would be the same.
    pub(crate) fn keep_link(
        &self,
        place: BorrowedFd<'_>,
        name: &CStr,
        target: &[u8],
        ids: Ids,
        mtime: Option<Time>,
    ) -> Result<bool, Problem> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(link) = fs::openat(place, name, flags, Mode::empty()) else { return Ok(false) };
        let same = fs::fstat(&link).is_ok_and(|stat| self.fits(&stat, FileType::Symlink, ids))
            && fs::readlinkat(&link, "", Vec::new()).is_ok_and(|led| led.as_bytes() == target);
        if same {
            place::set_held_time_if_other(&link, mtime)
                .map_err(|error| ("set the time of", error))?;
        }
        Ok(same)
    }

    /// Examines a directory of the tree; `None` if it cannot stay.
    ///
    /// # Errors
    /// When another file system is mounted there.
    pub(crate) fn directory(&self, fd: &OwnedFd) -> Result<Option<Stat>, Failure> {
        let stat = fs::fstat(fd).or_fail("examine", self.grave.path())?;
        if stat.st_dev != self.device {
            return Err(strange("another file system is mounted in it"));
        }
        Ok((!has_attributes(fd)).then_some(stat))
    }

    /// Removes what has the name of a file that differs.
    pub(crate) fn replace(&self, place: &Place, name: &CStr) -> Result<(), Problem> {
        self.worth.differs();
        self.clear(place, name)
    }

    /// Removes whatever has this name.
    pub(crate) fn clear(&self, place: &Place, name: &CStr) -> Result<(), Problem> {
        match fs::unlinkat(place, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Linux says the former, POSIX the latter.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(("replace", error)),
        }
        let number = self.buried.fetch_add(1, Ordering::Relaxed).to_string();
        if fs::renameat(place, name, &self.grave, number.as_str()).is_ok() {
            return Ok(());
        }
        // A directory that its owner cannot write cannot be moved.
        let fd = place.as_fd().try_clone_to_owned().map_err(|_| ("replace", Errno::MFILE))?;
        let name = std::ffi::OsStr::from_bytes(name.to_bytes());
        let removed = remove_tree(&Dir::held(fd, PathBuf::new()), name);
        removed.map(drop).map_err(|_| ("replace", Errno::NOTEMPTY))
    }
}
