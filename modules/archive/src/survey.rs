//! Owns check mode: finds what writing would refuse, and writes nothing. Remembers a
//! number for each entry instead of its path, unless what is in them is to be compared.

use std::collections::HashMap;
use std::collections::hash_map::{self, RandomState};
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oxistrano_core::Failure;
use oxistrano_tree::{Contents, Files};

use crate::failures;
use crate::pass::Sink;
use crate::select::{Item, ItemKind, Top};
use crate::stream::Body;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    File,
    Link,
    Directory,
    /// A directory that cannot be replaced any more.
    Filled,
}

/// A part of the hash of a path; with what was made there it takes eight bytes.
type Key = [u8; 7];

/// Maps in which what was made is spread, by the rest of the hash: they do not all grow at
/// once, which takes half as much again.
const PARTS: usize = 256;

/// What would be there.
pub(crate) struct Survey<'a> {
    archive: &'a Path,
    made: Vec<HashMap<Key, Made>>,
    hasher: RandomState,
    unmentioned: u64,
    /// The directory that was looked at last: most entries lie in the same as the one before.
    parent: PathBuf,
    /// What would be in the files, if that is wanted.
    pub(crate) files: Option<Files>,
}

impl<'a> Survey<'a> {
    /// Begins with nothing.
    pub(crate) fn new(archive: &'a Path, files: Option<Files>) -> Self {
        Self {
            archive,
            made: vec![HashMap::new(); PARTS],
            hasher: RandomState::new(),
            unmentioned: 0,
            parent: PathBuf::new(),
            files,
        }
    }

    fn slot(&mut self, path: &Path) -> hash_map::Entry<'_, Key, Made> {
        let [part, key @ ..] = self.hasher.hash_one(path.as_os_str().as_bytes()).to_le_bytes();
        self.made[usize::from(part)].entry(key)
    }

    fn look(&mut self, path: &Path) -> Option<Made> {
        match self.slot(path) {
            hash_map::Entry::Occupied(made) => Some(*made.get()),
            hash_map::Entry::Vacant(_) => None,
        }
    }

    /// The directories above `path` are made, unless something stands in their way.
    fn fill_parents(&mut self, path: &Path) -> Result<(), Failure> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent == self.parent {
            return Ok(());
        }
        for above in parent.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            match self.look(above) {
                Some(made @ (Made::Link | Made::File)) => {
                    return Err(self.in_the_way(above, made, path));
                }
                // Then those above it are, too.
                Some(Made::Filled) => break,
                Some(Made::Directory) => {}
                None => self.unmentioned += 1,
            }
            self.slot(above).insert_entry(Made::Filled);
        }
        self.parent = parent.to_owned();
        Ok(())
    }

    fn in_the_way(&self, above: &Path, made: Made, entry: &Path) -> Failure {
        let shown = failures::show(above.as_os_str().as_bytes());
        let entry = entry.as_os_str().as_bytes();
        if made == Made::Link {
            let why = format!("the archive has a symbolic link above it, {shown}");
            return failures::unsafe_entry(self.archive, entry, why);
        }
        failures::bad(
            self.archive,
            entry,
            format!(
                "a directory above it, {shown}, is a file in \
            the archive"
            ),
        )
    }
}

impl Sink for Survey<'_> {
    fn write(&mut self, item: &Item, body: &mut Body<'_, '_>) -> Result<(), Failure> {
        let path = item.path.as_path();
        let entry = path.as_os_str().as_bytes();
        self.fill_parents(path)?;
        let old = self.look(path);
        let new = match &item.kind {
            ItemKind::Directory if old == Some(Made::Filled) => Made::Filled,
            ItemKind::Directory => Made::Directory,
            ItemKind::File(_) => Made::File,
            ItemKind::Symlink(_) => Made::Link,
            ItemKind::HardLink(target) => match self.look(target.as_path()) {
                Some(made @ (Made::File | Made::Link)) => made,
                Some(_) => {
                    return Err(failures::bad(
                        self.archive,
                        entry,
                        "it is a hard link to a directory",
                    ));
                }
                None => {
                    let why = format!(
                        "it is a hard link to '{target}', which does not exist yet (excluded, or \
                         later in the archive)"
                    );
                    return Err(failures::bad(self.archive, entry, why));
                }
            },
        };
        if old == Some(Made::Filled) && new != Made::Filled {
            let why = "the archive has a directory with entries under the same name";
            return Err(failures::bad(self.archive, entry, why));
        }
        self.slot(path).insert_entry(new);
        self.files.as_mut().map_or(Ok(()), |files| note(files, item, body))
    }

    fn unmentioned(&self) -> u64 {
        self.unmentioned
    }

    fn finish(&mut self, _: Option<&Top>) -> Result<[(u64, u64); 2], Failure> {
        Ok(Default::default())
    }
}

fn note(files: &mut Files, item: &Item, body: &mut Body<'_, '_>) -> Result<(), Failure> {
    let path = item.path.as_path();
    match &item.kind {
        ItemKind::Directory => files.forget(path),
        ItemKind::Symlink(target) => files.add_link(path, target),
        ItemKind::HardLink(target) => files.add_name(path, target.as_path()),
        ItemKind::File(map) => {
            let mut contents = Contents::default();
            match map {
                None => take(body, u64::MAX, &mut contents)?,
                Some(map) => {
                    let mut at = 0;
                    for (offset, length) in &map.parts {
                        contents.add_zeros(offset.saturating_sub(at));
                        take(body, *length, &mut contents)?;
                        at = offset.saturating_add(*length);
                    }
                    contents.add_zeros(map.size.saturating_sub(at));
                }
            }
            files.add_file(path, contents);
        }
    }
    Ok(())
}

/// The next bytes of an entry, as many or all that are left.
fn take(body: &mut Body<'_, '_>, mut most: u64, contents: &mut Contents) -> Result<(), Failure> {
    while most > 0 {
        let bytes = body.peek()?;
        let taken = usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len()));
        if taken == 0 {
            break;
        }
        contents.add(&bytes[..taken]);
        body.consume(taken);
        most -= taken as u64;
    }
    Ok(())
}
