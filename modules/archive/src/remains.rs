//! The names that a tree has from before, in the directories that were entered, and that no entry
//! of the archive has taken yet. All other names were made for the archive.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

use crate::paths::split;

/// Bytes of a directory that are read at a time.
const WINDOW: usize = 16 << 10;

/// The names. Few at a time: entries of a directory usually come together.
#[derive(Default)]
pub(crate) struct Remains {
    /// Hashes of their paths.
    names: HashSet<u64>,
    /// The directories that have any, and how many.
    directories: HashMap<Vec<u8>, usize>,
    hasher: RandomState,
}

impl Remains {
    /// Notes what there is in a directory.
    pub(crate) fn enter(&mut self, path: &[u8], directory: &OwnedFd) -> Result<(), Errno> {
        let names = list(directory)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in &names {
            self.names.insert(self.hash(path, name));
        }
        self.directories.insert(path.to_vec(), names.len());
        Ok(())
    }

    fn hash(&self, directory: &[u8], name: &[u8]) -> u64 {
        self.hasher.hash_one((directory, name))
    }

    /// Takes a name; whether something of before has it.
    pub(crate) fn take(&mut self, path: &[u8]) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let (directory, name) = split(path);
        if !self.names.remove(&self.hash(directory, name)) {
            return false;
        }
        if let Some(number) = self.directories.get_mut(directory) {
            *number -= 1;
            if *number == 0 {
                self.directories.remove(directory);
            }
        }
        true
    }

    /// Whether this is, or lies in, something of before that was not taken.
    pub(crate) fn has(&self, path: &[u8]) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        ends.chain([path.len()]).any(|end| {
            let (directory, name) = split(path.get(..end).unwrap_or_default());
            self.names.contains(&self.hash(directory, name))
        })
    }

    /// Whether a directory has names that were not taken. Afterwards it has none.
    pub(crate) fn leave(&mut self, path: &[u8]) -> bool {
        self.directories.remove(path).is_some()
    }

    /// Those of a directory that was left, so that they can be removed.
    pub(crate) fn of(&mut self, path: &[u8], directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = list(directory)?;
        names.retain(|name| self.names.remove(&self.hash(path, name)));
        Ok(names)
    }

    /// The directories that have any.
    pub(crate) fn directories(&self) -> Vec<Vec<u8>> {
        self.directories.keys().cloned().collect()
    }
}

/// The names in a directory that has not been read yet.
fn list(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut window = [MaybeUninit::uninit(); WINDOW];
    let mut entries = RawDir::new(directory, &mut window);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
