//! A directory held open, and what can be done with the names in it. A path is looked
//! up once, when the handle is made; after that nobody can put another directory in
//! its place. Symbolic links are never followed unless a function says so.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::{users, Failure, IoContext, RelPath};

const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

const TEMPORARY: &str = ".oxistrano-tmp-";

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Where it was found; for messages, and for handing to a child process.
    path: PathBuf,
}

/// What stands under a name, from one `lstat`.
#[derive(Debug, Clone, Copy)]
pub struct Info {
    stat: Stat,
}

impl Info {
    /// A directory, not a link to one.
    pub fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }
    /// A symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind() == FileType::Symlink
    }
    /// A regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }
    /// What it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
    /// In a word, for messages.
    pub fn noun(&self) -> &'static str {
        match self.kind() {
            FileType::Directory => "a directory",
            FileType::Symlink => "a symbolic link",
            FileType::RegularFile => "a file",
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            _ => "a device",
        }
    }
    /// Permission bits.
    pub fn mode(&self) -> u32 {
        self.stat.st_mode & 0o7777
    }
    /// Owner.
    pub fn uid(&self) -> u32 {
        self.stat.st_uid
    }
    /// Group.
    pub fn gid(&self) -> u32 {
        self.stat.st_gid
    }
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.stat.st_size as u64
    }
    /// Modification time, seconds since the epoch.
    pub fn mtime(&self) -> i64 {
        self.stat.st_mtime
    }
    /// Its number on that device.
    pub fn inode(&self) -> u64 {
        self.stat.st_ino
    }
    /// The device that it is on.
    pub fn device(&self) -> u64 {
        self.stat.st_dev
    }
    /// Whether both are the same file.
    pub fn same_file(&self, other: &Info) -> bool {
        self.stat.st_dev == other.stat.st_dev && self.stat.st_ino == other.stat.st_ino
    }
    /// All of it.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }
}

impl Dir {
    /// Opens a directory by its path; links on the way there are followed, as the
    /// administrator who wrote the path wants it.
    ///
    /// # Errors
    /// When it is not there, not a directory or not readable.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let fd = fs::open(path, OPEN_DIR, Mode::empty()).or_fail("open the directory", path)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// The directory that this process was given as its standard input.
    ///
    /// # Errors
    /// When standard input is something else.
    pub fn from_stdin() -> Result<Self, Failure> {
        let path = PathBuf::from("/dev/stdin");
        let fd = fs::openat(io::stdin().as_fd(), ".", OPEN_DIR, Mode::empty())
            .or_fail("open the directory", &path)?;
        Ok(Self { fd, path })
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

    /// Opens a regular file in this one for reading; a link is refused.
    ///
    /// # Errors
    /// When it is not there or something else.
    pub fn open_file(&self, name: impl AsRef<Path>) -> Result<File, Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        // NONBLOCK: a FIFO must not hold us up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty()).or_fail("open", &path)?;
        let stat = fs::fstat(&fd).or_fail("examine", &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let error = io::Error::other("it is not a regular file");
            return Err(Failure::io("open", &path, error));
        }
        Ok(File::from(fd))
    }

    /// Itself.
    ///
    /// # Errors
    /// An I/O error.
    pub fn info(&self) -> Result<Info, Failure> {
        let stat = fs::fstat(&self.fd).or_fail("examine", &self.path)?;
        Ok(Info { stat })
    }

    /// What stands under a name; `None` if nothing does.
    ///
    /// # Errors
    /// Anything but "not there".
    pub fn lookup(&self, name: impl AsRef<Path>) -> Result<Option<Info>, Failure> {
        let name = name.as_ref();
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Info { stat })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Failure::io("examine", &self.at(name), error)),
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
            .or_fail("open the directory", &path)?;
        Ok(Dir { fd, path })
    }

    /// Opens a directory in this one, as [`Self::open_dir`]; `None` if something is mounted
    /// there, from the same file system as well. Kernels before 5.6 do not see the latter.
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

    /// Opens a directory in this one. A link is followed when root or the user of this
    /// process made it, and when the directory that it stands in is theirs too, so that
    /// nobody else can have put it there: an administrator may keep `shared` on another
    /// file system, a web user may not point root elsewhere.
    ///
    /// # Errors
    /// When it is not there, not a directory, or a link that is not trusted.
    pub fn open_trusted_dir(&self, name: impl AsRef<Path>) -> Result<Dir, Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        // A handle on the link itself: what is examined is what is followed.
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
            .remedy("put a directory in its place, or run as the user who owns it")
            .path(&path)
        };
        if !trusted(stat.st_uid) {
            let cause = format!("it is a symbolic link that user id {} made", stat.st_uid);
            return Err(untrusted(cause));
        }
        let holder = self.info()?;
        if !trusted(holder.uid()) {
            return Err(untrusted(format!(
                "it is a symbolic link in a directory of user id {}, who may have put it there",
                holder.uid()
            )));
        }
        // For other users a group is its members' own business.
        let others = if users::is_root() { 0o022 } else { 0o002 };
        if holder.mode() & others != 0 && holder.mode() & 0o1000 == 0 {
            return Err(untrusted(
                "it is a symbolic link in a directory that others may write".to_owned(),
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

    /// Opens a directory below this one and makes what is missing, with the mode that
    /// `mkdir` gives. Returns whether any was missing.
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

    /// Makes a directory unless something is there already.
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

    /// Makes a directory that must not be there yet, with these permissions less the
    /// umask.
    ///
    /// # Errors
    /// When it cannot.
    pub fn make_dir(&self, name: impl AsRef<Path>, mode: u32) -> Result<Dir, Failure> {
        let name = name.as_ref();
        fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))
            .or_fail("create the directory", self.at(name))?;
        self.open_dir(name)
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

    /// Where a symbolic link points; `None` if there is no link.
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

    /// The contents of a regular file; `None` if it is not there.
    ///
    /// # Errors
    /// When it is something else than a file, or unreadable.
    pub fn read(&self, name: impl AsRef<Path>) -> Result<Option<Vec<u8>>, Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        // NONBLOCK: a FIFO must not hold us up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = match fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Failure::io("read", &path, error)),
        };
        let stat = fs::fstat(&fd).or_fail("examine", &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let error = io::Error::other("it is not a regular file");
            return Err(Failure::io("read", &path, error));
        }
        let mut contents = Vec::new();
        File::from(fd).read_to_end(&mut contents).or_fail("read", &path)?;
        Ok(Some(contents))
    }

    /// Replaces or makes a file in one step: written beside, synced, renamed.
    ///
    /// # Errors
    /// An I/O error; the old file is untouched then.
    pub fn write(&self, name: impl AsRef<Path>, contents: &[u8], mode: u32) -> Result<(), Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        let temporary = self.temporary(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, &temporary, flags, Mode::from_raw_mode(mode))
            .or_fail("write", &path)?;
        let mut file = File::from(fd);
        let result = file
            .write_all(contents)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(fs::renameat(&self.fd, &temporary, &self.fd, name)?));
        if result.is_err() {
            let _ = fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
        }
        result.or_fail("write", &path)
    }

    /// Makes a file with these contents under a name that must be free: another
    /// process sees it whole or not at all. `false` if the name is taken.
    ///
    /// # Errors
    /// An I/O error.
    pub fn write_new(
        &self,
        name: impl AsRef<Path>,
        contents: &[u8],
        mode: u32,
    ) -> Result<bool, Failure> {
        let name = name.as_ref();
        let temporary = self.temporary(name);
        self.write(&temporary, contents, mode)?;
        let linked = fs::linkat(&self.fd, &temporary, &self.fd, name, AtFlags::empty());
        let _ = fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(Failure::io("create", &self.at(name), error)),
        }
    }

    /// Makes `name` a symbolic link to `target` with one rename; a link or file that is
    /// there is replaced, a directory refused by the kernel.
    ///
    /// # Errors
    /// An I/O error; what was there stays then.
    pub fn replace_with_symlink(
        &self,
        name: impl AsRef<Path>,
        target: &Path,
    ) -> Result<(), Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        let temporary = self.temporary(name);
        fs::symlinkat(target, &self.fd, &temporary).or_fail("create the link", &path)?;
        let renamed = fs::renameat(&self.fd, &temporary, &self.fd, name);
        if renamed.is_err() {
            let _ = fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
        }
        renamed.or_fail("replace", &path)
    }

    /// Makes a symbolic link under a free name.
    ///
    /// # Errors
    /// When the name is taken, or an I/O error.
    pub fn make_symlink(&self, name: impl AsRef<Path>, target: &Path) -> Result<(), Failure> {
        let name = name.as_ref();
        fs::symlinkat(target, &self.fd, name).or_fail("create the link", self.at(name))
    }

    /// Renames within this directory; what `to` names is replaced as `rename(2)` does.
    ///
    /// # Errors
    /// An I/O error.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Failure> {
        let (from, to) = (from.as_ref(), to.as_ref());
        fs::renameat(&self.fd, from, &self.fd, to).or_fail("rename", self.at(from))
    }

    /// Renames into another directory.
    ///
    /// # Errors
    /// An I/O error, among them "on another file system".
    pub fn rename_to(
        &self,
        from: impl AsRef<Path>,
        dir: &Dir,
        to: impl AsRef<Path>,
    ) -> Result<(), Failure> {
        let from = from.as_ref();
        fs::renameat(&self.fd, from, &dir.fd, to.as_ref()).or_fail("rename", self.at(from))
    }

    /// Renames to a free name. `false` if it is taken. Where the file system has no
    /// `RENAME_NOREPLACE`, looks first.
    ///
    /// # Errors
    /// An I/O error.
    pub fn rename_new(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
    ) -> Result<bool, Failure> {
        let (from, to) = (from.as_ref(), to.as_ref());
        match fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(Errno::INVAL | Errno::NOSYS) => {
                if self.lookup(to)?.is_some() {
                    return Ok(false);
                }
                self.rename(from, to).map(|()| true)
            }
            Err(error) => Err(Failure::io("rename", &self.at(from), error)),
        }
    }

    /// Exchanges two names in one step. `false` if kernel or file system cannot.
    ///
    /// # Errors
    /// An I/O error.
    pub fn exchange(&self, a: impl AsRef<Path>, b: impl AsRef<Path>) -> Result<bool, Failure> {
        let (a, b) = (a.as_ref(), b.as_ref());
        match fs::renameat_with(&self.fd, a, &self.fd, b, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS) => Ok(false),
            Err(error) => Err(Failure::io("exchange", &self.at(b), error)),
        }
    }

    /// Puts `made` in the place of `name`, which is there; afterwards `made` names what was
    /// there before. Returns whether `name` was there all the time: where the file system
    /// cannot exchange two names, it is missing between two renames.
    ///
    /// # Errors
    /// An I/O error; both are as they were then.
    pub fn put_in_place(
        &self,
        made: impl AsRef<Path>,
        name: impl AsRef<Path>,
    ) -> Result<bool, Failure> {
        let (made, name) = (made.as_ref(), name.as_ref());
        if self.exchange(made, name)? {
            return Ok(true);
        }
        let aside = self.temporary(name);
        self.rename(name, &aside)?;
        if let Err(failure) = self.rename(made, name) {
            self.rename(&aside, name)?;
            return Err(failure);
        }
        self.rename(&aside, made)?;
        Ok(false)
    }

    /// Removes a file or link. `false` if it was not there.
    ///
    /// # Errors
    /// When it is a directory, or an I/O error.
    pub fn remove_file(&self, name: impl AsRef<Path>) -> Result<bool, Failure> {
        let name = name.as_ref();
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(Failure::io("remove", &self.at(name), error)),
        }
    }

    /// Sets permissions of the directory itself.
    ///
    /// # Errors
    /// An I/O error.
    pub fn set_mode(&self, mode: u32) -> Result<(), Failure> {
        fs::fchmod(&self.fd, Mode::from_raw_mode(mode)).or_fail("set the mode of", &self.path)
    }

    /// Makes what was renamed, made or removed in it durable.
    ///
    /// # Errors
    /// An I/O error.
    pub fn sync(&self) -> Result<(), Failure> {
        fs::fsync(&self.fd).or_fail("sync", &self.path)
    }

    /// Whether a name was made by [`Self::temporary`]. What has such a name and is nobody's
    /// at the moment was left by a process that was killed.
    pub fn is_temporary(name: &OsStr) -> bool {
        name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
    }

    /// A name beside `name` that nobody else uses.
    pub fn temporary(&self, name: impl AsRef<Path>) -> OsString {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut temporary = OsString::from(TEMPORARY);
        let name = name.as_ref().to_string_lossy().replace('/', "");
        // Short enough for NAME_MAX whatever `name` is.
        temporary.push(name.chars().take(40).collect::<String>());
        temporary.push(format!(".{}.{count}", std::process::id()));
        temporary
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
