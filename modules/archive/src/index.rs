//! Owns the index of an unpacked tree: the manifest of its archive, and for each file a mark that
//! tells later whether the file was changed. The index says nothing about a file that was changed.

use std::io::Write;

use oxistrano_core::{Dir, Failure, IoContext};
use rustix::fs::{self, FileType, Stat};
use sha2::{Digest, Sha256};

use crate::manifest::{Manifest, hexadecimal};
use crate::notes::{Mark, Note};
use crate::place::kind;

const MAGIC: &[u8; 8] = b"OXIIDX1\n";
/// Sizes in bytes: what is before the manifest, the row of each file after it, and the end.
const HEAD: usize = 8 + 32 + 4 + 8;
const ROW: usize = 28;
const END: usize = 12 + 32;

/// What [`crate::unpack_noting`] has recorded: the content of an index.
#[derive(Debug)]
pub struct Noted {
    pub(crate) manifest: Manifest,
    pub(crate) notes: Vec<Note>,
    pub(crate) strip_components: u32,
}

impl Noted {
    /// The manifest of the archive.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes the index as `name` into a directory. An existing file of this name is replaced when
    /// the index is complete.
    ///
    /// # Errors
    /// An I/O error.
    pub fn write(&self, directory: &Dir, name: &str) -> Result<(), Failure> {
        let temporary = directory.temporary(name);
        let written = self.write_temporary(directory, &temporary);
        let renamed = written.and_then(|()| directory.rename(&temporary, name));
        if renamed.is_err() {
            let _ = directory.remove_file(&temporary);
        }
        renamed
    }

    fn write_temporary(&self, directory: &Dir, name: &std::ffi::OsStr) -> Result<(), Failure> {
        let path = directory.at(name);
        let mut file = directory.create_file(name, 0o600)?;
        let mut rows = vec![0; self.manifest.files() as usize * ROW];
        for note in &self.notes {
            let at = note.file as usize * ROW;
            if let (Some(mark), Some(row)) = (note.mark, rows.get_mut(at..at + ROW)) {
                row[..8].copy_from_slice(&mark.inode.to_le_bytes());
                row[8..16].copy_from_slice(&mark.seconds.to_le_bytes());
                row[16..20].copy_from_slice(&mark.nanoseconds.to_le_bytes());
                row[20..].copy_from_slice(&mark.size.to_le_bytes());
            }
        }
        let manifest = self.manifest.encode();
        let digest = self.manifest.raw_digest();
        let mut head = MAGIC.to_vec();
        head.extend(digest);
        head.extend(self.strip_components.to_le_bytes());
        head.extend((manifest.len() as u64).to_le_bytes());
        let mut sum = Sha256::new();
        for part in [&head, &manifest, &rows] {
            sum.update(part);
            file.write_all(part).or_fail("write", &path)?;
        }
        // The time by the clock of the file system, which also sets the ctime of all files. A file
        // that is changed later has a later ctime.
        let now = fs::fstat(&file).or_fail("examine", &path)?;
        let mut end = now.st_ctime.to_le_bytes().to_vec();
        end.extend((now.st_ctime_nsec as u32).to_le_bytes());
        sum.update(&end);
        end.extend(sum.finalize());
        file.write_all(&end).or_fail("write", &path)
    }
}

/// An index that was read.
#[derive(Debug)]
pub struct Index {
    pub(crate) manifest: Manifest,
    pub(crate) strip_components: u32,
    finished: (i64, u32),
    rows: Vec<u8>,
}

impl Index {
    /// The number of bytes at its beginning that [`Self::digest`] needs.
    pub const HEAD: u64 = HEAD as u64;

    /// The digest of its manifest. `head`: the first bytes of the index.
    pub fn digest(head: &[u8]) -> Option<String> {
        head.strip_prefix(MAGIC)?.get(..32).map(hexadecimal)
    }

    /// Reads an index; `None` if it is damaged, or not an index.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if !content.starts_with(MAGIC) || Sha256::digest(content).as_slice() != sum {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let strip_components = short(40)?;
        let end = HEAD.checked_add(usize::try_from(number(44)?).ok()?)?;
        let manifest = Manifest::parse(bytes.get(HEAD..end)?).ok()?;
        let rows = bytes.get(end..bytes.len().checked_sub(END)?)?.to_vec();
        let last = bytes.len() - END;
        let finished = (number(last)? as i64, short(last + 8)?);
        let fits = !manifest.is_cut() && rows.len() == manifest.files() as usize * ROW;
        fits.then_some(Self { manifest, strip_components, finished, rows })
    }

    /// The manifest of the archive.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn mark(&self, file: u32) -> Option<Mark> {
        let at = file as usize * ROW;
        let row: &[u8; ROW] = self.rows.get(at..at + ROW)?.try_into().ok()?;
        let [number, seconds, size] =
            [&row[..8], &row[8..16], &row[20..]].map(|field| field.try_into().unwrap_or_default());
        Some(Mark {
            inode: u64::from_le_bytes(number),
            seconds: i64::from_le_bytes(seconds),
            nanoseconds: u32::from_le_bytes(row[16..20].try_into().unwrap_or_default()),
            size: u64::from_le_bytes(size),
        })
        .filter(|mark| mark.inode != 0)
    }

    /// Whether this is the file as it was unpacked. `false` for a file that was written in the same
    /// tick of the clock in which the index was finished: a later change in this tick has the same
    /// ctime.
    pub(crate) fn holds(&self, file: u32, stat: &Stat) -> bool {
        self.mark(file).is_some_and(|mark| {
            kind(stat) == FileType::RegularFile
                && mark == Mark::of(stat)
                && (mark.seconds, mark.nanoseconds) < self.finished
        })
    }
}
