//! Owns the notes that are taken of files while they are written: the hash of the contents, and a
//! mark that tells later whether the file was changed.

use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{self, Stat};
use sha2::{Digest, Sha256};

use crate::manifest::Hash;

/// Identifies an unchanged file. A change of its contents or attributes changes the ctime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub(crate) inode: u64,
    /// The ctime: when contents or attributes were last changed.
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    pub(crate) size: u64,
}

impl Mark {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            seconds: stat.st_ctime,
            nanoseconds: stat.st_ctime_nsec as u32,
            size: stat.st_size as u64,
        }
    }
}

/// The note of one file.
#[derive(Debug)]
pub(crate) struct Note {
    /// Its number among the files of the archive.
    pub(crate) file: u32,
    pub(crate) hash: Hash,
    /// `None` if the file was not written or could not be examined.
    pub(crate) mark: Option<Mark>,
}

impl Note {
    /// The note of an open file whose contents have this hash.
    pub(crate) fn of(file: u32, hash: Hash, written: impl AsFd) -> Self {
        Self { file, hash, mark: fs::fstat(written).ok().map(|stat| Mark::of(&stat)) }
    }

    /// The note of an open file with these contents.
    pub(crate) fn of_contents(file: u32, contents: &[u8], written: impl AsFd) -> Self {
        Self::of(file, Sha256::digest(contents).into(), written)
    }
}

/// All notes, in any order.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<Note>>);

impl Notes {
    /// Adds notes.
    pub(crate) fn add(&self, notes: impl IntoIterator<Item = Note>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(notes);
    }

    /// Takes all notes out.
    pub(crate) fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
