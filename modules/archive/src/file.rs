//! Reads the archive file through a small window, by position, so that several readers can share
//! one open file and seeks cost nothing.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use oxistrano_core::{Failure, interrupt};
use sha2::{Digest, Sha256};

use crate::failures;
use crate::hash::hexadecimal;

/// Bytes that are read at a time.
const WINDOW: usize = 128 * 1024;

/// A reader with a position of its own.
#[derive(Clone)]
pub(crate) struct ArchiveFile<'a> {
    file: &'a File,
    position: u64,
    window: Vec<u8>,
    /// Where the window begins in the file, and how much of it is filled.
    start: u64,
    filled: usize,
    /// The logical end; the checksum covers the whole file.
    end: u64,
    hash: Option<Sha256>,
}

impl<'a> ArchiveFile<'a> {
    /// A reader at the beginning.
    pub(crate) fn new(file: &'a File) -> Self {
        let window = vec![0; WINDOW];
        Self { file, position: 0, window, start: 0, filled: 0, end: u64::MAX, hash: None }
    }

    /// A reader that computes the checksum of what passes; for reading from the beginning
    /// to the end, without seeking.
    pub(crate) fn hashing(file: &'a File) -> Self {
        Self { hash: Some(Sha256::new()), ..Self::new(file) }
    }

    /// Whether nothing but zeros is left.
    pub(crate) fn has_only_zeros_left(&mut self) -> io::Result<bool> {
        if self.fill_buf()?.first().is_some_and(|byte| *byte != 0) {
            return Ok(false);
        }
        let mut rest = Self { position: self.position, ..Self::new(self.file) };
        loop {
            let bytes = rest.fill_buf()?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(bytes.is_empty());
            }
            let all = bytes.len();
            rest.consume(all);
        }
    }

    /// From now on it ends before the zeros at its end.
    pub(crate) fn end_before_zeros(&mut self) -> io::Result<()> {
        let mut rest = Self::new(self.file);
        let mut end = rest.seek(SeekFrom::End(0))?;
        while end > 0 {
            let from = end.saturating_sub(WINDOW as u64);
            (rest.position, rest.end) = (from, end);
            let bytes = rest.fill_buf()?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = from + last as u64 + 1;
                break;
            }
            end = from;
        }
        self.end = end;
        Ok(())
    }

    /// Reads what is left and returns the checksum of the whole file, in hexadecimal.
    pub(crate) fn finish_hash(&mut self) -> io::Result<Option<String>> {
        if self.hash.is_none() {
            return Ok(None);
        }
        self.end = u64::MAX;
        loop {
            match self.fill_buf()?.len() {
                0 => break,
                n => self.consume(n),
            }
        }
        Ok(self.hash.take().map(|hash| hexadecimal(&hash.finalize())))
    }
}

impl BufRead for ArchiveFile<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let offset = self.position.wrapping_sub(self.start);
        if offset >= self.filled as u64 {
            // A long part of a file may decompress to nothing, so the signal is checked here.
            interrupt::check().map_err(io::Error::other)?;
            self.filled = 0;
            self.start = self.position;
            let most = self.end.saturating_sub(self.start).min(WINDOW as u64) as usize;
            self.filled = loop {
                match self.file.read_at(&mut self.window[..most], self.position) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result?,
                }
            };
            if let Some(hash) = &mut self.hash {
                hash.update(&self.window[..self.filled]);
            }
        }
        let offset = (self.position - self.start) as usize;
        Ok(&self.window[offset..self.filled])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount as u64;
    }
}

impl Read for ArchiveFile<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let read = available.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl Seek for ArchiveFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.file.metadata()?.len().checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// The SHA-256 of a whole file, in hexadecimal, wherever the file's own position is.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(file: &File, path: &Path) -> Result<String, Failure> {
    let sum = ArchiveFile::hashing(file).finish_hash();
    Ok(sum.map_err(|error| failures::unreadable(path, b"", error))?.unwrap_or_default())
}
