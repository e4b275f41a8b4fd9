//! The indexes of releases. An index tells which files of a release are still as they were
//! unpacked. The indexes are in a directory that only this user can enter. They are hints: if one
//! is missing or cannot be trusted, a deploy sends more bytes, and the release is the same. See
//! `docs/spare.md`.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use oxistrano_core::{Dir, Failure, remove, users};

use crate::{Root, trash};

/// The maximum size of an index in bytes.
const MOST: u64 = 1 << 30;

/// Each user has their own directory. In a common one, a deploy by root would leave indexes that
/// another user can neither read nor remove.
fn directory() -> String {
    format!("index-{}", users::current())
}

/// The indexes of a deploy root.
#[derive(Debug)]
pub struct Indexes {
    dir: Dir,
}

impl Indexes {
    /// Opens their directory; `None` if it is missing, or if other users may enter it.
    pub fn open(root: &Root) -> Option<Self> {
        let dir = root.state_if_there().ok()??.open_dir(directory()).ok()?;
        let info = dir.info().ok()?;
        let ours = info.uid() == users::current() && info.mode() & 0o077 == 0;
        ours.then_some(Self { dir })
    }

    /// Opens their directory. If it is missing, or other users may enter it, a new one is made.
    ///
    /// # Errors
    /// An I/O error.
    pub fn make(root: &Root) -> Result<Self, Failure> {
        if let Some(indexes) = Self::open(root) {
            return Ok(indexes);
        }
        let state = root.state()?;
        remove::remove_tree(&state, directory())?;
        Ok(Self { dir: state.make_dir(directory(), 0o700)? })
    }

    /// Their directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The file name of a release's index: the inode number of its directory, which a rename keeps.
    ///
    /// # Errors
    /// An I/O error.
    pub fn name(release: &Dir) -> Result<String, Failure> {
        Ok(release.info()?.inode().to_string())
    }

    /// Reads the index of a release, at most `most` bytes of it; `None` if there is none that can be
    /// trusted.
    pub fn read(&self, release: &Dir, most: Option<u64>) -> Option<Vec<u8>> {
        let file = self.dir.open_file(Self::name(release).ok()?).ok()?;
        let info = file.metadata().ok()?;
        let ours = info.uid() == users::current() && info.mode() & 0o077 == 0;
        if !ours || info.len() > MOST {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(most.unwrap_or(info.len())).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Removes the indexes of releases that no longer exist. The caller has locked the root.
    pub fn tidy(root: &Root) {
        let Some(indexes) = Self::open(root) else { return };
        // If an index cannot be removed now, the next call tries again.
        let _ = root.releases().and_then(|releases| indexes.keep(&releases));
    }

    fn keep(&self, releases: &Dir) -> Result<(), Failure> {
        let mut kept = Vec::new();
        for name in releases.names()?.iter().filter(|name| !trash::is_trash(name)) {
            if let Some(info) = releases.lookup(name)?.filter(|info| info.is_dir()) {
                kept.push(OsString::from(info.inode().to_string()));
            }
        }
        for name in self.dir.names()?.iter().filter(|name| !kept.contains(name)) {
            remove::remove_tree(&self.dir, name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::scratch;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_what_is_ours_alone_is_read() {
        let (scratch, root) = scratch();
        assert!(Indexes::open(&root).is_none());
        let releases = root.releases().unwrap();
        let release = releases.make_dir("1", 0o755).unwrap();
        let path = scratch.path().join(".oxistrano").join(directory());
        let indexes = Indexes::make(&root).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let file = path.join(Indexes::name(&release).unwrap());
        let set_mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&file, "index").unwrap();
        set_mode(0o644);
        assert!(indexes.read(&release, None).is_none());
        set_mode(0o600);
        assert_eq!(indexes.read(&release, None).unwrap(), b"index");
        assert_eq!(indexes.read(&release, Some(2)).unwrap(), b"in");
        // A sparse file of a terabyte uses no disk space.
        fs::File::options().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
        assert!(indexes.read(&release, None).is_none());
        fs::remove_file(&file).unwrap();
        symlink("/etc/passwd", &file).unwrap();
        assert!(indexes.read(&release, None).is_none());
        fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        assert!(indexes.read(&release, None).is_none());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(Indexes::open(&root).is_none());
        let made = Indexes::make(&root).unwrap();
        assert!(made.dir().names().unwrap().is_empty(), "what others may have written");
    }

    #[test]
    fn an_index_goes_with_its_release() {
        let (_scratch, root) = scratch();
        let releases = root.releases().unwrap();
        let indexes = Indexes::make(&root).unwrap();
        for name in ["1", "2", ".oxistrano-spare", ".oxistrano-trash-3.0"] {
            let name = Indexes::name(&releases.make_dir(name, 0o755).unwrap()).unwrap();
            indexes.dir().write(name, b"x", 0o600).unwrap();
        }
        indexes.dir().write("half-written", b"x", 0o600).unwrap();
        Indexes::tidy(&root);
        assert_eq!(indexes.dir().names().unwrap().len(), 3);
    }
}
