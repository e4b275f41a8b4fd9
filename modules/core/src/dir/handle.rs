//! A handle on a name, opened before it is examined: exactly the file that was examined is changed,
//! even if another process replaces it.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;

use super::{Dir, Info};
use crate::{Failure, IoContext};

/// A handle on a file, link or directory. It opens nothing (`O_PATH`): it waits for no FIFO and
/// no lease, and needs no permission.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// A handle on a name; a link is not followed. `None` if the name does not exist.
    ///
    /// # Errors
    /// Anything but "not there".
    pub fn handle(&self, name: impl AsRef<Path>) -> Result<Option<Handle>, Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Handle { fd, path })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Failure::io("examine", &path, error)),
        }
    }

    /// Whether no other user can change the names in it: it belongs to root or to the user of this
    /// process, and only they may write to it.
    ///
    /// # Errors
    /// An I/O error.
    pub fn is_ours_alone(&self) -> Result<bool, Failure> {
        let info = self.info()?;
        let ours = [0, crate::users::current()].contains(&info.uid());
        Ok(ours && info.mode() & 0o022 == 0)
    }
}

impl Handle {
    /// Its current metadata.
    ///
    /// # Errors
    /// An I/O error.
    pub fn info(&self) -> Result<Info, Failure> {
        let stat = fs::fstat(&self.fd).or_fail("examine", &self.path)?;
        Ok(Info { stat })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a symbolic link points; `None` if it is not a link.
    ///
    /// # Errors
    /// An I/O error.
    pub fn target(&self) -> Result<Option<PathBuf>, Failure> {
        match fs::readlinkat(&self.fd, "", Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes())))),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(Failure::io("read the link", &self.path, error)),
        }
    }

    /// Sets its owner and group; `None` keeps one.
    ///
    /// # Errors
    /// An I/O error.
    #[expect(clippy::disallowed_methods, reason = "of what is held, by an empty name")]
    pub fn set_owner(&self, owner: Option<u32>, group: Option<u32>) -> Result<(), Failure> {
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        fs::chownat(&self.fd, "", owner, group, AtFlags::EMPTY_PATH)
            .or_fail("set the owner of", &self.path)
    }

    /// Sets the permissions, if it is not a link.
    ///
    /// # Errors
    /// An I/O error.
    #[expect(clippy::disallowed_methods, reason = "of what is held, by its number")]
    pub fn set_mode(&self, mode: u32) -> Result<(), Failure> {
        // Before Linux 6.6 there is no system call for this on a handle.
        fs::chmod(self.by_number(), Mode::from_raw_mode(mode))
            .or_fail("set the mode of", &self.path)
    }

    /// Sets its times. It is not an error if the file system cannot do so for a link.
    ///
    /// # Errors
    /// An I/O error.
    #[expect(
        clippy::disallowed_methods,
        reason = "of what is held, by an empty name or its number"
    )]
    pub fn set_times(&self, times: &Timestamps) -> Result<(), Failure> {
        let set = match fs::utimensat(self.fd.as_fd(), "", times, AtFlags::EMPTY_PATH) {
            // Before Linux 5.8.
            Err(Errno::INVAL | Errno::NOENT) => {
                fs::utimensat(CWD, self.by_number(), times, AtFlags::empty())
            }
            other => other,
        };
        match set {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(Failure::io("set the time of", &self.path, error)),
        }
    }

    fn by_number(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use rustix::fs::{Timespec, Timestamps};

    use super::*;

    #[test]
    fn what_is_changed_is_what_was_held_whatever_has_its_name_by_then() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        let mode =
            |name: &str| dir.at(name).symlink_metadata().unwrap().permissions().mode() & 0o777;
        for name in ["held", "other"] {
            dir.write(name, b"", 0o600).unwrap();
        }
        let held = dir.handle("held").unwrap().unwrap();
        dir.rename("held", "moved").unwrap();
        symlink("other", dir.at("held")).unwrap();
        held.set_mode(0o640).unwrap();
        assert_eq!((mode("moved"), mode("other")), (0o640, 0o600));
        let link = dir.handle("held").unwrap().unwrap();
        assert!(link.info().unwrap().is_symlink());
        let at = Timespec { tv_sec: 1, tv_nsec: 0 };
        link.set_times(&Timestamps { last_access: at, last_modification: at }).unwrap();
        assert_eq!(dir.at("held").symlink_metadata().unwrap().mtime(), 1);
        assert!(dir.at("other").metadata().unwrap().mtime() > 1);
        if crate::users::is_root() {
            link.set_owner(Some(33), None).unwrap();
            let uid = |path: std::io::Result<std::fs::Metadata>| path.unwrap().uid();
            assert_eq!(uid(dir.at("held").symlink_metadata()), 33);
            assert_eq!(uid(dir.at("other").metadata()), 0);
        }
        assert!(dir.handle("nothing").unwrap().is_none());
    }

    #[test]
    fn a_fifo_is_held_without_being_opened() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        fs::mknodat(&dir, "fifo", fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(dir.handle("fifo").unwrap().unwrap().info().unwrap().noun(), "a FIFO");
    }
}
