//! Owns what is noted of files while they are written: the hash of their contents, and how the file
//! system will tell that they are still what they were.

use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{self, Stat};
use sha2::{Digest, Sha256};

use crate::manifest::Hash;

/// By which a file is known again: nothing of this stays if its contents or attributes change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub(crate) inode: u64,
    /// When it was changed last, contents or attributes.
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

/// What is noted of a file.
#[derive(Debug)]
pub(crate) struct Note {
    /// Its number among the files of the archive.
    pub(crate) file: u32,
    pub(crate) hash: Hash,
    /// `None` if it was not written.
    pub(crate) mark: Option<Mark>,
}

impl Note {
    /// Of an open file with these contents. The file system may not tell; then it is not known again.
    pub(crate) fn of(file: u32, hash: Hash, written: impl AsFd) -> Self {
        Self { file, hash, mark: fs::fstat(written).ok().map(|stat| Mark::of(&stat)) }
    }

    /// Of an open file whose contents are here.
    pub(crate) fn of_contents(file: u32, contents: &[u8], written: impl AsFd) -> Self {
        Self::of(file, Sha256::digest(contents).into(), written)
    }
}

/// What was noted, in no order.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<Note>>);

impl Notes {
    /// Adds some.
    pub(crate) fn add(&self, notes: impl IntoIterator<Item = Note>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(notes);
    }

    /// All of them; afterwards there are none.
    pub(crate) fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
