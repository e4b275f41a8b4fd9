//! Owns the reading of contents that another file has, of this tree or another one. Which file that is
//! was found out before; what it has now is compared by its hash.

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
    /// The top of its tree, and the directory that was open last, with its path.
    top: Option<&'a Dir>,
    above: Option<(PathBuf, Dir)>,
    path: PathBuf,
    file: Option<File>,
    pub(crate) window: Vec<u8>,
    pub(crate) at: usize,
}

impl<'a> Replica<'a> {
    pub(crate) fn new() -> Self {
        let (path, window) = Default::default();
        Self { top: None, above: None, path, file: None, window, at: 0 }
    }

    /// From now on it is this file; it is opened when something of it is wanted.
    pub(crate) fn set(&mut self, top: &'a Dir, path: &Path) {
        if !self.top.is_some_and(|before| std::ptr::eq(before, top)) {
            self.above = None;
        }
        (self.top, self.file, self.at) = (Some(top), None, 0);
        self.window.clear();
        self.path.clear();
        self.path.push(path);
    }

    /// Some of the next bytes. There are some: how many there must be is known.
    pub(crate) fn peek(&mut self) -> Result<&[u8], Failure> {
        if self.at == self.window.len() {
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(open(self.top, &mut self.above, &self.path)?),
            };
            self.window.resize(WINDOW, 0);
            self.at = 0;
            let read = loop {
                match file.read(&mut self.window) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read.or_fail("read", &self.path)?,
                }
            };
            self.window.truncate(read);
            if read == 0 {
                return Err(failures::stale(&self.path));
            }
        }
        Ok(&self.window[self.at..])
    }
}

fn open(
    top: Option<&Dir>,
    above: &mut Option<(PathBuf, Dir)>,
    path: &Path,
) -> Result<File, Failure> {
    let gone = || failures::stale(path);
    let top = top.ok_or_else(gone)?;
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
