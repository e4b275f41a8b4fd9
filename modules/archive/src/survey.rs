//! Owns check mode: finds what writing would refuse, and writes nothing. Remembers a
//! number for each entry instead of its path.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oxistrano_core::Failure;

use crate::failures;
use crate::select::{Item, ItemKind, Top};
use crate::stream::Body;
use crate::Sink;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    File,
    Link,
    Directory,
    /// A directory that cannot be replaced any more.
    Filled,
}

/// What would be there.
pub(crate) struct Survey<'a> {
    archive: &'a Path,
    made: HashMap<u64, Made>,
    hasher: RandomState,
    /// The directory that was looked at last: most entries lie in the same as the one before.
    parent: PathBuf,
}

impl<'a> Survey<'a> {
    /// Begins with nothing.
    pub(crate) fn new(archive: &'a Path) -> Self {
        Self { archive, made: HashMap::new(), hasher: RandomState::new(), parent: PathBuf::new() }
    }

    fn look(&self, path: &Path) -> (u64, Option<Made>) {
        let key = self.hasher.hash_one(path.as_os_str().as_bytes());
        (key, self.made.get(&key).copied())
    }

    /// The directories above `path` are made, unless something stands in their way.
    fn fill_parents(&mut self, path: &Path) -> Result<(), Failure> {
        let entry = path.as_os_str().as_bytes();
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent == self.parent {
            return Ok(());
        }
        for above in parent.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            let shown = failures::show(above.as_os_str().as_bytes());
            let (key, made) = self.look(above);
            match made {
                Some(Made::Link) => {
                    let why = format!("the archive made {shown}, above it, a symbolic link");
                    return Err(failures::unsafe_entry(self.archive, entry, why));
                }
                Some(Made::File) => {
                    let why = format!("{shown}, above it, is a file");
                    return Err(failures::bad(self.archive, entry, why));
                }
                _ => self.made.insert(key, Made::Filled),
            };
        }
        self.parent = parent.to_owned();
        Ok(())
    }
}

impl Sink for Survey<'_> {
    fn write(&mut self, item: &Item, _: &mut Body<'_, '_>) -> Result<(), Failure> {
        let path = item.path.as_path();
        let entry = path.as_os_str().as_bytes();
        self.fill_parents(path)?;
        let (key, old) = self.look(path);
        let new = match &item.kind {
            ItemKind::Directory if old == Some(Made::Filled) => Made::Filled,
            ItemKind::Directory => Made::Directory,
            ItemKind::File(_) => Made::File,
            ItemKind::Symlink(_) => Made::Link,
            ItemKind::HardLink(target) => match self.look(target.as_path()).1 {
                Some(made @ (Made::File | Made::Link)) => made,
                Some(_) => {
                    return Err(failures::bad(
                        self.archive,
                        entry,
                        "it is a hard link to a directory",
                    ))
                }
                None => {
                    let why = format!("it is a hard link to '{target}', which is not there (excluded, or later in the archive)");
                    return Err(failures::bad(self.archive, entry, why));
                }
            },
        };
        if old == Some(Made::Filled) && new != Made::Filled {
            let why = "the archive made it a directory before, with entries in it";
            return Err(failures::bad(self.archive, entry, why));
        }
        self.made.insert(key, new);
        Ok(())
    }

    fn finish(&mut self, _: Option<&Top>) -> Result<(u64, u64), Failure> {
        Ok((0, 0))
    }
}
