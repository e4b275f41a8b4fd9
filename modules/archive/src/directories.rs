//! Owns the directories below the root: handles of those that are in use, and what they
//! get at the end, when nothing is written into them any more.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxistrano_core::{Dir, Failure, IoContext};
use rustix::fs::{self, AtFlags, Gid, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::entry::Time;
use crate::failures;

/// As much is kept of the directories' names.
const MOST_NAMES: usize = 64 * 1024 * 1024;

/// Where things are written, and which directories are open on the way there.
pub(crate) struct Directories<'a> {
    root: Arc<Dir>,
    archive: &'a Path,
    umask: u32,
    /// The set-group-id bit that directories inherit from the root.
    inherited: u32,
    /// From the top down, each in the one before it.
    open: Vec<(OsString, Arc<Dir>)>,
    /// The path of the last of `open`.
    current: PathBuf,
    records: Vec<Record>,
    /// The records' paths, one behind the other.
    names: Vec<u8>,
    /// For directories that the archive does not mention.
    unmentioned: Finally,
}

/// What a directory gets at the end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Finally {
    pub(crate) mode: u32,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mtime: Option<Time>,
}

struct Record {
    start: usize,
    end: usize,
    /// `None`: it was replaced by something else.
    finally: Option<Finally>,
    /// Made for this record, so that its permissions are known.
    fresh: bool,
}

impl<'a> Directories<'a> {
    /// Begins with an open root; `unmentioned` is for what the archive leaves out.
    pub(crate) fn new(
        root: &Dir,
        archive: &'a Path,
        umask: u32,
        unmentioned: Finally,
    ) -> Result<Self, Failure> {
        Ok(Self {
            root: Arc::new(root.duplicate()?),
            archive,
            umask,
            inherited: root.info()?.mode() & 0o2000,
            open: Vec::new(),
            current: PathBuf::new(),
            records: Vec::new(),
            names: Vec::new(),
            unmentioned,
        })
    }

    /// The directory in which `path` lies; what is missing is made. A link on the way is
    /// refused, whoever made it.
    pub(crate) fn parent_of(&mut self, path: &Path) -> Result<&Dir, Failure> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent != self.current {
            let common = parent.iter().zip(&self.open).take_while(|(a, (b, _))| *a == b).count();
            self.open.truncate(common);
            self.current = self.open.iter().map(|(name, _)| name).collect();
            for name in parent.iter().skip(common) {
                let dir = self.enter(name, path)?;
                self.open.push((name.to_owned(), Arc::new(dir)));
                self.current.push(name);
            }
        }
        Ok(self.last())
    }

    /// The same, for somebody who writes into it later.
    pub(crate) fn shared_parent_of(&mut self, path: &Path) -> Result<Arc<Dir>, Failure> {
        self.parent_of(path)?;
        Ok(Arc::clone(self.last()))
    }

    /// Where all of it lies.
    pub(crate) fn root(&self) -> &Dir {
        &self.root
    }

    fn last(&self) -> &Arc<Dir> {
        self.open.last().map_or(&self.root, |(_, dir)| dir)
    }

    /// Opens `name` in the directory that was opened last, or makes it.
    fn enter(&mut self, name: &OsStr, entry: &Path) -> Result<Dir, Failure> {
        let failure = match self.last().open_dir(name) {
            Ok(dir) => return Ok(dir),
            Err(failure) => failure,
        };
        let mode = fs::Mode::from_raw_mode(created_with(self.unmentioned.mode));
        match fs::mkdirat(&**self.last(), name, mode) {
            Ok(()) => {
                let path = self.current.join(name);
                self.record(&path, Some(self.unmentioned), true)?;
                self.last().open_dir(name)
            }
            Err(Errno::EXIST) => Err(self.in_the_way(self.last(), name, entry).unwrap_or(failure)),
            Err(error) => Err(Failure::io("create the directory", &self.last().at(name), error)),
        }
    }

    /// Why `name`, which is there, cannot be entered.
    fn in_the_way(&self, parent: &Dir, name: &OsStr, entry: &Path) -> Option<Failure> {
        let info = parent.lookup(name).ok().flatten()?;
        let entry = entry.as_os_str().as_bytes();
        let shown = failures::show(name.as_bytes());
        if info.is_symlink() {
            let why = format!("the archive made {shown}, above it, a symbolic link");
            return Some(failures::unsafe_entry(self.archive, entry, why));
        }
        let why = format!("{shown}, above it, is {}", info.noun());
        (!info.is_dir()).then(|| failures::bad(self.archive, entry, why))
    }

    /// Opens the directory in which `path` lies, apart from the others; makes nothing.
    pub(crate) fn existing_parent_of(&self, path: &Path) -> Result<Option<Dir>, Failure> {
        let mut dir = self.root.duplicate()?;
        for name in path.parent().unwrap_or(Path::new("")) {
            match dir.lookup(name)? {
                Some(info) if info.is_dir() => dir = dir.open_dir(name)?,
                Some(_) => {
                    return Err(self.in_the_way(&dir, name, path).unwrap_or_else(|| {
                        failures::bad(
                            self.archive,
                            path.as_os_str().as_bytes(),
                            "it cannot be reached",
                        )
                    }))
                }
                None => return Ok(None),
            }
        }
        Ok(Some(dir))
    }

    /// Makes the directory that an entry stands for; `false` if it is there already.
    pub(crate) fn make(&mut self, path: &Path, name: &OsStr, mode: u32) -> Result<bool, Failure> {
        let mode = fs::Mode::from_raw_mode(created_with(mode));
        loop {
            let parent = self.parent_of(path)?;
            match fs::mkdirat(parent, name, mode) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) if parent.lookup(name)?.is_some_and(|info| info.is_dir()) => {
                    return Ok(false);
                }
                Err(Errno::EXIST) => self.clear(path, name)?,
                Err(error) => {
                    return Err(Failure::io("create the directory", &parent.at(name), error));
                }
            }
        }
    }

    /// Removes what stands where a later entry of the same name belongs: a file, a link,
    /// or a directory without anything in it.
    pub(crate) fn clear(&mut self, path: &Path, name: &OsStr) -> Result<(), Failure> {
        let parent = self.parent_of(path)?;
        match fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Linux says the one, POSIX the other.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(Failure::io("replace", &parent.at(name), error)),
        }
        match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => self.record(path, None, true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let entry = path.as_os_str().as_bytes();
                Err(failures::bad(
                    self.archive,
                    entry,
                    "the archive made it a directory before, with entries in it",
                ))
            }
            Err(error) => Err(Failure::io("replace", &parent.at(name), error)),
        }
    }

    /// Notes what a directory gets at the end; `fresh` if it was made just now.
    pub(crate) fn record(
        &mut self,
        path: &Path,
        finally: Option<Finally>,
        fresh: bool,
    ) -> Result<(), Failure> {
        let bytes = path.as_os_str().as_bytes();
        let start = self.names.len();
        if start + bytes.len() > MOST_NAMES {
            return Err(failures::too_large(
                self.archive,
                bytes,
                "the names of its directories fill 64 MB",
            ));
        }
        self.names.extend_from_slice(bytes);
        self.records.push(Record { start, end: self.names.len(), finally, fresh });
        Ok(())
    }

    /// Gives every directory its owner, permissions and time: those below before those
    /// above, which may be closed to us afterwards.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let mut records = std::mem::take(&mut self.records);
        let names = std::mem::take(&mut self.names);
        let key = |record: &Record| names[record.start..record.end].split(|b| *b == b'/');
        // Stable: of several records of one directory the last was written last.
        records.sort_by(|a, b| key(a).cmp(key(b)));
        let mut done: &[u8] = b"";
        for record in records.iter().rev() {
            oxistrano_core::interrupt::check()?;
            let bytes = &names[record.start..record.end];
            if bytes != done {
                done = bytes;
                if let Some(finally) = record.finally {
                    self.settle(Path::new(OsStr::from_bytes(bytes)), finally, record.fresh)?;
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, path: &Path, finally: Finally, fresh: bool) -> Result<(), Failure> {
        let name = path.file_name().unwrap_or_default();
        let (umask, inherited) = (self.umask, self.inherited);
        let parent = self.parent_of(path)?;
        let mode_known =
            fresh && created_with(finally.mode) & !umask | inherited == finally.mode | inherited;
        if mode_known && finally.uid.is_none() && finally.gid.is_none() {
            return match finally.mtime {
                Some(time) => fs::utimensat(parent, name, &times(time), AtFlags::SYMLINK_NOFOLLOW)
                    .or_fail("set the time of", parent.at(name)),
                None => Ok(()),
            };
        }
        let dir = parent.open_dir(name)?;
        if finally.uid.is_some() || finally.gid.is_some() {
            let (uid, gid) = (finally.uid.map(Uid::from_raw), finally.gid.map(Gid::from_raw));
            fs::fchown(&dir, uid, gid).or_fail("change the owner of", dir.path())?;
        }
        if !mode_known {
            // As chmod(1): the bit by which the group is inherited is not taken away.
            dir.set_mode(finally.mode | inherited)?;
        }
        match finally.mtime {
            Some(time) => fs::futimens(&dir, &times(time)).or_fail("set the time of", dir.path()),
            None => Ok(()),
        }
    }
}

/// Until the end we must be able to write into it; and no bits beyond 0777.
fn created_with(mode: u32) -> u32 {
    mode & 0o777 | 0o700
}

/// The time of modification; that of the last access stays.
pub(crate) fn times(mtime: Time) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: omit, last_modification }
}
