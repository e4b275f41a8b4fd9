//! Owns how a regular file gets its contents: from the archive, from what stood there before, or
//! from the earlier release.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use oxistrano_core::Failure;
use rustix::fs::{self, Mode};
use rustix::io::Errno;

use crate::attributes::{Attributes, Problem};
use crate::batch::{CREATE, candidate};
use crate::earlier::{self, Earlier, Unchanged};
use crate::entry::Map;
use crate::known::Known;
use crate::notes::Note;
use crate::place::Place;
use crate::select::Item;
use crate::spare::Spare;
use crate::stream::Body;
use crate::writer::{Writer, c_name};

/// A larger file is written as it comes.
const SMALL: u64 = 128 << 10;

impl Writer<'_> {
    pub(super) fn file(
        &mut self,
        item: &Item,
        map: Option<&Map>,
        body: &mut Body<'_, '_>,
    ) -> Result<(), Failure> {
        let path = item.path.as_path();
        if self.stays_quietly(item)? {
            return Ok(());
        }
        self.stock.spare.as_ref().map_or(Ok(()), Spare::check_worth)?;
        let name = item.path.name();
        self.directories.forget(path);
        let place = self.directories.parent_of(path, &mut self.pending)?;
        let stands = self.directories.take(path)?;
        // The first of all tells with which owner things are made.
        let unowned = item.uid.is_none() && item.gid.is_none() && self.stock.earlier.is_none();
        let born = self.directories.born;
        if stands && self.is_known(&place, item)? {
            return Ok(());
        }
        // What an index knows is compared by the hash of all contents.
        let has_index = stands && self.stock.spare.as_ref().is_some_and(Spare::has_index);
        if (self.pending.has_crew() || has_index)
            && map.is_none()
            && *body.remaining <= SMALL
            && (born.is_some() || unowned)
        {
            let attributes = Attributes { stands, ..self.attributes(item, &place)? };
            return self.pending.add(&place, name, attributes, body);
        }
        if self.pending.has(&place, name) {
            self.pending.settle()?;
        }
        if item.number.is_some() {
            body.start_hash();
        }
        if stands {
            // They may be what is in the file that goes now: it must be open before.
            body.peek()?;
            if self.stays(&place, item, map, body)? {
                return Ok(());
            }
        }
        let mode = Mode::from_raw_mode(item.mode & 0o777);
        let file = loop {
            match fs::openat(&place, name, CREATE, mode) {
                Ok(file) => break file,
                Err(Errno::EXIST) => self.directories.clear(path, &mut self.pending)?,
                Err(error) => return Err(self.failed("create", item, error)),
            }
        };
        if self.stock.earlier.is_some() {
            self.directories.born_in(&place, name)?;
        }
        let attributes = self.attributes(item, &place)?;
        match map {
            None => self.contents(&place, &file, item, attributes, body),
            Some(map) => {
                self.parts(&file, item, map, body)?;
                attributes.settle(&file).map_err(|(verb, error)| self.failed(verb, item, error))
            }
        }
    }

    /// Whether the file is one of a directory in which nothing is changed.
    fn stays_quietly(&mut self, item: &Item) -> Result<bool, Failure> {
        let Some(Known { hash, mark, look: Some(look) }) = item.known else { return Ok(false) };
        let is_same = item.mode & 0o7000 == 0
            && self.directories.has_look(&look, item.mode, (item.uid, item.gid))
            && self.directories.is_quiet(item.path.as_path())?;
        let (Some(spare), Some(file), true) = (&self.stock.spare, item.number, is_same) else {
            return Ok(false);
        };
        spare.count(mark.size);
        self.stock.note([Note { file, hash, mark: Some(mark) }]);
        Ok(true)
    }

    /// Whether the file that was there before is known to be this one, and stays.
    fn is_known(&mut self, place: &Place, item: &Item) -> Result<bool, Failure> {
        let stock = Arc::clone(&self.stock);
        let (Some(spare), Some(known), Some(number)) = (&stock.spare, &item.known, item.number)
        else {
            return Ok(false);
        };
        let attributes = self.attributes(item, place)?;
        let mark = c_name(item.path.name())
            .and_then(|name| spare.keep_known(place.as_fd(), &name, &known.mark, &attributes))
            .map_err(|(verb, error)| self.failed(verb, item, error))?;
        stock.note(mark.map(|mark| Note { file: number, hash: known.hash, mark: Some(mark) }));
        Ok(mark.is_some())
    }

    /// Notes a file that is as it should be.
    fn note(&self, file: &OwnedFd, item: &Item, body: &mut Body<'_, '_>) -> Result<(), Failure> {
        if let Some(number) = item.number {
            self.stock.note([Note::of(number, body.finish_hash()?, file)]);
        }
        Ok(())
    }

    /// Whether the file that was there before is this one, and stays. If not, its name is free. What
    /// the two have in common has been taken out of the stream then, and a new file has it.
    fn stays(
        &mut self,
        place: &Place,
        item: &Item,
        map: Option<&Map>,
        body: &mut Body<'_, '_>,
    ) -> Result<bool, Failure> {
        let stock = Arc::clone(&self.stock);
        let Some(spare) = stock.spare.as_ref() else { return Ok(false) };
        let failed = |(verb, error)| self.failed(verb, item, error);
        let name = c_name(item.path.name()).map_err(failed)?;
        let attributes = self.attributes(item, place)?;
        let failed = |(verb, error)| self.failed(verb, item, error);
        let size = *body.remaining;
        let old = match map {
            None => spare.candidate(place.as_fd(), &name, size, &attributes),
            Some(_) => None,
        };
        let mut offset = 0;
        if let Some(old) = &old {
            loop {
                let bytes = body.peek()?;
                if bytes.is_empty() {
                    let hash = item.number.map(|_| body.finish_hash()).transpose()?;
                    let is_known = hash.is_some_and(|hash| spare.has_recorded(old, &hash));
                    spare.stays(old, size, item.mtime).map_err(failed)?;
                    let note = item.number.zip(hash).map(|(number, hash)| match is_known {
                        true => Note::of(number, hash, old),
                        false => Note::without_mark(number, hash),
                    });
                    self.stock.note(note);
                    return Ok(true);
                }
                if !earlier::has(old, offset, bytes) {
                    break;
                }
                let length = bytes.len();
                body.consume(length);
                offset += length as u64;
            }
        }
        spare.replace(place, &name).map_err(failed)?;
        let Some(old) = old.filter(|_| offset > 0) else { return Ok(false) };
        let file = fs::openat(place, &name, CREATE, attributes.created_with())
            .map_err(|error| failed(("create", error)))?;
        copy(&old, &file, offset).map_err(failed)?;
        self.rest(&file, item, offset, body)?;
        let failed = |(verb, error)| self.failed(verb, item, error);
        attributes.settle(&file).map_err(failed)?;
        if let Some(number) = item.number {
            // The beginning is from the old file.
            self.stock.note([Note::without_mark(number, body.finish_hash()?)]);
        }
        Ok(true)
    }

    /// Writes what is left of a file as it comes.
    fn rest(
        &self,
        file: &OwnedFd,
        item: &Item,
        mut offset: u64,
        body: &mut Body<'_, '_>,
    ) -> Result<(), Failure> {
        loop {
            let bytes = body.peek()?;
            if bytes.is_empty() {
                return Ok(());
            }
            match rustix::io::pwrite(file, bytes, offset) {
                Ok(written) => {
                    body.consume(written);
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("write", item, error)),
            }
        }
    }

    /// Writes a file as it comes; compares it meanwhile with the earlier one.
    fn contents(
        &mut self,
        place: &Place,
        file: &OwnedFd,
        item: &Item,
        attributes: Attributes,
        body: &mut Body<'_, '_>,
    ) -> Result<(), Failure> {
        let failed = |verb, error| self.failed(verb, item, error);
        let size = *body.remaining;
        let name = CString::new(item.path.name().as_bytes())
            .map_err(|_| failed("create", Errno::INVAL))?;
        let old = candidate(place, &name, size, &attributes, &self.stock);
        let linking = old.as_ref().is_some_and(|(to, _)| to.how == Unchanged::HardLink);
        // A clone is compared with itself: nobody else can change it.
        let cloned = !linking && old.as_ref().is_some_and(|(to, old)| to.reflink_into(file, old));
        let mut same = linking || cloned;
        let mut offset = 0;
        loop {
            let bytes = body.peek()?;
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len();
            same = same
                && match &old {
                    Some((_, old)) if linking => earlier::has(old, offset, bytes),
                    _ => earlier::has(file, offset, bytes),
                };
            let mut left = if same && cloned { &[][..] } else { bytes };
            let mut at = offset;
            while !left.is_empty() {
                match rustix::io::pwrite(file, left, at) {
                    Ok(written) => {
                        left = left.get(written..).unwrap_or_default();
                        at += written as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(failed("write", error)),
                }
            }
            body.consume(length);
            offset += length as u64;
        }
        if let Some((earlier, old)) = old.filter(|_| same) {
            if cloned {
                earlier.count(size);
            } else if self.exchange(earlier, &old, place, &name, item)? {
                earlier.count(size);
                return Ok(());
            }
        }
        attributes.settle(file).map_err(|(verb, error)| failed(verb, error))?;
        self.note(file, item, body)
    }

    /// Puts the earlier file in the place of the one that was just written.
    fn exchange(
        &self,
        earlier: &Earlier,
        old: &OwnedFd,
        place: &Place,
        name: &CString,
        item: &Item,
    ) -> Result<bool, Failure> {
        // Should an entry have this name, linking fails and the file stays.
        let temporary = c".oxistrano-earlier";
        if !matches!(earlier.link(old, place.as_fd(), temporary), Ok(true)) {
            return Ok(false);
        }
        fs::renameat(place, temporary, place, name.as_c_str())
            .map(|()| true)
            .map_err(|error| self.failed("create the hard link", item, error))
    }

    /// The parts of a sparse file; between them nothing is written, and that is a hole.
    fn parts(
        &self,
        file: &OwnedFd,
        item: &Item,
        map: &Map,
        body: &mut Body<'_, '_>,
    ) -> Result<(), Failure> {
        fs::ftruncate(file, map.size).map_err(|e| self.failed("write", item, e))?;
        for (offset, length) in &map.parts {
            let (mut offset, end) = (*offset, offset + length);
            while offset < end {
                let bytes = body.peek()?;
                let most = usize::try_from(end - offset).unwrap_or(usize::MAX).min(bytes.len());
                match rustix::io::pwrite(file, &bytes[..most], offset) {
                    Ok(written) => {
                        body.consume(written);
                        offset += written as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(self.failed("write", item, error)),
                }
            }
        }
        Ok(())
    }
}

/// Copies the beginning of a file.
fn copy(from: &OwnedFd, to: &OwnedFd, length: u64) -> Result<(), Problem> {
    let mut window = vec![0; SMALL as usize];
    let mut offset = 0;
    while offset < length {
        let most = usize::try_from(length - offset).unwrap_or(usize::MAX).min(window.len());
        let read = match rustix::io::pread(from, &mut window[..most], offset) {
            Err(Errno::INTR) => continue,
            // Somebody has cut it off.
            Ok(0) => return Err(("read", Errno::STALE)),
            other => other.map_err(|error| ("read", error))?,
        };
        let mut left = window.get(..read).unwrap_or_default();
        while !left.is_empty() {
            match rustix::io::pwrite(to, left, offset) {
                Ok(written) => {
                    left = left.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(("write", error)),
            }
        }
    }
    Ok(())
}
