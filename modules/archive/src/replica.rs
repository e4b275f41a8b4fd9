//! Owns the reading of contents from an existing file, of this tree or another one. The plan has
//! chosen the file. It may have been changed since, so the hash of what is read is compared.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use oxistrano_core::{Dir, Failure, IoContext, RelPath};

use crate::earlier;
use crate::failures;

/// Bytes that are read at a time.
const WINDOW: usize = 128 << 10;

/// The file that is read.
pub(crate) struct Replica<'a> {
    /// The top directory of its tree.
    top: Option<&'a Dir>,
    /// The directory that was opened last, with its path.
    above: Option<(PathBuf, Dir)>,
    path: PathBuf,
    file: Option<File>,
    /// What was read is before `end`, and what was consumed of it before `at`.
    window: Vec<u8>,
    end: usize,
    at: usize,
}

impl<'a> Replica<'a> {
    pub(crate) fn new() -> Self {
        // Filled with zeros once, and not for each file.
        let (path, window) = (PathBuf::new(), vec![0; WINDOW]);
        Self { top: None, above: None, path, file: None, window, end: 0, at: 0 }
    }

    /// Changes to this file. It is opened when its first bytes are needed.
    pub(crate) fn set(&mut self, top: &'a Dir, path: &Path) {
        if !self.top.is_some_and(|before| std::ptr::eq(before, top)) {
            self.above = None;
        }
        (self.top, self.file, self.end, self.at) = (Some(top), None, 0, 0);
        self.path.clear();
        self.path.push(path);
    }

    /// Returns some of the next bytes. A file that has no more is a failure, because the caller reads
    /// only as many bytes as the file must have.
    pub(crate) fn peek(&mut self) -> Result<&[u8], Failure> {
        if self.at == self.end {
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(open(self.top, &mut self.above, &self.path)?),
            };
            (self.end, self.at) = (0, 0);
            self.end = loop {
                match file.read(&mut self.window) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read.or_fail("read", &self.path)?,
                }
            };
            if self.end == 0 {
                return Err(failures::stale(&self.path));
            }
        }
        Ok(self.rest())
    }

    /// What `peek` returned last.
    fn rest(&self) -> &[u8] {
        self.window.get(self.at..self.end).unwrap_or_default()
    }

    /// Skips the first `amount` bytes of that, and returns them.
    pub(crate) fn consume(&mut self, amount: usize) -> &[u8] {
        let start = self.at;
        self.at = (start + amount).min(self.end);
        self.window.get(start..self.at).unwrap_or_default()
    }
}

fn open(
    top: Option<&Dir>,
    above: &mut Option<(PathBuf, Dir)>,
    path: &Path,
) -> Result<File, Failure> {
    let gone = || failures::stale(path);
    let top = top.ok_or_else(gone)?;
    // Most paths have no link, and this is one call in place of three for each directory.
    if let Some(file) = earlier::open_beneath(top, path) {
        return Ok(file);
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    if above.as_ref().is_none_or(|(open, _)| open != parent) {
        let directory = match RelPath::new(parent) {
            Ok(parent) => top.open_below(&parent).map_err(|_| gone())?,
            Err(_) => top.duplicate()?,
        };
        *above = Some((parent.to_owned(), directory));
    }
    let Some((_, directory)) = above else { return Err(gone()) };
    let name = path.file_name().unwrap_or(OsStr::new("."));
    earlier::open_regular(directory, name).ok_or_else(gone)
}
