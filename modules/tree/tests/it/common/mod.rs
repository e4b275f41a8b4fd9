//! What a tree looks like, in a form that can be compared.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oxistrano_core::{Dir, RelPath, users};
use rustix::fs::{lgetxattr, llistxattr};

/// What is compared.
#[derive(Clone, Copy)]
pub struct Look {
    pub times: bool,
    pub hard_links: bool,
    pub root: bool,
}

pub const ALL: Look = Look { times: true, hard_links: true, root: true };
pub const CONTENTS: Look = Look { times: false, hard_links: false, root: true };

/// Everything about every path of a tree; extended attributes, too.
pub fn manifest(root: &Path, look: Look) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(rel) = todo.pop() {
        let path = if rel.as_os_str().is_empty() { root.to_owned() } else { root.join(&rel) };
        let info = fs::symlink_metadata(&path).unwrap();
        let mut line = format!("{:o} {}:{}", info.mode(), info.uid(), info.gid());
        if look.times {
            line += &format!(" {}.{:09}", info.mtime(), info.mtime_nsec());
        }
        if info.is_symlink() {
            line += &format!(" -> {:?}", fs::read_link(&path).unwrap());
        } else if info.is_file() {
            let contents = fs::read(&path).unwrap();
            line += &format!(" {} {:?}", contents.len(), &contents[..contents.len().min(40)]);
            line += &format!(
                " {}",
                contents.iter().fold(7_u64, |h, b| h.wrapping_mul(31) + u64::from(*b))
            );
        } else if info.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| rel.join(e.unwrap().file_name())));
        }
        line += &format!(" {:?}", attributes(&path));
        if look.hard_links && !info.is_dir() && info.nlink() > 1 {
            inodes.entry((info.dev(), info.ino())).or_insert_with(Vec::new).push(rel.clone());
        }
        if look.root || !rel.as_os_str().is_empty() {
            found.insert(rel, line);
        }
    }
    for mut group in inodes.into_values() {
        group.sort();
        for path in &group {
            *found.get_mut(path).unwrap() += &format!(" = {group:?}");
        }
    }
    found
}

pub fn attributes(path: &Path) -> Vec<(CString, Vec<u8>)> {
    let mut list = vec![0; 4096];
    let length = llistxattr(path, &mut list[..]).unwrap_or(0);
    let mut pairs: Vec<_> = list[..length]
        .split_inclusive(|b| *b == 0)
        .map(|name| CString::from_vec_with_nul(name.to_vec()).unwrap())
        .filter(|name| !name.to_bytes().starts_with(b"security."))
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = lgetxattr(path, &name, &mut value[..]).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect();
    pairs.sort();
    pairs
}

/// Fails with the differences only.
#[track_caller]
pub fn assert_same(a: &BTreeMap<PathBuf, String>, b: &BTreeMap<PathBuf, String>) {
    let differs = |x: &BTreeMap<PathBuf, String>, y: &BTreeMap<PathBuf, String>| -> Vec<String> {
        x.iter()
            .filter(|(path, line)| y.get(*path) != Some(line))
            .map(|(path, line)| format!("{path:?} {line}"))
            .collect()
    };
    let (left, right) = (differs(a, b), differs(b, a));
    assert!(left.is_empty() && right.is_empty(), "left: {left:#?}\nright: {right:#?}");
}

pub fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

pub fn open(path: impl AsRef<Path>) -> Dir {
    Dir::open(path.as_ref()).unwrap()
}

/// An empty directory of that name.
pub fn empty(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    fs::create_dir(&path).unwrap();
    path
}

/// Writes a file and the directories above it.
pub fn put(root: &Path, path: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, contents).unwrap();
    path
}

pub fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether the test can be done as root; says so if not.
pub fn root(test: &str) -> bool {
    if !users::is_root() {
        eprintln!("NOT TESTED, needs root: {test}");
    }
    users::is_root()
}

/// Names under which nothing but the temporary files of this crate stands.
pub fn temporary_names(root: &Path) -> Vec<PathBuf> {
    manifest(root, CONTENTS)
        .into_keys()
        .filter(|path| path.as_os_str().as_bytes().windows(14).any(|w| w == b".oxistrano-tmp"))
        .collect()
}
