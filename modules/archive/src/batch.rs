//! Files that wait to be written: their names and contents, and their directories.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use oxistrano_core::Failure;
use rustix::fs::{self, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::attributes::{Attributes, Problem};
use crate::earlier::{self, Earlier, Unchanged};
use crate::hash::Hash;
use crate::notes::Note;
use crate::place::{Place, give_back};
use crate::spare::Stock;

/// The number of files in a batch.
const FILES: usize = 64;
const PLACES: usize = 16;
const BYTES: usize = 256 << 10;

pub(crate) const CREATE: OFlags = OFlags::RDWR
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Files in the order of the archive.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The directories, in the order in which their files come.
    places: Vec<Arc<Place>>,
    files: Vec<Waiting>,
    /// Each with a NUL byte behind it.
    names: Vec<u8>,
    contents: Vec<u8>,
}

#[derive(Debug)]
struct Waiting {
    /// Which of the directories.
    place: usize,
    /// Where name and contents end; they begin where the ones before end.
    name_end: usize,
    end: usize,
    attributes: Attributes,
}

/// A file whose name was taken, by an earlier entry or an existing file.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) place: Arc<Place>,
    name: Vec<u8>,
    contents: Vec<u8>,
    attributes: Attributes,
}

impl Batch {
    /// Nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether it should be handed over.
    pub(crate) fn is_full(&self) -> bool {
        self.files.len() >= FILES || self.places.len() >= PLACES || self.contents.len() >= BYTES
    }

    /// Where the contents of the next file go.
    pub(crate) fn contents(&mut self) -> &mut Vec<u8> {
        &mut self.contents
    }

    /// Adds the file whose contents were put there.
    pub(crate) fn push(&mut self, place: &Arc<Place>, name: &OsStr, attributes: Attributes) {
        if !self.places.last().is_some_and(|last| Arc::ptr_eq(last, place)) {
            self.places.push(Arc::clone(place));
        }
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        self.files.push(Waiting {
            place: self.places.len() - 1,
            name_end: self.names.len(),
            end: self.contents.len(),
            attributes,
        });
    }

    /// Writes all files, releases their directories and is empty then; returns the files whose names were taken.
    pub(crate) fn write(&mut self, root: &Path, stock: &Stock) -> Result<Vec<Taken>, Failure> {
        let (mut taken, mut notes) = (Vec::new(), Vec::new());
        let mut places = self.places.drain(..).enumerate();
        let mut place = places.next();
        let (mut name_start, mut start) = (0, 0);
        for file in self.files.drain(..) {
            while let Some((_, done)) = place.take_if(|(number, _)| *number != file.place) {
                give_back(done, root, &stock.notes)?;
                place = places.next();
            }
            let Some((_, here)) = &place else { break };
            let name = self.names.get(name_start..file.name_end).unwrap_or_default();
            let contents = self.contents.get(start..file.end).unwrap_or_default();
            (name_start, start) = (file.name_end, file.end);
            match write(here, name, contents, &file.attributes, stock) {
                Ok(note) => notes.extend(note),
                Err(("create", Errno::EXIST)) => taken.push(Taken {
                    place: Arc::clone(here),
                    name: name.to_vec(),
                    contents: contents.to_vec(),
                    attributes: file.attributes,
                }),
                Err((verb, error)) => return Err(failed(root, here, name, verb, error)),
            }
        }
        if let Some((_, done)) = place {
            give_back(done, root, &stock.notes)?;
        }
        drop(places);
        stock.note(notes);
        self.names.clear();
        self.contents.clear();
        Ok(taken)
    }
}

impl Taken {
    /// Its name in its directory.
    pub(crate) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.name.strip_suffix(b"\0").unwrap_or(&self.name))
    }

    /// Writes it under its name, which must be free now.
    pub(crate) fn write(self, root: &Path, stock: &Stock) -> Result<(), Failure> {
        let attributes = Attributes { stands: false, ..self.attributes };
        let note = write(&self.place, &self.name, &self.contents, &attributes, stock)
            .map_err(|(verb, error)| failed(root, &self.place, &self.name, verb, error))?;
        stock.note(note);
        give_back(self.place, root, &stock.notes)
    }
}

fn failed(root: &Path, place: &Place, name: &[u8], verb: &str, error: Errno) -> Failure {
    let name = OsStr::from_bytes(name.strip_suffix(b"\0").unwrap_or(name));
    Failure::io(verb, &root.join(place.path()).join(name), error)
}

/// Writes one file under a name that must be free but for what was there before; or shares an earlier
/// one, or leaves the one that is there.
fn write(
    place: &Place,
    name: &[u8],
    contents: &[u8],
    attributes: &Attributes,
    stock: &Stock,
) -> Result<Option<Note>, Problem> {
    let noted: Option<(u32, Hash)> =
        attributes.number.map(|number| (number, Sha256::digest(contents).into()));
    let note = |file: &OwnedFd| noted.map(|(number, hash)| Note::of(number, hash, file));
    let name = CStr::from_bytes_with_nul(name).map_err(|_| ("create", Errno::INVAL))?;
    if let Some(spare) = stock.spare.as_ref().filter(|_| attributes.stands) {
        if let Some((number, hash)) = noted
            && let Some(mark) = spare.keep_recorded(place.as_fd(), name, &hash, attributes)?
        {
            return Ok(Some(Note { file: number, hash, mark: Some(mark) }));
        }
        if spare.keep(place.as_fd(), name, contents, attributes)? {
            return Ok(noted.map(|(number, hash)| Note::without_mark(number, hash)));
        }
        spare.replace(place, name)?;
    }
    let old = candidate(place, name, contents.len() as u64, attributes, stock);
    if let Some((earlier, old)) = &old {
        let linked = earlier.how == Unchanged::HardLink
            && earlier::has(old, 0, contents)
            && earlier.link(old, place.as_fd(), name).map_err(|error| ("create", error))?;
        if linked {
            earlier.count(contents.len() as u64);
            return Ok(None);
        }
    }
    let file = fs::openat(place, name, CREATE, attributes.created_with())
        .map_err(|error| ("create", error))?;
    let cloned = old.is_some_and(|(earlier, old)| {
        let same = earlier.how == Unchanged::Reflink
            && earlier.reflink_into(&file, &old)
            && earlier::has(&file, 0, contents);
        if same {
            earlier.count(contents.len() as u64);
        }
        same
    });
    if !cloned {
        // If a clone differs, all of it is overwritten: it has the same size.
        write_all(&file, contents).map_err(|error| ("write", error))?;
    }
    attributes.settle(&file)?;
    Ok(note(&file))
}

/// The earlier release's file that may be equal.
pub(crate) fn candidate<'e>(
    place: &Place,
    name: &CStr,
    size: u64,
    attributes: &Attributes,
    stock: &'e Stock,
) -> Option<(&'e Earlier, OwnedFd)> {
    let (earlier, directory) = (stock.earlier.as_ref()?, place.earlier.as_ref()?);
    let old = earlier.candidate(directory, name, size, attributes.mode, attributes.ids?)?;
    Some((earlier, old))
}

fn write_all(file: &OwnedFd, mut contents: &[u8]) -> Result<(), Errno> {
    while !contents.is_empty() {
        match rustix::io::write(file, contents) {
            Ok(written) => contents = contents.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
