//! Owns the writing of items below a directory handle.
//!
//! Everything goes through handles of directories that were opened without following a
//! link, so nothing lands elsewhere, whatever the archive's links say.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hasher};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oxistrano_core::{Dir, Failure, IoContext, RelPath};
use rustix::fs::{self, AtFlags, Gid, Uid};
use rustix::io::Errno;

use crate::crew::{self, Attributes, Batch, Crew, Owner, SmallFile, Taken, CREATE, SMALL};
use crate::directories::{times, Directories, Finally};
use crate::failures;
use crate::select::{Item, ItemKind, Selection, Top};
use crate::sparse::Map;
use crate::stream::Body;
use crate::{Sink, UnpackOptions};

/// As many names of files under way are remembered.
const MOST_UNDER_WAY: usize = 1 << 16;

/// Writes items; the result is as if one was written after the other.
pub(crate) struct Writer<'a> {
    directories: Directories<'a>,
    archive: &'a Path,
    umask: u32,
    /// Owner and group that things have when they are made; looked up once.
    born: Option<(u32, u32)>,
    /// Those who write the small files.
    crew: Option<Crew>,
    /// What will be handed to them next.
    batch: Option<Batch>,
    /// Hashes of the paths of files that may not have been written yet.
    under_way: HashSet<u64>,
    /// And of those of the directories above them.
    above_under_way: HashSet<u64>,
}

impl<'a> Writer<'a> {
    /// Writes below `root`.
    pub(crate) fn new(
        root: &'a Dir,
        archive: &'a Path,
        umask: u32,
        options: &UnpackOptions,
    ) -> Result<Self, Failure> {
        let (mode, uid, gid) = Selection::unmentioned(options, umask);
        let unmentioned = Finally { mode, uid, gid, mtime: None };
        let directories = Directories::new(root, archive, umask, unmentioned)?;
        Ok(Self {
            directories,
            archive,
            umask,
            born: None,
            crew: Crew::start(root.path()),
            batch: None,
            under_way: HashSet::new(),
            above_under_way: HashSet::new(),
        })
    }

    fn file(
        &mut self,
        item: &Item,
        map: Option<&Map>,
        body: &mut Body<'_, '_>,
    ) -> Result<(), Failure> {
        // The first of all tells with which owner things are made.
        let owner_known = self.born.is_some() || item.uid.is_none() && item.gid.is_none();
        if self.crew.is_some() && map.is_none() && *body.remaining <= SMALL && owner_known {
            return self.small_file(item, body);
        }
        let path = item.path.as_path();
        let name = item.path.name();
        let mut attributes = self.attributes(item, None);
        let file = loop {
            let parent = self.directories.parent_of(path)?;
            match fs::openat(parent, name, CREATE, attributes.created_with()) {
                Ok(file) => break file,
                Err(Errno::EXIST) => self.directories.clear(path, name)?,
                Err(error) => return Err(Failure::io("create", &parent.at(name), error)),
            }
        };
        match map {
            None => self.contents(&file, item, body)?,
            Some(map) => self.parts(&file, item, map, body)?,
        }
        attributes.owner = self.other_owner(item)?;
        attributes.settle(&file).map_err(|(verb, error)| self.failed(verb, item, error))
    }

    /// Takes the contents of a file out of the stream, for the crew to write.
    fn small_file(&mut self, item: &Item, body: &mut Body<'_, '_>) -> Result<(), Failure> {
        let owner = self.other_owner(item)?;
        let attributes = self.attributes(item, owner);
        let parent = self.directories.shared_parent_of(item.path.as_path())?;
        let same = self.batch.as_ref().is_some_and(|batch| batch.is_in(&parent));
        if !same {
            self.hand_over()?;
        }
        let batch = self.batch.get_or_insert_with(|| Batch::new(parent));
        let contents = batch.contents();
        loop {
            let bytes = body.peek()?;
            if bytes.is_empty() {
                break;
            }
            contents.extend_from_slice(bytes);
            let taken = bytes.len();
            body.consume(taken);
        }
        let end = contents.len();
        let path = item.path.as_path().to_owned();
        batch.push(SmallFile { name: item.path.name().to_owned(), path, end, attributes });
        let full = batch.is_full();
        let mut hashes: Vec<_> = path_hashes(&item.path).collect();
        self.under_way.extend(hashes.pop());
        self.above_under_way.extend(hashes);
        if full {
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Failure> {
        match (self.batch.take(), &self.crew) {
            (Some(batch), Some(crew)) => crew.hand_over(batch),
            _ => Ok(()),
        }
    }

    /// Waits until everything is written.
    fn settle(&mut self) -> Result<(), Failure> {
        self.hand_over()?;
        self.under_way.clear();
        self.above_under_way.clear();
        let Some(crew) = &self.crew else { return Ok(()) };
        for Taken { file, contents } in crew.settle()? {
            loop {
                let parent = self.directories.parent_of(&file.path)?;
                match crew::write(parent, &file, &contents) {
                    Ok(()) => break,
                    Err(("create", Errno::EXIST)) => {
                        self.directories.clear(&file.path, &file.name)?;
                    }
                    Err((verb, error)) => {
                        let path = self.directories.root().at(&file.path);
                        return Err(Failure::io(verb, &path, error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether this item could meet a file that has not been written yet: its own name or
    /// that of a directory above it is one's, or it takes the place of a directory above
    /// one, or it is a link to one.
    fn meets_what_is_under_way(&self, item: &Item) -> bool {
        if self.under_way.len() >= MOST_UNDER_WAY {
            return true;
        }
        match item.kind {
            ItemKind::HardLink(_) => return true,
            ItemKind::Directory => {}
            ItemKind::File(_) | ItemKind::Symlink(_) => {
                let own = path_hashes(&item.path).last();
                if own.is_some_and(|hash| self.above_under_way.contains(&hash)) {
                    return true;
                }
            }
        }
        path_hashes(&item.path).any(|hash| self.under_way.contains(&hash))
    }

    fn attributes(&self, item: &Item, owner: Option<Owner>) -> Attributes {
        let chmod = item.mode != item.mode & 0o777 & !self.umask;
        Attributes { mode: item.mode, chmod, owner, mtime: item.mtime }
    }

    fn contents(
        &self,
        file: &OwnedFd,
        item: &Item,
        body: &mut Body<'_, '_>,
    ) -> Result<(), Failure> {
        loop {
            let bytes = body.peek()?;
            if bytes.is_empty() {
                return Ok(());
            }
            match rustix::io::write(file, bytes) {
                Ok(written) => body.consume(written),
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("write", item, error)),
            }
        }
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

    fn symlink(&mut self, item: &Item, target: &[u8]) -> Result<(), Failure> {
        let path = item.path.as_path();
        let name = item.path.name();
        loop {
            let parent = self.directories.parent_of(path)?;
            match fs::symlinkat(OsStr::from_bytes(target), parent, name) {
                Ok(()) => break,
                Err(Errno::EXIST) => self.directories.clear(path, name)?,
                Err(error) => return Err(Failure::io("create the link", &parent.at(name), error)),
            }
        }
        let owner = self.other_owner(item)?;
        let parent = self.directories.parent_of(path)?;
        if let Some((uid, gid)) = owner {
            fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .or_fail("change the owner of", parent.at(name))?;
        }
        if let Some(mtime) = item.mtime {
            fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
                .or_fail("set the time of", parent.at(name))?;
        }
        Ok(())
    }

    /// One more name of what was unpacked before. `linkat` without flags follows nothing.
    fn hard_link(&mut self, item: &Item, target: &Path) -> Result<(), Failure> {
        let path = item.path.as_path();
        let name = item.path.name();
        let missing = || {
            let shown = failures::show(target.as_os_str().as_bytes());
            let why = format!("it is a hard link to {shown}, which is not there (excluded, or later in the archive)");
            failures::bad(self.archive, path.as_os_str().as_bytes(), why)
        };
        let from = self.directories.existing_parent_of(target)?.ok_or_else(missing)?;
        let old = target.file_name().unwrap_or_default();
        let info = from.lookup(old)?.ok_or_else(missing)?;
        if info.is_dir() {
            let why = "it is a hard link to a directory";
            return Err(failures::bad(self.archive, path.as_os_str().as_bytes(), why));
        }
        loop {
            let parent = self.directories.parent_of(path)?;
            match fs::linkat(&from, old, parent, name, AtFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {
                    // Perhaps to itself; then removing it would lose it.
                    if parent.lookup(name)?.is_some_and(|there| there.same_file(&info)) {
                        return Ok(());
                    }
                    self.directories.clear(path, name)?;
                }
                Err(error) => {
                    return Err(Failure::io("create the hard link", &parent.at(name), error))
                }
            }
        }
    }

    fn directory(&mut self, item: &Item) -> Result<(), Failure> {
        let path = item.path.as_path();
        let fresh = self.directories.make(path, item.path.name(), item.mode)?;
        let Item { mode, mut uid, mut gid, mtime, .. } = *item;
        if fresh && self.other_owner(item)?.is_none() {
            (uid, gid) = (None, None);
        }
        self.directories.record(path, Some(Finally { mode, uid, gid, mtime }), fresh)
    }

    /// Owner and group of an item that was just made, if they must be changed.
    fn other_owner(&mut self, item: &Item) -> Result<Option<Owner>, Failure> {
        if item.uid.is_none() && item.gid.is_none() {
            return Ok(None);
        }
        let (uid, gid) = match self.born {
            Some(born) => born,
            None => {
                let parent = self.directories.parent_of(item.path.as_path())?;
                let info = parent.lookup(item.path.name())?;
                *self
                    .born
                    .insert(info.map_or((u32::MAX, u32::MAX), |info| (info.uid(), info.gid())))
            }
        };
        let uid = item.uid.filter(|wanted| *wanted != uid).map(Uid::from_raw);
        let gid = item.gid.filter(|wanted| *wanted != gid).map(Gid::from_raw);
        Ok((uid.is_some() || gid.is_some()).then_some((uid, gid)))
    }

    fn failed(&self, verb: &str, item: &Item, error: Errno) -> Failure {
        Failure::io(verb, &self.directories.root().at(&item.path), error)
    }
}

impl Sink for Writer<'_> {
    fn write(&mut self, item: &Item, body: &mut Body<'_, '_>) -> Result<(), Failure> {
        if !self.under_way.is_empty() && self.meets_what_is_under_way(item) {
            self.settle()?;
        }
        match &item.kind {
            ItemKind::File(map) => self.file(item, map.as_ref(), body),
            ItemKind::Symlink(target) => self.symlink(item, target),
            ItemKind::HardLink(target) => self.hard_link(item, target.as_path()),
            ItemKind::Directory => self.directory(item),
        }
    }

    fn finish(&mut self, top: Option<&Top>) -> Result<(), Failure> {
        self.settle()?;
        self.directories.finish()?;
        let (Some(top), root) = (top, self.directories.root()) else { return Ok(()) };
        if top.uid.is_some() || top.gid.is_some() {
            fs::fchown(root, top.uid.map(Uid::from_raw), top.gid.map(Gid::from_raw))
                .or_fail("change the owner of", root.path())?;
        }
        root.set_mode(top.mode)
    }
}

/// A hash of the path of each directory above, from the top, and of the path itself.
fn path_hashes(path: &RelPath) -> impl Iterator<Item = u64> + '_ {
    path.names().scan(DefaultHasher::new(), |hasher, name| {
        hasher.write(name.as_bytes());
        hasher.write_u8(0);
        Some(hasher.finish())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    /// Few names, so that they meet each other: as files, directories and links.
    const NAMES: [&str; 6] = ["a", "b", "a/x", "a/y", "b/x/z", "b/x"];

    fn archive(into: &Path, entries: &[(u8, usize, usize)]) -> PathBuf {
        let path = into.join("a.tar");
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        for (number, (kind, name, other)) in entries.iter().enumerate() {
            let mut header = tar::Header::new_ustar();
            header.set_mode([0o644, 0o755, 0o600][number % 3]);
            header.set_mtime(1_000_000 + number as u64);
            let (kind, contents) = match kind {
                0..=5 => (tar::EntryType::Regular, vec![b'0' + (number % 10) as u8; number * 900]),
                6 => (tar::EntryType::Directory, Vec::new()),
                7 => (tar::EntryType::Symlink, Vec::new()),
                _ => (tar::EntryType::Link, Vec::new()),
            };
            header.set_entry_type(kind);
            header.set_size(contents.len() as u64);
            if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
                tar.append_link(&mut header, NAMES[*name], NAMES[*other]).unwrap();
            } else {
                tar.append_data(&mut header, NAMES[*name], contents.as_slice()).unwrap();
            }
        }
        tar.finish().unwrap();
        path
    }

    /// What is there, or why it is not.
    fn unpacked(
        archive: &Path,
        into: &Path,
        with_crew: bool,
    ) -> Result<BTreeMap<String, String>, String> {
        std::fs::create_dir(into).unwrap();
        let dir = Dir::open(into).unwrap();
        let options = UnpackOptions::default();
        let file = File::open(archive).unwrap();
        let mut writer = Writer::new(&dir, archive, 0o022, &options).unwrap();
        if !with_crew {
            writer.crew = None;
        }
        crate::run(&file, archive, &options, 0o022, &mut writer)
            .map_err(|f| f.code().to_owned())?;
        drop(writer);
        let mut all = BTreeMap::new();
        let mut left = vec![into.to_owned()];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let info = path.symlink_metadata().unwrap();
                let what = if info.is_dir() {
                    left.push(path.clone());
                    String::new()
                } else if info.is_symlink() {
                    std::fs::read_link(&path).unwrap().display().to_string()
                } else {
                    format!("{:?} {}", std::fs::read(&path).unwrap(), info.nlink())
                };
                let mode = info.permissions().mode();
                // Directories that no entry mentions have the time at which they were filled.
                let time = Some(info.mtime()).filter(|time| *time < 2_000_000);
                let told = format!("{mode:o} {time:?} {what}");
                all.insert(path.strip_prefix(into).unwrap().display().to_string(), told);
            }
        }
        Ok(all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn with_a_crew_it_is_as_without(
            entries in proptest::collection::vec((0_u8..9, 0..NAMES.len(), 0..NAMES.len()), 1..12)
        ) {
            let scratch = tempfile::tempdir().unwrap();
            let archive = archive(scratch.path(), &entries);
            let with = unpacked(&archive, &scratch.path().join("with"), true);
            let without = unpacked(&archive, &scratch.path().join("without"), false);
            // Of several defects another one may be met first.
            prop_assert_eq!(with.ok(), without.ok());
        }
    }

    #[test]
    fn a_name_comes_again_after_more_than_are_remembered() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a.tar");
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        let mut add = |name: String, contents: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(contents.len() as u64);
            tar.append_data(&mut header, name, contents).unwrap();
        };
        add("first".into(), b"old");
        (0..MOST_UNDER_WAY + 10).for_each(|number| add(format!("d{}/{number}", number % 7), b"x"));
        add("first".into(), b"new");
        add("d0/0".into(), b"new");
        tar.finish().unwrap();
        let into = scratch.path().join("into");
        unpacked(&path, &into, true).unwrap();
        assert_eq!(std::fs::read(into.join("first")).unwrap(), b"new");
        assert_eq!(std::fs::read(into.join("d0/0")).unwrap(), b"new");
    }
}
