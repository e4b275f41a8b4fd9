//! Shares unchanged files with an earlier release: their blocks (reflink), or the files themselves (hard link).
//!
//! Another user may change the earlier release at the same time. So nothing in it is looked up by a
//! path, no link is followed, and exactly the file that was examined is shared. A clone is compared
//! after it was made, when no other user can change it.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oxistrano_core::Dir;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::identity::Ids;

/// Bytes that are compared at a time.
const WINDOW: usize = 64 << 10;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// NONBLOCK: a FIFO must not block. NOATIME: the access time must not change.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// What to do with files that are the same in an [`Earlier`] release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unchanged {
    /// They are written like all others.
    #[default]
    Copy,
    /// They share their blocks with the earlier ones.
    Reflink,
    /// They are hard links to the earlier ones.
    HardLink,
}

/// An earlier release, and what has been shared with it.
#[derive(Debug)]
pub struct Earlier {
    top: OwnedFd,
    pub(crate) how: Unchanged,
    /// The file system does not support it.
    off: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Earlier {
    /// Opens an earlier release; `None` if nothing is to be shared, or it cannot be entered.
    pub fn new(top: &Dir, how: Unchanged) -> Option<Self> {
        let top = fs::openat(top, ".", DIRECTORY, Mode::empty()).ok()?;
        let (off, files, bytes) = Default::default();
        (how != Unchanged::Copy).then_some(Self { top, how, off, files, bytes })
    }

    /// A handle of its top.
    pub(crate) fn top(&self) -> Option<OwnedFd> {
        fs::openat(&self.top, ".", DIRECTORY, Mode::empty()).ok()
    }

    /// How many files, and of how many bytes together, are shared.
    pub(crate) fn shared(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Notes that a file of this size is shared.
    pub(crate) fn count(&self, size: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    /// The regular file of this name, if size, owner and permissions are these.
    pub(crate) fn candidate(
        &self,
        directory: &OwnedFd,
        name: &CStr,
        size: u64,
        mode: u32,
        ids: Ids,
    ) -> Option<OwnedFd> {
        // Files with setuid or setgid are never shared; empty files cannot be cloned.
        let pointless = size == 0 && self.how == Unchanged::Reflink;
        if self.off.load(Ordering::Relaxed) || mode & 0o7000 != 0 || pointless {
            return None;
        }
        let file = open(directory, name)?;
        let stat = fs::fstat(&file).ok()?;
        let same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && u64::try_from(stat.st_size) == Ok(size)
            && stat.st_mode & 0o7777 == mode
            && (stat.st_uid, stat.st_gid) == ids;
        same.then_some(file)
    }

    /// Gives this file the blocks of an earlier one; `false` if that is not possible.
    pub(crate) fn reflink_into(&self, file: impl AsFd, earlier: &OwnedFd) -> bool {
        let result = fs::ioctl_ficlone(file, earlier);
        if let Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) = result {
            self.off.store(true, Ordering::Relaxed);
        }
        result.is_ok()
    }

    /// Makes a hard link to an earlier file. `Ok(false)` if that is not possible.
    pub(crate) fn link(
        &self,
        earlier: &OwnedFd,
        place: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<bool, Errno> {
        let linked = match fs::linkat(earlier, "", place, name, AtFlags::EMPTY_PATH) {
            // This needs a privilege; the other way does not.
            Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
                let by_handle = format!("/proc/self/fd/{}", earlier.as_raw_fd());
                fs::linkat(fs::CWD, by_handle, place, name, AtFlags::SYMLINK_FOLLOW)
            }
            other => other,
        };
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Err(Errno::EXIST),
            Err(Errno::OPNOTSUPP | Errno::XDEV) => {
                self.off.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }
}

/// Opens a file for comparing.
pub(crate) fn open(directory: impl AsFd, name: &CStr) -> Option<OwnedFd> {
    match fs::openat(&directory, name, FILE | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(&directory, name, FILE, Mode::empty()).ok(),
        other => other.ok(),
    }
}

/// Opens a regular file to read it.
pub(crate) fn open_regular(directory: &Dir, name: &OsStr) -> Option<File> {
    open_regular_in(directory, name)
}

/// The same, in any handle of a directory.
pub(crate) fn open_regular_in(directory: impl AsFd, name: &OsStr) -> Option<File> {
    let file = open(directory, &CString::new(name.as_bytes()).ok()?)?;
    regular(file)
}

/// The same by a path on which there is no link. `None` also where the kernel cannot do that (before Linux 5.6, or under a
/// filter of system calls).
pub(crate) fn open_beneath(top: &Dir, path: &Path) -> Option<File> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = match fs::openat2(top, path, FILE | OFlags::NOATIME, Mode::empty(), resolve) {
        Err(Errno::PERM) => fs::openat2(top, path, FILE, Mode::empty(), resolve).ok()?,
        other => other.ok()?,
    };
    regular(file)
}

fn regular(file: OwnedFd) -> Option<File> {
    let stat = fs::fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| file.into())
}

/// A directory in one of the earlier release.
pub(crate) fn below(above: &OwnedFd, name: &OsStr) -> Option<OwnedFd> {
    fs::openat(above, name, DIRECTORY, Mode::empty()).ok()
}

/// Whether a file has exactly these bytes from `offset` on; not what comes after them.
pub(crate) fn has(file: impl AsFd, mut offset: u64, mut bytes: &[u8]) -> bool {
    let mut window = [MaybeUninit::uninit(); WINDOW];
    while !bytes.is_empty() {
        let most = bytes.len().min(WINDOW);
        match rustix::io::pread(&file, &mut window[..most], offset) {
            Ok((read, _)) if !read.is_empty() && bytes.starts_with(read) => {
                bytes = bytes.get(read.len()..).unwrap_or_default();
                offset += read.len() as u64;
            }
            Err(Errno::INTR) => {}
            _ => return false,
        }
    }
    true
}
