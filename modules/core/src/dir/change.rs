//! Changes to the names in a directory, each visible in one step where the kernel supports that.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

use super::Dir;
use crate::{Failure, IoContext, temporary};

impl Dir {
    /// Writes a file in one step: under a temporary name, synced, then renamed.
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

    /// Creates a file with these contents under a name that must be free; other processes see
    /// either the complete file or none. `false` if the name is taken.
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

    /// Creates an empty file, open for reading and writing, under a name that must be free.
    ///
    /// # Errors
    /// When the name is taken, or an I/O error.
    pub fn create_file(&self, name: impl AsRef<Path>, mode: u32) -> Result<File, Failure> {
        let name = name.as_ref();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))
            .map(File::from)
            .or_fail("create", self.at(name))
    }

    /// Makes `name` a symbolic link to `target` by one rename. It replaces a link or a file; a directory is an error.
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

    /// Renames within this directory; replaces `to` as `rename(2)` does.
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

    /// Renames to a free name. `false` if it is taken. If the file system does not support
    /// `RENAME_NOREPLACE`, checks first.
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
            Err(error) => {
                let path = self.at(from);
                Err(Failure::io("rename", &path, error).name_mount(&path))
            }
        }
    }

    /// Exchanges two names in one step. `false` if the kernel or the file system does not support it.
    ///
    /// # Errors
    /// An I/O error.
    pub fn exchange(&self, a: impl AsRef<Path>, b: impl AsRef<Path>) -> Result<bool, Failure> {
        let (a, b) = (a.as_ref(), b.as_ref());
        match fs::renameat_with(&self.fd, a, &self.fd, b, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            // XDEV: a directory of a lower layer of an overlayfs.
            Err(Errno::INVAL | Errno::NOSYS | Errno::XDEV) => Ok(false),
            Err(error) => Err(Failure::io("exchange", &self.at(b), error)),
        }
    }

    /// Exchanges `made` with the existing `name`. Returns whether `name` existed all the time: if
    /// the file system cannot exchange two names, it is missing between two renames.
    ///
    /// # Errors
    /// An I/O error; both are as they were then. "On another file system" (`EXDEV`) is a directory
    /// that came with a lower layer of an overlayfs: it cannot be renamed at all.
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

    /// Removes a file or link. `false` if it did not exist.
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

    /// Gives the directory itself to an owner and a group.
    ///
    /// # Errors
    /// An I/O error.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<(), Failure> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        fs::fchown(&self.fd, Some(uid), Some(gid)).or_fail("set the owner of", &self.path)
    }

    /// Makes changes to the names in it durable.
    ///
    /// # Errors
    /// An I/O error.
    pub fn sync(&self) -> Result<(), Failure> {
        fs::fsync(&self.fd).or_fail("sync", &self.path)
    }

    /// Makes all writes to the file system of this directory durable.
    ///
    /// # Errors
    /// An I/O error, of a write before this call as well.
    pub fn sync_file_system(&self) -> Result<(), Failure> {
        match fs::syncfs(&self.fd) {
            // A sandbox may not allow the call.
            Err(Errno::NOSYS | Errno::PERM) => {
                fs::sync();
                Ok(())
            }
            other => other.or_fail("sync the file system of", &self.path),
        }
    }

    /// Creates a directory unless the name exists. It gets its owner and group before its name, so
    /// that a killed process leaves no directory with the wrong owner.
    ///
    /// # Errors
    /// An I/O error; nothing is made then.
    pub fn make_dir_owned(
        &self,
        name: impl AsRef<Path>,
        owner: Option<u32>,
        group: Option<u32>,
    ) -> Result<bool, Failure> {
        let name = name.as_ref();
        if self.lookup(name)?.is_some() {
            return Ok(false);
        }
        self.clear_temporaries(name);
        let temporary = self.temporary(name);
        let made = self.make_dir(&temporary, 0o777).and_then(|dir| {
            if owner.is_some() || group.is_some() {
                fs::fchown(&dir, owner.map(Uid::from_raw), group.map(Gid::from_raw))
                    .or_fail("set the owner of", self.at(name))?;
            }
            self.rename_new(&temporary, name)
        });
        if !matches!(made, Ok(true)) {
            let _ = fs::unlinkat(&self.fd, &temporary, AtFlags::REMOVEDIR);
        }
        made
    }

    /// Removes the temporary files and empty directories of `name` that killed processes have left;
    /// if that fails, the next process tries again.
    pub fn clear_temporaries(&self, name: impl AsRef<Path>) {
        let beside = format!("{}{}.", temporary::PREFIX, temporary::shortened(name.as_ref()));
        for left in self.names().unwrap_or_default() {
            let text = left.to_string_lossy();
            let pid = text.strip_prefix(&beside).and_then(|rest| rest.split('.').next());
            let is_gone = |pid| match pid == std::process::id() {
                true => !temporary::is_own(&left),
                false => !Path::new(&format!("/proc/{pid}")).exists(),
            };
            if pid.and_then(|pid| pid.parse::<u32>().ok()).is_some_and(is_gone) {
                let _ = fs::unlinkat(&self.fd, &left, AtFlags::empty());
                let _ = fs::unlinkat(&self.fd, &left, AtFlags::REMOVEDIR);
            }
        }
    }

    /// Whether a name was made by [`Self::temporary`]. If no running process uses it, a killed process has left it.
    pub fn is_temporary(name: &OsStr) -> bool {
        temporary::is_temporary(name)
    }

    /// A temporary name for `name`, see [`Self::unused`].
    pub fn temporary(&self, name: impl AsRef<Path>) -> OsString {
        Self::unused(temporary::PREFIX, name)
    }

    /// A name with this prefix, made of `name`, that is unique and unpredictable: in a container,
    /// the next process may have the process id of a killed one.
    pub fn unused(prefix: &str, name: impl AsRef<Path>) -> OsString {
        temporary::unused(prefix, name.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_directory_has_its_owner_before_its_name_and_nothing_is_left_beside_it() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        // No process has this number: the largest is 2^22.
        std::fs::create_dir(scratch.path().join(".oxistrano-tmp-var.4194305.0")).unwrap();
        std::fs::write(scratch.path().join(".oxistrano-tmp-var.4194305.1"), "").unwrap();
        // Of an earlier process with the number of this one; of one that runs.
        let earlier = format!(".oxistrano-tmp-var.{}.0-0", std::process::id());
        std::fs::write(scratch.path().join(earlier), "").unwrap();
        let other = ".oxistrano-tmp-var.1.0-0";
        std::fs::write(scratch.path().join(other), "").unwrap();
        let owner = users::is_root().then_some(65534);
        assert!(dir.make_dir_owned("var", owner, None).unwrap());
        assert!(!dir.make_dir_owned("var", owner, None).unwrap());
        let wanted = owner.unwrap_or_else(users::current);
        assert_eq!(scratch.path().join("var").metadata().unwrap().uid(), wanted);
        assert_eq!(dir.names().unwrap(), [OsString::from(other), "var".into()]);
    }

    #[test]
    fn a_directory_whose_owner_cannot_be_set_is_not_made() {
        if users::is_root() {
            eprintln!("NOT CHECKED as root: an owner that cannot be set");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        assert!(dir.make_dir_owned("var", Some(0), None).is_err());
        assert!(dir.names().unwrap().is_empty());
    }
}
