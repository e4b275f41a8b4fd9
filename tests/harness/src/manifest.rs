//! What is in a tree, to compare it before and after.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything below a directory, itself included: type, mode, owner, link target,
/// contents; on request inode and time as well.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest(BTreeMap<PathBuf, String>);

impl Manifest {
    /// Of what is below `top`; nothing there is an empty manifest.
    pub fn of(top: &Path) -> Self {
        Self::made(top, false)
    }

    /// With inodes and modification times: the same only if nothing was touched at all.
    pub fn exact(top: &Path) -> Self {
        Self::made(top, true)
    }

    fn made(top: &Path, exact: bool) -> Self {
        let mut entries = BTreeMap::new();
        walk(top, Path::new(""), exact, &mut entries);
        Self(entries)
    }

    /// Without what is below `path`, and it.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.0.retain(|entry, _| !entry.starts_with(path));
        self
    }

    /// With other names in its paths: `rename` gets each name and returns what it is to be.
    #[must_use]
    pub fn renamed(self, rename: impl Fn(&OsStr) -> OsString) -> Self {
        Self(
            self.0
                .into_iter()
                .map(|(path, what)| (path.iter().map(&rename).collect(), what))
                .collect(),
        )
    }

    /// Paths, sorted.
    pub fn paths(&self) -> Vec<&str> {
        self.0.keys().filter_map(|path| path.to_str()).filter(|path| !path.is_empty()).collect()
    }

    /// Panics with the differing lines when they are not the same.
    #[track_caller]
    pub fn assert_same(&self, after: &Self) {
        let mut differences = String::new();
        for (path, was) in &self.0 {
            match after.0.get(path) {
                Some(is) if is == was => {}
                Some(is) => {
                    differences += &format!("  {}: {was}\n    became {is}\n", path.display());
                }
                None => differences += &format!("  {}: {was}\n    is gone\n", path.display()),
            }
        }
        for (path, is) in after.0.iter().filter(|(path, _)| !self.0.contains_key(*path)) {
            differences += &format!("  {}: {is}\n    is new\n", path.display());
        }
        assert!(differences.is_empty(), "the tree has changed:\n{differences}");
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string())
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(path, what)| writeln!(f, "  {:<40} {what}", path.display()))
    }
}

fn walk(top: &Path, below: &Path, exact: bool, entries: &mut BTreeMap<PathBuf, String>) {
    let path = top.join(below);
    let Ok(meta) = path.symlink_metadata() else { return };
    let mode = meta.mode() & 0o7777;
    let mut line = if meta.is_symlink() {
        format!("-> {}", fs::read_link(&path).unwrap_or_default().display())
    } else if meta.is_dir() {
        format!("dir  {mode:04o} {}:{}", meta.uid(), meta.gid())
    } else if meta.is_file() {
        let contents = fs::read(&path).unwrap_or_default();
        format!("file {mode:04o} {}:{} {}", meta.uid(), meta.gid(), shown(&contents))
    } else {
        format!("special {:o}", meta.mode())
    };
    if exact {
        line += &format!(" inode {} time {}.{:09}", meta.ino(), meta.mtime(), meta.mtime_nsec());
    }
    entries.insert(below.to_owned(), line);
    if meta.is_dir() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            walk(top, &below.join(entry.file_name()), exact, entries);
        }
    }
}

/// Short contents themselves, long ones by length and a sum.
fn shown(contents: &[u8]) -> String {
    if contents.len() <= 200 {
        return format!("'{}'", contents.escape_ascii());
    }
    // FNV-1a: enough to see a difference.
    let sum = contents.iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{} bytes, {sum:016x}, '{}'…", contents.len(), contents[..60].escape_ascii())
}
