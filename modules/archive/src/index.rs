//! Owns the index of an unpacked tree: the manifest of its archive, and for each file and directory a
//! mark that tells later whether it was changed. The index says nothing about what was changed.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use crc32fast::Hasher;
use oxistrano_core::{Dir, Failure, IoContext, RelPath};
use rustix::fs::{self, FileType, Stat};

use crate::hash::{Hash, hexadecimal};
use crate::manifest::Manifest;
use crate::notes::{Mark, Noted as Notes, ROW};
use crate::numbers::Numbers;
use crate::paths::clean;
use crate::piece::Piece;
use crate::place::kind;

const MAGIC: &[u8; 8] = b"OXIIDX2\n";
/// Sizes in bytes: what is before the numbers and the manifest, and what is after the marks.
const HEAD: usize = 8 + 32 + 4 + 4 + 8;
const END: usize = 12 + 4;
/// The maximum length of the text that names the lost entries.
const MOST_LOST: usize = 64 << 10;

/// What [`crate::unpack_noting`] has recorded: the content of an index.
#[derive(Debug)]
pub struct Noted {
    pub(crate) manifest: Manifest,
    pub(crate) notes: Notes,
    pub(crate) strip_components: u32,
    pub(crate) lost: Numbers,
}

impl Noted {
    /// The manifest of the archive.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Notes that the contents of files at or below these paths are soon no longer in the release.
    pub fn lose(&mut self, paths: &[RelPath]) {
        let paths = paths.iter().map(|path| path.as_path().as_os_str().as_bytes());
        let paths: Vec<&[u8]> = paths.collect();
        if paths.is_empty() {
            return;
        }
        let (mut lost, mut cursor) = (Vec::new(), self.manifest.cursor());
        while let Ok(Some(row)) = self.manifest.step(&mut cursor) {
            if !row.is_file() || row.size == 0 {
                continue;
            }
            let path = clean(&cursor.name, self.strip_components).unwrap_or_default();
            let rest = |above: &&[u8]| path.strip_prefix(*above).map(<[u8]>::first);
            if paths.iter().any(|above| matches!(rest(above), Some(None | Some(b'/')))) {
                lost.push(cursor.record - 1);
            }
        }
        self.lost = self.lost.with(&lost.into_iter().collect());
    }

    /// What a host with this release says that it has, as [`Index::has`].
    pub fn has(&self) -> String {
        has(&hexadecimal(&self.manifest.raw_digest()), &self.lost_text())
    }

    /// As it is stored; empty if it is too long.
    fn lost_text(&self) -> String {
        Some(self.lost.to_string()).filter(|text| text.len() <= MOST_LOST).unwrap_or_default()
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
        let manifest = self.manifest.encode();
        let lost = self.lost_text();
        let mut head = MAGIC.to_vec();
        head.extend(self.manifest.raw_digest());
        head.extend(self.strip_components.to_le_bytes());
        head.extend((lost.len() as u32).to_le_bytes());
        head.extend((manifest.len() as u64).to_le_bytes());
        head.extend(lost.as_bytes());
        let mut sum = Hasher::new();
        for part in [&head, &manifest, &self.notes.files, &self.notes.directories] {
            sum.update(part);
            file.write_all(part).or_fail("write", &path)?;
        }
        // The time by the clock of the file system, which also sets the ctime of all files. A file
        // that is changed later has a later ctime.
        let now = fs::fstat(&file).or_fail("examine", &path)?;
        let mut end = now.st_ctime.to_le_bytes().to_vec();
        end.extend((now.st_ctime_nsec as u32).to_le_bytes());
        sum.update(&end);
        end.extend(sum.finalize().to_le_bytes());
        file.write_all(&end).or_fail("write", &path)
    }
}

fn has(digest: &str, lost: &str) -> String {
    match lost.is_empty() {
        true => digest.to_owned(),
        false => format!("{digest}+{lost}"),
    }
}

/// An index that was read.
#[derive(Debug)]
pub struct Index {
    pub(crate) manifest: Manifest,
    pub(crate) strip_components: u32,
    finished: (i64, u32),
    files: Piece,
    directories: Piece,
}

impl Index {
    /// At least as many bytes of its beginning as [`Self::digest`] and [`Self::has`] need.
    pub const HEAD: u64 = (HEAD + MOST_LOST) as u64;

    /// The digest of its manifest. `head`: the first bytes of the index.
    pub fn digest(head: &[u8]) -> Option<String> {
        head.strip_prefix(MAGIC)?.get(..32).map(hexadecimal)
    }

    /// The digest of its manifest and, after a `+`, the numbers of the entries whose contents the host does not have
    /// any more, as far as was known when it was written: what is in the release is other than what was unpacked.
    pub fn has(head: &[u8]) -> Option<String> {
        let digest = Self::digest(head)?;
        Some(has(&digest, &Self::lost(head).unwrap_or_default().to_string()))
    }

    fn lost(head: &[u8]) -> Option<Numbers> {
        head.strip_prefix(MAGIC)?;
        let length = u32::from_le_bytes(head.get(44..48)?.try_into().ok()?);
        let end = HEAD.checked_add(length as usize).filter(|_| length as usize <= MOST_LOST)?;
        std::str::from_utf8(head.get(HEAD..end)?).ok()?.parse().ok()
    }

    /// Reads an index; `None` if it is damaged, or not an index.
    ///
    /// Its checksum is for damage only. Nobody but the user who reads it can have written it. If a
    /// release is built from parts, a wrong digest or mark is noticed.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        let bytes = Piece::from(bytes);
        let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if !content.starts_with(MAGIC) || crc32fast::hash(content).to_le_bytes() != sum {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let strip_components = short(40)?;
        let start = HEAD.checked_add(usize::try_from(short(44)?).ok()?)?;
        let end = start.checked_add(usize::try_from(number(48)?).ok()?)?;
        let manifest = Manifest::parse_piece(bytes.part(start..end)?).ok()?;
        if manifest.is_cut() {
            return None;
        }
        let files = end.checked_add(manifest.files() as usize * ROW)?;
        let directories = files.checked_add(manifest.directories() as usize * ROW)?;
        if directories != bytes.len().checked_sub(END)? {
            return None;
        }
        let digest: Hash = bytes.get(8..40)?.try_into().ok()?;
        let manifest = manifest.with_digest(digest);
        Some(Self {
            manifest,
            strip_components,
            finished: (number(directories)? as i64, short(directories + 8)?),
            files: bytes.part(end..files)?,
            directories: bytes.part(files..directories)?,
        })
    }

    /// The manifest of the archive.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The mark of a file.
    pub(crate) fn mark(&self, file: u32) -> Option<Mark> {
        Mark::read(self.files.get(file as usize * ROW..)?)
    }

    /// The mark and the hash of a file that was not changed before the index was finished.
    pub(crate) fn recorded(&self, file: u32) -> Option<(Mark, Hash)> {
        let mark = self.mark(file).filter(|mark| self.is_before(mark))?;
        Some((mark, self.manifest.hash(file).try_into().ok()?))
    }

    /// That of a directory.
    pub(crate) fn mark_of_directory(&self, directory: u32) -> Option<Mark> {
        Mark::read(self.directories.get(directory as usize * ROW..)?)
    }

    /// Whether this is the file as it was unpacked. `false` for a file that was written in the same
    /// tick of the clock in which the index was finished: a later change in this tick has the same
    /// ctime.
    pub(crate) fn holds(&self, file: u32, stat: &Stat) -> bool {
        kind(stat) == FileType::RegularFile
            && self.mark(file).is_some_and(|mark| mark == Mark::of(stat) && self.is_before(&mark))
    }

    /// The same for a directory: it has the same names, owner and permissions as then.
    pub(crate) fn holds_directory(&self, directory: u32, stat: &Stat) -> bool {
        let mark = self.mark_of_directory(directory);
        kind(stat) == FileType::Directory
            && mark.is_some_and(|mark| mark == Mark::of_directory(stat) && self.is_before(&mark))
    }

    fn is_before(&self, mark: &Mark) -> bool {
        (mark.seconds, mark.nanoseconds) < self.finished
    }
}
