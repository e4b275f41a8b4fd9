//! An open directory, and operations on the names in it. A path is looked up once, when the handle
//! is made; after that, no other process can replace the directory. Symbolic links are never
//! followed unless a function says so.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Failure, IoContext, RelPath, users};

mod attributes;
mod change;
mod file;
mod followed;
mod handle;
mod info;
mod inside;
mod mounts;

pub use attributes::has_attributes;
pub use followed::{open_followed, read_followed};
pub use handle::Handle;
pub use info::{Info, noun};
pub use mounts::{is_free_of_mounts, mounted_at};

const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Its path, for messages and child processes.
    path: PathBuf,
}

impl Dir {
    /// Opens a directory by its path; links on the way there are followed, as the
    /// administrator who wrote the path wants it.
    ///
    /// # Errors
    /// When it is not there, not a directory or not readable.
    #[expect(
        clippy::disallowed_methods,
        reason = "the administrator has named it, and it is a directory"
    )]
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let fd = fs::open(path, OPEN_DIR, Mode::empty()).or_fail("open the directory", path)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// The directory that this process was given as its standard input.
    ///
    /// # Errors
    /// When standard input is something else.
    pub fn from_stdin() -> Result<Self, Failure> {
        let path = std::fs::read_link("/proc/self/fd/0");
        let path = path.unwrap_or_else(|_| PathBuf::from("/dev/stdin"));
        let fd = fs::openat(io::stdin().as_fd(), ".", OPEN_DIR, Mode::empty())
            .or_fail("open the directory", &path)?;
        Ok(Self { fd, path })
    }

    /// A directory that is already open.
    pub fn held(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name in it, for messages.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// A second handle on the same directory.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn duplicate(&self) -> Result<Self, Failure> {
        let fd = self.fd.try_clone().or_fail("reopen", &self.path)?;
        Ok(Self { fd, path: self.path.clone() })
    }

    /// The metadata of the directory.
    ///
    /// # Errors
    /// An I/O error.
    pub fn info(&self) -> Result<Info, Failure> {
        let stat = fs::fstat(&self.fd).or_fail("examine", &self.path)?;
        Ok(Info { stat })
    }

    /// The metadata of a name, of a link itself; `None` if it does not exist.
    ///
    /// # Errors Any error but "not found".
    pub fn lookup(&self, name: impl AsRef<Path>) -> Result<Option<Info>, Failure> {
        let name = name.as_ref();
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Info { stat })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => {
                let path = self.at(name);
                Err(Failure::io("examine", &path, error).name_mount(&path))
            }
        }
    }

    /// Opens a directory in this one; a link is refused.
    ///
    /// # Errors
    /// When it is not there or not a directory.
    pub fn open_dir(&self, name: impl AsRef<Path>) -> Result<Dir, Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        let fd = fs::openat(&self.fd, name, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())
            .or_fail("open the directory", &path)
            .map_err(|failure| failure.name_mount(&path))?;
        Ok(Dir { fd, path })
    }

    /// Opens a directory in this one, as [`Self::open_dir`]; `None` if it is a mount point, even of
    /// the same file system (which kernels before 5.6 do not detect).
    ///
    /// # Errors
    /// When it is not there or not a directory.
    pub fn open_dir_same_mount(&self, name: impl AsRef<Path>) -> Result<Option<Dir>, Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match fs::openat2(&self.fd, name, OPEN_DIR, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(Dir { fd, path })),
            Err(Errno::XDEV) => Ok(None),
            Err(Errno::NOSYS | Errno::PERM) => self.open_dir(name).map(Some),
            Err(error) => Err(Failure::io("open the directory", &path, error)),
        }
    }

    /// Opens a directory in this one. A link is followed only if it and the directory that it is in
    /// belong to root or to the user of this process, so that no other user can have made it: an
    /// administrator may keep `shared` on another file system, but a web user must not lead root
    /// elsewhere.
    ///
    /// # Errors
    /// When it is not there, not a directory, or a link that is not trusted.
    pub fn open_trusted_dir(&self, name: impl AsRef<Path>) -> Result<Dir, Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        // A handle on the link itself: exactly the link that was examined is followed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = fs::openat(&self.fd, name, flags, Mode::empty())
            .or_fail("open the directory", &path)?;
        let stat = fs::fstat(&handle).or_fail("examine", &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return self.open_dir(name);
        }
        let trusted = |uid: u32| uid == 0 || uid == users::current();
        let untrusted = |cause: String| {
            Failure::new(
                "untrusted_link",
                format!("refusing to follow {}", crate::failure::quote(&path)),
            )
            .cause(cause)
            .remedy("replace it by a directory, or run as the user who owns it")
            .path(&path)
        };
        if !trusted(stat.st_uid) {
            let cause = format!("it is a symbolic link that belongs to user id {}", stat.st_uid);
            return Err(untrusted(cause));
        }
        let holder = self.info()?;
        if !trusted(holder.uid()) {
            return Err(untrusted(format!(
                "it is a symbolic link in a directory that belongs to user id {}, who may have \
                 made it",
                holder.uid()
            )));
        }
        // For users other than root, the members of a group are trusted.
        let others = if users::is_root() { 0o022 } else { 0o002 };
        if holder.mode() & others != 0 && holder.mode() & 0o1000 == 0 {
            return Err(untrusted(
                "it is a symbolic link in a directory that is writable by others".to_owned(),
            ));
        }
        let target = fs::readlinkat(&handle, "", Vec::new()).or_fail("read the link", &path)?;
        let fd = fs::openat(&self.fd, &target, OPEN_DIR, Mode::empty())
            .or_fail("open the directory", &path)?;
        Ok(Dir { fd, path })
    }

    /// Opens a directory below this one, name by name, links followed as in
    /// [`Self::open_trusted_dir`].
    ///
    /// # Errors
    /// As there.
    pub fn open_below(&self, path: &RelPath) -> Result<Dir, Failure> {
        path.names().try_fold(self.duplicate()?, |dir, name| dir.open_trusted_dir(name))
    }

    /// Opens a directory below this one and creates missing ones, with `mkdir`'s default mode.
    /// Returns whether any was missing.
    ///
    /// # Errors
    /// When something else stands in the way.
    pub fn ensure_below(&self, path: &RelPath) -> Result<(Dir, bool), Failure> {
        let mut dir = self.duplicate()?;
        let mut made = false;
        for name in path.names() {
            made |= dir.make_dir_if_missing(name)?;
            dir = dir.open_trusted_dir(name)?;
        }
        Ok((dir, made))
    }

    /// Creates a directory unless the name exists.
    ///
    /// # Errors
    /// When it cannot.
    pub fn make_dir_if_missing(&self, name: impl AsRef<Path>) -> Result<bool, Failure> {
        let name = name.as_ref();
        match fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(Failure::io("create the directory", &self.at(name), error)),
        }
    }

    /// Creates a directory, which must not exist, with these permissions less the umask.
    ///
    /// # Errors
    /// When it cannot.
    pub fn make_dir(&self, name: impl AsRef<Path>, mode: u32) -> Result<Dir, Failure> {
        let name = name.as_ref();
        fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))
            .or_fail("create the directory", self.at(name))?;
        let made = self.open_dir(name)?;
        if self.is_ours_alone()? {
            return Ok(made);
        }
        // It was opened by its name, so another process may have replaced it. (Some file systems
        // have no owners, or give every file that of the directory.)
        let owners = [users::current(), self.info()?.uid()];
        if owners.contains(&made.info()?.uid()) && made.names()?.is_empty() {
            return Ok(made);
        }
        let error = io::Error::other("another process replaced it while it was created");
        Err(Failure::io("create the directory", &made.path, error)
            .remedy("find out which process writes there"))
    }

    /// Creates a directory under a temporary name that no other user can read or change.
    ///
    /// # Errors
    /// When it cannot.
    pub fn make_private_dir(&self, beside: impl AsRef<Path>) -> Result<(OsString, Dir), Failure> {
        let name = self.temporary(beside);
        let made = self.make_dir(&name, 0o700)?;
        let info = made.info()?;
        if info.uid() == users::current() && info.mode() & 0o077 == 0 {
            return Ok((name, made));
        }
        let error = io::Error::other("other users would have access to it");
        Err(Failure::io("create the directory", &made.path, error))
    }

    /// The names in it, sorted.
    ///
    /// # Errors
    /// An I/O error.
    pub fn names(&self) -> Result<Vec<OsString>, Failure> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.fd).or_fail("read the directory", &self.path)? {
            let entry = entry.or_fail("read the directory", &self.path)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The target of a symbolic link; `None` if the name is not a link.
    ///
    /// # Errors
    /// An I/O error.
    pub fn read_link(&self, name: impl AsRef<Path>) -> Result<Option<PathBuf>, Failure> {
        let name = name.as_ref();
        match fs::readlinkat(&self.fd, name, Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes())))),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(Failure::io("read the link", &self.at(name), error)),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        symlink("/etc", scratch.path().join("link")).unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        assert!(dir.open_dir("link").is_err());
        assert!(dir.read("link").is_err());
        assert_eq!(dir.read_link("link").unwrap(), Some(PathBuf::from("/etc")));
        // We made it ourselves, so this is what the administrator wants.
        assert!(dir.open_trusted_dir("link").is_ok());
    }

    #[test]
    fn a_link_that_somebody_else_may_have_put_there_is_not_followed() {
        if !users::is_root() {
            eprintln!("NOT CHECKED without root: links in directories of other users");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("place");
        std::fs::create_dir(&place).unwrap();
        symlink("/etc", place.join("link")).unwrap();
        let dir = Dir::open(&place).unwrap();
        assert!(dir.open_trusted_dir("link").is_ok());
        // Root made the link, but who owns the directory may have brought it from elsewhere.
        std::os::unix::fs::chown(&place, Some(65534), None).unwrap();
        assert_eq!(dir.open_trusted_dir("link").unwrap_err().code(), "untrusted_link");
        std::os::unix::fs::chown(&place, Some(0), None).unwrap();
        dir.set_mode(0o777).unwrap();
        assert_eq!(dir.open_trusted_dir("link").unwrap_err().code(), "untrusted_link");
        dir.set_mode(0o755).unwrap();
        std::os::unix::fs::lchown(place.join("link"), Some(65534), None).unwrap();
        assert_eq!(dir.open_trusted_dir("link").unwrap_err().code(), "untrusted_link");
    }

    #[test]
    fn a_taken_name_stays_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        assert!(dir.write_new("lock", b"first", 0o644).unwrap());
        assert!(!dir.write_new("lock", b"second", 0o644).unwrap());
        assert_eq!(dir.read("lock").unwrap().unwrap(), b"first");
        assert_eq!(dir.names().unwrap(), ["lock"]);
    }

    #[test]
    fn a_link_is_replaced_and_a_directory_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        dir.replace_with_symlink("current", Path::new("a")).unwrap();
        dir.replace_with_symlink("current", Path::new("b")).unwrap();
        assert_eq!(dir.read_link("current").unwrap(), Some(PathBuf::from("b")));
        dir.make_dir("full", 0o755).unwrap();
        assert!(dir.replace_with_symlink("full", Path::new("a")).is_err());
        assert_eq!(dir.names().unwrap(), ["current", "full"]);
    }

    #[test]
    fn exchange_swaps_a_directory_and_a_link() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        dir.make_dir("dir", 0o755).unwrap();
        dir.make_symlink("link", Path::new("x")).unwrap();
        if dir.exchange("dir", "link").unwrap() {
            assert!(dir.lookup("link").unwrap().unwrap().is_dir());
            assert!(dir.lookup("dir").unwrap().unwrap().is_symlink());
        }
    }
}
