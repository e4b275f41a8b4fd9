//! Compares the manifest of a release with that of the spare: which entries have the same path, and
//! which directories have the same names in both.

use std::collections::{HashMap, HashSet};

use crate::index::Index;
use crate::manifest::{Cursor, Manifest, Row, Wrong};
use crate::paths::{Hashed, Paths, clean, split};

/// What an entry of the spare is, with its number among those of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Old {
    File(u32),
    Directory(u32),
    Other,
}

/// The entries of the spare by the hash of their path. If two paths have the same hash, the wrong
/// file may be found; its mark or its contents are compared later.
type Olds = HashMap<u64, (Old, bool), Hashed>;

/// The directories of a manifest.
#[derive(Default)]
struct Directories {
    by_path: HashMap<u64, u32, Hashed>,
    /// The parent of the previous entry.
    last: Option<(Vec<u8>, u32)>,
    /// By number: how many entries are in it.
    children: Vec<u32>,
    /// By number: its names are not just those of the entries that are counted.
    odd: Vec<bool>,
    /// Directories without an entry, or with a later one.
    orphans: HashSet<u64, Hashed>,
}

impl Directories {
    /// The directory that an entry is in; `None` if that is the top, or has no entry.
    fn parent(&mut self, path: &[u8], paths: &Paths) -> Option<u32> {
        let (parent, _) = split(path);
        if let Some((_, number)) = self.last.as_ref().filter(|(last, _)| last == parent) {
            return Some(*number);
        }
        let mut above = parent;
        while !above.is_empty() {
            let hash = paths.hash(above);
            if let Some(number) = self.by_path.get(&hash).copied() {
                if above.len() == parent.len() {
                    let (last, known) = self.last.get_or_insert_default();
                    last.clear();
                    last.extend_from_slice(parent);
                    *known = number;
                    return Some(number);
                }
                self.spoil(number);
                return None;
            }
            self.orphans.insert(hash);
            above = split(above).0;
        }
        None
    }

    /// Adds the next directory.
    fn add(&mut self, hash: Option<u64>) {
        let number = self.children.len() as u32;
        let before = hash.and_then(|hash| self.by_path.insert(hash, number));
        let orphan = hash.is_none_or(|hash| self.orphans.contains(&hash));
        self.children.push(0);
        self.odd.push(orphan || before.is_some());
        if let Some(before) = before {
            self.spoil(before);
            self.last = None;
        }
    }

    fn spoil(&mut self, number: u32) {
        if let Some(odd) = self.odd.get_mut(number as usize) {
            *odd = true;
        }
    }

    fn count(&mut self, number: u32) {
        if let Some(children) = self.children.get_mut(number as usize) {
            *children += 1;
        }
    }
}

/// Which entries of a new manifest the spare has under the same path.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    /// By the number of the new entry: 1 more than the number of the spare's file or directory; 0 if
    /// there is none of this kind.
    numbers: Vec<u32>,
    /// By the number of a new file: 1 more than the number of its directory, or 0.
    parents: Vec<u32>,
    /// By the number of a new directory: whether it has the same names as the spare's.
    alike: Vec<bool>,
}

impl Twins {
    pub(crate) fn new(
        manifest: &Manifest,
        strip_components: u32,
        is_dropped: &dyn Fn(&[u8]) -> bool,
        spare: &Index,
    ) -> Result<Self, Wrong> {
        let paths = Paths::new();
        let (mut olds, mut there) = all(spare, &paths)?;
        let mut twins = Self::default();
        let mut new = Directories::default();
        // How many entries of a directory the spare has as well.
        let mut matched = Vec::new();
        let mut contested: HashSet<u32> = HashSet::default();
        let mut is_regular = true;
        let mut overridden: HashSet<u64, Hashed> = HashSet::default();
        let mut twin_of: Vec<Option<u32>> = Vec::new();
        let mut cursor = manifest.cursor();
        while let Some(row) = manifest.step(&mut cursor)? {
            let path = clean(&cursor.name, strip_components);
            let path = path.filter(|_| !is_dropped(&cursor.name));
            let hash = path.as_deref().map(|path| paths.hash(path));
            let parent = path.as_deref().and_then(|path| new.parent(path, &paths));
            let old = hash.and_then(|hash| olds.get_mut(&hash));
            if let Some(parent) = parent {
                new.count(parent);
            }
            let (mut number, mut is_matched) = (0, false);
            if let Some((old, used)) = old {
                is_matched = true;
                match old {
                    Old::File(file) if row.is_file() => {
                        number = *file + 1;
                        if *used {
                            contested.insert(number);
                        }
                    }
                    Old::Directory(directory) if row.is_directory() => number = *directory + 1,
                    _ => is_matched = false,
                }
                // A name that two entries have is that of the last one, and the other may have
                // replaced what the spare had.
                if *used || !is_matched {
                    if let Some(parent) = parent {
                        new.spoil(parent);
                    }
                    match old {
                        Old::File(file) => _ = contested.insert(*file + 1),
                        Old::Directory(_) if !row.is_directory() => overridden.extend(hash),
                        _ => {}
                    }
                }
                *used = true;
            }
            twins.numbers.push(number);
            if is_matched && let Some(matched) = parent.and_then(|n| matched.get_mut(n as usize)) {
                *matched += 1u32;
            }
            if row.is_directory() {
                new.add(hash);
                matched.push(0);
                twin_of.push(number.checked_sub(1));
            } else if row.is_file() {
                twins.parents.push(parent.map_or(0, |parent| parent + 1));
            }
            // It needs its target to be written before.
            is_regular &= !row.is_hard_link();
        }
        twins.revoke(manifest, strip_components, &contested, &overridden, &paths)?;
        is_regular &= overridden.is_empty();
        for (number, twin) in twin_of.into_iter().enumerate() {
            let alike = is_regular
                && !new.odd[number]
                && twin.is_some_and(|twin| {
                    let twin = twin as usize;
                    !there.odd[twin]
                        && new.children[number] == matched[number]
                        && there.children[twin] == matched[number]
                });
            twins.alike.push(alike);
        }
        there.by_path.clear();
        Ok(twins)
    }

    /// Forgets files of the spare that entries of the archive replace before they are needed.
    fn revoke(
        &mut self,
        manifest: &Manifest,
        strip_components: u32,
        contested: &HashSet<u32>,
        overridden: &HashSet<u64, Hashed>,
        paths: &Paths,
    ) -> Result<(), Wrong> {
        if contested.is_empty() && overridden.is_empty() {
            return Ok(());
        }
        let mut cursor = manifest.cursor();
        while let Some(row) = manifest.step(&mut cursor)? {
            let number = &mut self.numbers[cursor.record as usize - 1];
            if *number == 0 || !row.is_file() {
                continue;
            }
            let path = clean(&cursor.name, strip_components);
            let mut above = path.as_deref().map_or(&[][..], |path| split(path).0);
            let mut is_overridden = false;
            while !above.is_empty() && !overridden.is_empty() {
                is_overridden |= overridden.contains(&paths.hash(above));
                above = split(above).0;
            }
            if is_overridden || contested.contains(number) {
                *number = 0;
            }
        }
        Ok(())
    }

    /// The number of the spare's file or directory with the path of this entry, if it is the same kind.
    pub(crate) fn of(&self, entry: u32) -> Option<u32> {
        self.numbers.get(entry as usize)?.checked_sub(1)
    }

    /// The directory of a new file has something else than the spare's.
    pub(crate) fn spoil_parent_of(&mut self, file: u32) {
        let parent = self.parents.get(file as usize).and_then(|parent| parent.checked_sub(1));
        if let Some(alike) = parent.and_then(|parent| self.alike.get_mut(parent as usize)) {
            *alike = false;
        }
    }

    /// Whether a new directory has the same names as the spare's, and all files are the same.
    pub(crate) fn is_alike(&self, directory: u32) -> bool {
        self.alike.get(directory as usize).is_some_and(|alike| *alike)
    }
}

/// The entries of the spare.
fn all(spare: &Index, paths: &Paths) -> Result<(Olds, Directories), Wrong> {
    let manifest = &spare.manifest;
    let mut olds = Olds::with_capacity_and_hasher(manifest.entries() as usize, Hashed::default());
    let mut there = Directories::default();
    let mut cursor = manifest.cursor();
    while let Some(row) = manifest.step(&mut cursor)? {
        let path = clean(&cursor.name, spare.strip_components);
        let hash = path.as_deref().map(|path| paths.hash(path));
        if let Some((path, hash)) = path.as_deref().zip(hash) {
            if let Some(parent) = there.parent(path, paths) {
                there.count(parent);
            }
            // The last one counts, because it has replaced the others.
            olds.insert(hash, (old(&row, &cursor), false));
        }
        if row.is_directory() {
            there.add(hash);
        }
    }
    Ok((olds, there))
}

fn old(row: &Row<'_>, cursor: &Cursor) -> Old {
    match () {
        () if row.is_file() => Old::File(cursor.file - 1),
        () if row.is_directory() => Old::Directory(cursor.directory - 1),
        () => Old::Other,
    }
}
