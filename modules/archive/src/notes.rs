//! Owns the notes that are taken of files and directories while they are written: the hash of the
//! contents, and a mark that tells later whether the file or directory was changed.

use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{self, Stat};

use crate::hash::Hash;
use crate::manifest::MOST_ENTRIES;

/// Bytes of a mark in an index.
pub(crate) const ROW: usize = 28;

/// Identifies an unchanged file or directory. A change of its contents or attributes changes the ctime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub(crate) inode: u64,
    /// The ctime: when contents or attributes were last changed.
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    /// Of a file.
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

    /// That of a directory, whose size says nothing.
    pub(crate) fn of_directory(stat: &Stat) -> Self {
        Self { size: 0, ..Self::of(stat) }
    }

    fn write(&self, row: &mut [u8]) {
        row[..8].copy_from_slice(&self.inode.to_le_bytes());
        row[8..16].copy_from_slice(&self.seconds.to_le_bytes());
        row[16..20].copy_from_slice(&self.nanoseconds.to_le_bytes());
        row[20..ROW].copy_from_slice(&self.size.to_le_bytes());
    }

    /// The mark in a row; `None` if there is none.
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let mark = Self {
            inode: u64::from_le_bytes(row.get(..8)?.try_into().ok()?),
            seconds: i64::from_le_bytes(row.get(8..16)?.try_into().ok()?),
            nanoseconds: u32::from_le_bytes(row.get(16..20)?.try_into().ok()?),
            size: u64::from_le_bytes(row.get(20..ROW)?.try_into().ok()?),
        };
        (mark.inode != 0).then_some(mark)
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
    /// The note of a file of which it is not certain that nobody has it open for writing: it was there
    /// before, and was read. If it had a mark, a change that somebody makes through a mapped page would
    /// stay in each later release.
    pub(crate) fn without_mark(file: u32, hash: Hash) -> Self {
        Self { file, hash, mark: None }
    }

    /// The note of an open file whose contents have this hash.
    pub(crate) fn of(file: u32, hash: Hash, written: impl AsFd) -> Self {
        Self { file, hash, mark: fs::fstat(written).ok().map(|stat| Mark::of(&stat)) }
    }
}

/// All notes, in the form in which an index has them.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// Of each file; zeros if there is none.
    pub(crate) hashes: Vec<u8>,
    /// The mark of each file, and of each directory; zeros if there is none.
    pub(crate) files: Vec<u8>,
    pub(crate) directories: Vec<u8>,
}

impl Noted {
    /// Fills up with zeros, so that there is room for so many.
    pub(crate) fn grow(&mut self, files: usize, directories: usize) {
        let grow = |rows: &mut Vec<u8>, length| {
            if rows.len() < length {
                rows.resize(length, 0);
            }
        };
        grow(&mut self.hashes, files * 32);
        grow(&mut self.files, files * ROW);
        grow(&mut self.directories, directories * ROW);
    }

    fn add(&mut self, note: &Note) {
        let number = note.file as usize;
        if note.file >= MOST_ENTRIES {
            return;
        }
        self.grow(number + 1, 0);
        self.hashes[number * 32..number * 32 + 32].copy_from_slice(&note.hash);
        let row = &mut self.files[number * ROW..][..ROW];
        match &note.mark {
            Some(mark) => mark.write(row),
            None => row.fill(0),
        }
    }
}

/// Takes notes.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Noted>);

impl Notes {
    /// Adds notes of files.
    pub(crate) fn add(&self, notes: impl IntoIterator<Item = Note>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.into_iter().for_each(|note| noted.add(&note));
    }

    /// Adds the mark of a directory.
    pub(crate) fn add_directory(&self, number: u32, mark: &Mark) {
        if number < MOST_ENTRIES {
            let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            noted.grow(0, number as usize + 1);
            mark.write(&mut noted.directories[number as usize * ROW..][..ROW]);
        }
    }

    /// Takes all notes out.
    pub(crate) fn take(&self) -> Noted {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
