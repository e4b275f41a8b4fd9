//! Regular files in a directory: only those that belong there, by name and without waiting.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Dir;
use crate::{Failure, IoContext, users};

/// The limit of [`Dir::read`], more than any version, lock or configuration has: the file may be in
/// a directory of a hostile user.
const LARGEST: u64 = 16 << 20;
/// How often to open a file again if another process has replaced it.
const TRIES: usize = 100;

impl Dir {
    /// The contents of a regular file; `None` if it does not exist.
    ///
    /// # Errors
    /// When it is not a regular file, unreadable, or too large.
    pub fn read(&self, name: impl AsRef<Path>) -> Result<Option<Vec<u8>>, Failure> {
        self.read_up_to(name, LARGEST)
    }

    /// The same with a limit of `most` bytes.
    ///
    /// # Errors
    /// As there.
    pub fn read_up_to(
        &self,
        name: impl AsRef<Path>,
        most: u64,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let name = name.as_ref();
        let path = self.at(name);
        let Some(file) = self.open_own(name, OFlags::RDONLY, Mode::empty(), "read")? else {
            return Ok(None);
        };
        let mut contents = Vec::new();
        file.take(most + 1).read_to_end(&mut contents).or_fail("read", &path)?;
        if contents.len() as u64 > most {
            let error = io::Error::other(format!("it has more than {most} bytes"));
            return Err(Failure::io("read", &path, error));
        }
        Ok(Some(contents))
    }

    /// Whether an open file is a regular one that belongs here. Users who may write to this
    /// directory can hard-link another user's file into it, unless the kernel forbids it
    /// (`fs.protected_hardlinks`); such a file must be neither changed nor shown. `false`: the name
    /// is now that of another file.
    fn is_own_file(&self, name: &Path, fd: &OwnedFd, verb: &str) -> Result<bool, Failure> {
        let path = self.at(name);
        let stat = fs::fstat(fd).or_fail("examine", &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let error = io::Error::other("it is not a regular file");
            return Err(Failure::io(verb, &path, error).remedy("remove it"));
        }
        let here = self.info()?;
        let others_write = here.mode() & 0o022 != 0;
        let trusted = self.is_ours_alone()?;
        let shows_nothing = verb != "write" && stat.st_mode & 0o004 != 0;
        if trusted || shows_nothing {
            return Ok(true);
        }
        // Checked by name, too: its second name here may have been removed since it was opened.
        let named = match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => named,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(Failure::io("examine", &path, error)),
        };
        if (named.st_dev, named.st_ino) != (stat.st_dev, stat.st_ino) {
            return Ok(false);
        }
        if named.st_nlink == 1 || (named.st_uid == here.uid() && !others_write) {
            return Ok(true);
        }
        let error = io::Error::other("it is a hard link, and may be another user's file");
        Err(Failure::io(verb, &path, error).remedy("remove it").path(path))
    }

    /// Opens a regular file in this one for reading; a link is refused.
    ///
    /// # Errors
    /// When it is not there, something else, or may be somebody else's.
    pub fn open_file(&self, name: impl AsRef<Path>) -> Result<File, Failure> {
        let name = name.as_ref();
        let file = self.open_own(name, OFlags::RDONLY, Mode::empty(), "open")?;
        file.ok_or(Errno::NOENT).or_fail("open", self.at(name))
    }

    /// Opens a regular file for reading and writing, with these additional flags, and creates it
    /// with this mode if it is missing.
    ///
    /// # Errors
    /// When it is something else, or may be somebody else's.
    pub fn open_to_write(
        &self,
        name: impl AsRef<Path>,
        flags: OFlags,
        mode: u32,
    ) -> Result<File, Failure> {
        let (name, flags) = (name.as_ref(), flags | OFlags::RDWR | OFlags::CREATE);
        let file = self.open_own(name, flags, Mode::from_raw_mode(mode), "write")?;
        file.ok_or(Errno::NOENT).or_fail("write", self.at(name))
    }

    /// The same for a file that other users may write, too, if the group may write to this
    /// directory: several users who deploy with a umask of 002.
    ///
    /// # Errors
    /// An I/O error.
    pub fn open_for_team(
        &self,
        name: impl AsRef<Path>,
        flags: OFlags,
        mode: u32,
    ) -> Result<File, Failure> {
        self.share_with_team(self.open_to_write(name, flags, mode)?)
    }

    /// If the group may write to this directory, lets it write to this file as well.
    ///
    /// # Errors
    /// An I/O error.
    pub fn share_with_team(&self, file: File) -> Result<File, Failure> {
        let stat = fs::fstat(&file).or_fail("examine", &self.path)?;
        let narrow = stat.st_mode & 0o060 != 0o060 && stat.st_uid == users::current();
        if narrow && self.info()?.mode() & 0o020 != 0 {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o777 | 0o060);
            fs::fchmod(&file, mode).or_fail("set the permissions of a file in", &self.path)?;
        }
        Ok(file)
    }

    /// `None` if it is not there.
    fn open_own(
        &self,
        name: &Path,
        flags: OFlags,
        mode: Mode,
        verb: &str,
    ) -> Result<Option<File>, Failure> {
        let path = self.at(name);
        // NONBLOCK: opening a FIFO must not block.
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        for _ in 0..TRIES {
            let fd = match fs::openat(&self.fd, name, flags, mode) {
                Err(Errno::NOENT) => return Ok(None),
                opened => opened.or_fail(verb, &path)?,
            };
            if self.is_own_file(name, &fd, verb)? {
                return Ok(Some(File::from(fd)));
            }
        }
        Err(Failure::io(verb, &path, io::Error::other("another process replaces it all the time")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_have_linked_here_is_neither_shown_nor_changed() {
        if !users::is_root() {
            eprintln!("NOT CHECKED without root: hard links in directories of other users");
            return;
        }
        use std::fs::Permissions;
        use std::os::unix::fs::{PermissionsExt, chown};
        let scratch = tempfile::tempdir().unwrap();
        let theirs = scratch.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        let secret = scratch.path().join("secret");
        std::fs::write(&secret, "s3cr3t").unwrap();
        let mode = |mode| std::fs::set_permissions(&secret, Permissions::from_mode(mode)).unwrap();
        // Where fs.protected_hardlinks is 0, they need no help with this.
        std::fs::hard_link(&secret, theirs.join("file")).unwrap();
        let dir = Dir::open(&theirs).unwrap();
        let write = || dir.open_to_write("file", OFlags::APPEND, 0o600).map(drop);
        mode(0o600);
        assert_eq!(dir.read("file").unwrap().unwrap(), b"s3cr3t", "the directory is root's");
        chown(&theirs, Some(65534), None).unwrap();
        for refused in [dir.read("file").map(drop), dir.open_file("file").map(drop), write()] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("it is a hard link"), "{error}");
        }
        // What everybody can read is no secret.
        mode(0o644);
        assert_eq!(dir.read("file").unwrap().unwrap(), b"s3cr3t");
        assert!(write().is_err());
        // Their own file, and one with a single name, whoever owns it.
        chown(&secret, Some(65534), None).unwrap();
        write().unwrap();
        chown(&secret, Some(0), None).unwrap();
        std::fs::remove_file(&secret).unwrap();
        write().unwrap();
    }

    #[test]
    fn a_file_larger_than_any_is_not_read() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        let file = File::create(dir.at("REVISION")).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = dir.read("REVISION").unwrap_err().to_string();
        assert!(error.contains("it has more than 16777216 bytes"), "{error}");
        file.set_len(3).unwrap();
        assert_eq!(dir.read_up_to("REVISION", 3).unwrap().unwrap(), [0; 3]);
        assert!(dir.read_up_to("REVISION", 2).is_err());
    }
}
