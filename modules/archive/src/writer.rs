//! Owns the writing of items below a directory handle.
//!
//! Everything goes through handles of directories that were opened without following a
//! link, so nothing lands elsewhere, whatever the archive's links say.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use oxistrano_core::{Dir, Failure, IoContext};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::batch::{Attributes, CREATE, Problem, candidate};
use crate::crew::Crew;
use crate::directories::{Directories, Wanted};
use crate::earlier::{self, Earlier, Unchanged};
use crate::failures;
use crate::identity::{self, Identity};
use crate::pending::Pending;
use crate::place::{self, Place, kind};
use crate::select::{Item, ItemKind, Selection, Top};
use crate::spare::Stock;
use crate::sparse::Map;
use crate::stream::Body;
use crate::{Sink, UnpackOptions};

/// A larger file is written as it comes.
const SMALL: u64 = 128 << 10;

/// Writes items; the result is as if one was written after the other.
pub(crate) struct Writer<'a> {
    root: &'a Dir,
    archive: &'a Path,
    umask: u32,
    /// Permissions of the root, which is closed to others until the end.
    root_mode: u32,
    directories: Directories<'a>,
    /// Small files that may not have been written yet.
    pending: Pending<'a>,
    /// Whether there may be threads that write them.
    threads: bool,
    started: bool,
    stock: Arc<Stock>,
    /// The last to go: the owner for whom things are made.
    identity: Option<Identity>,
}

impl<'a> Writer<'a> {
    /// Writes below `root`.
    pub(crate) fn new(
        root: &'a Dir,
        archive: &'a Path,
        umask: u32,
        options: &UnpackOptions,
        stock: Stock,
    ) -> Result<Self, Failure> {
        let (mode, mut uid, mut gid) = Selection::unmentioned(options, umask);
        let root_mode = root.info()?.mode();
        // Not to the owner of the first entry, for whom everything is made.
        if options.preserve_owner {
            let now = identity::current();
            uid = uid.or(Some(now.0));
            gid = gid.or((root_mode & 0o2000 == 0).then_some(now.1));
        }
        let unmentioned = Wanted { mode, uid, gid, mtime: None };
        let stock = Arc::new(stock);
        Ok(Self {
            root,
            archive,
            umask,
            root_mode,
            directories: Directories::new(root, archive, umask, unmentioned, &stock)?,
            pending: Pending::new(root.path(), archive, None, Arc::clone(&stock)),
            threads: true,
            started: false,
            stock,
            identity: None,
        })
    }

    /// Before the first item, whose owner will probably be that of all.
    fn start(&mut self, item: &Item) -> Result<(), Failure> {
        self.started = true;
        let now = identity::current();
        let wanted = (item.uid.unwrap_or(now.0), item.gid.unwrap_or(now.1));
        if wanted != now {
            self.identity = Identity::take(wanted);
        }
        // What is made for its owner must not be reached by them yet. Not without need: with the
        // mode, who is not in the directory's group takes away the bit that passes it on.
        let can_be_closed = self.root_mode & 0o2000 == 0 || now.0 == 0;
        if self.identity.is_some() || (self.stock.spare.is_some() && can_be_closed) {
            self.root.set_mode(self.root_mode & 0o7000 | 0o700)?;
        }
        // Threads that start now have the same identity.
        let start = || Crew::start(self.root.path(), Arc::clone(&self.stock));
        let crew = self.threads.then(start).flatten();
        let stock = Arc::clone(&self.stock);
        self.pending = Pending::new(self.root.path(), self.archive, crew, stock);
        if let Some(spare) = &self.stock.spare {
            self.directories.born = Some(spare.born(self.umask)?);
        }
        Ok(())
    }

    fn file(
        &mut self,
        item: &Item,
        map: Option<&Map>,
        body: &mut Body<'_, '_>,
    ) -> Result<(), Failure> {
        let path = item.path.as_path();
        let name = item.path.name();
        self.directories.forget(path);
        let place = self.directories.parent_of(path, &mut self.pending)?;
        let stands = self.directories.take(path)?;
        // The first of all tells with which owner things are made.
        let unowned = item.uid.is_none() && item.gid.is_none() && self.stock.earlier.is_none();
        let born = self.directories.born;
        if self.pending.has_crew()
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
        if stands && self.stays(&place, item, map, body)? {
            return Ok(());
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

    fn attributes(&mut self, item: &Item, place: &Place) -> Result<Attributes, Failure> {
        let owner = self.directories.owner_of_new(place, item.path.name(), (item.uid, item.gid))?;
        let ids = self
            .directories
            .born
            .filter(|_| !place.peculiar)
            .map(|(uid, gid)| (item.uid.unwrap_or(uid), item.gid.unwrap_or(gid)));
        let chmod = item.mode != item.mode & 0o777 & !self.umask;
        Ok(Attributes { mode: item.mode, chmod, owner, ids, mtime: item.mtime, stands: false })
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
                    spare.stays(old, size, item.mtime).map_err(failed)?;
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
        spare.clear(place, &name).map_err(failed)?;
        let Some(old) = old.filter(|_| offset > 0) else { return Ok(false) };
        let file = fs::openat(place, &name, CREATE, attributes.created_with())
            .map_err(|error| failed(("create", error)))?;
        copy(&old, &file, offset).map_err(failed)?;
        self.rest(&file, item, offset, body)?;
        let failed = |(verb, error)| self.failed(verb, item, error);
        attributes.settle(&file).map_err(failed)?;
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
        attributes.settle(file).map_err(|(verb, error)| failed(verb, error))
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

    fn symlink(&mut self, item: &Item, target: &[u8]) -> Result<(), Failure> {
        let path = item.path.as_path();
        let name = item.path.name();
        self.directories.forget(path);
        let place = self.directories.parent_of(path, &mut self.pending)?;
        if self.pending.has(&place, name) {
            self.pending.settle()?;
        }
        if self.directories.take(path)? && self.link_stays(&place, item, target)? {
            return Ok(());
        }
        loop {
            match fs::symlinkat(OsStr::from_bytes(target), &place, name) {
                Ok(()) => break,
                Err(Errno::EXIST) => self.directories.clear(path, &mut self.pending)?,
                Err(error) => return Err(self.failed("create the link", item, error)),
            }
        }
        let owner = self.directories.owner_of_new(&place, name, (item.uid, item.gid))?;
        if owner.is_none() && item.mtime.is_none() {
            return Ok(());
        }
        // The directory may be another user's by now, and the name something else's.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = fs::openat(&place, name, flags, Mode::empty())
            .map_err(|error| self.failed("examine the link", item, error))?;
        let is_ours = fs::readlinkat(&link, "", Vec::new())
            .is_ok_and(|leads_to| leads_to.as_bytes() == target)
            && fs::fstat(&link).is_ok_and(|stat| stat.st_nlink == 1);
        if !is_ours {
            return Err(self.failed("create the link", item, Errno::STALE));
        }
        if let Some((uid, gid)) = owner {
            #[expect(clippy::disallowed_methods, reason = "of what is held, by an empty name")]
            fs::chownat(&link, "", uid, gid, AtFlags::EMPTY_PATH)
                .map_err(|error| self.failed("change the owner of", item, error))?;
        }
        match item.mtime {
            Some(mtime) => place::set_time(&link, &place::times(mtime))
                .map_err(|error| self.failed("set the time of", item, error)),
            None => Ok(()),
        }
    }

    /// Whether the link that was there before is this one. If not, its name is free.
    fn link_stays(&self, place: &Place, item: &Item, target: &[u8]) -> Result<bool, Failure> {
        let Some(spare) = &self.stock.spare else { return Ok(false) };
        let failed = |(verb, error)| self.failed(verb, item, error);
        let name = c_name(item.path.name()).map_err(failed)?;
        if let Some((uid, gid)) = self.directories.born.filter(|_| !place.peculiar) {
            let ids = (item.uid.unwrap_or(uid), item.gid.unwrap_or(gid));
            if spare.keep_link(place.as_fd(), &name, target, ids, item.mtime).map_err(failed)? {
                return Ok(true);
            }
        }
        spare.clear(place, &name).map_err(failed)?;
        Ok(false)
    }

    /// One more name of what was unpacked before. `linkat` without flags follows nothing.
    fn hard_link(&mut self, item: &Item, target: &Path) -> Result<(), Failure> {
        let path = item.path.as_path();
        let name = item.path.name();
        let missing = || {
            let shown = failures::show(target.as_os_str().as_bytes());
            let why = format!(
                "it is a hard link to {shown}, which is not there (excluded, or later in the archive)"
            );
            failures::bad(self.archive, path.as_os_str().as_bytes(), why)
        };
        self.pending.settle()?;
        if self.directories.is_of_before(target) {
            return Err(missing());
        }
        let from = self.directories.existing_parent_of(target)?.ok_or_else(missing)?;
        let old = target.file_name().unwrap_or_default();
        let shown = self.directories.shown(target);
        let there = from.lookup(old).or_fail("examine", &shown)?.ok_or_else(missing)?;
        if kind(&there) == FileType::Directory {
            let why = "it is a hard link to a directory";
            return Err(failures::bad(self.archive, path.as_os_str().as_bytes(), why));
        }
        let place = self.directories.parent_of(path, &mut self.pending)?;
        if self.directories.take(path)?
            && let Some(spare) = &self.stock.spare
        {
            c_name(name)
                .and_then(|name| spare.clear(&place, &name))
                .map_err(|(verb, error)| self.failed(verb, item, error))?;
        }
        loop {
            match fs::linkat(&from, old, &place, name, AtFlags::empty()) {
                Ok(()) => break,
                Err(Errno::EXIST) => {
                    // Perhaps to itself; then removing it would lose it.
                    let in_the_way = place.lookup(name).or_fail("examine", &shown)?;
                    if in_the_way
                        .is_some_and(|it| (it.st_dev, it.st_ino) == (there.st_dev, there.st_ino))
                    {
                        break;
                    }
                    self.directories.clear(path, &mut self.pending)?;
                }
                Err(error) => return Err(self.failed("create the hard link", item, error)),
            }
        }
        self.directories.forget(path);
        Ok(())
    }

    fn failed(&self, verb: &str, item: &Item, error: Errno) -> Failure {
        Failure::io(verb, &self.directories.shown(item.path.as_path()), error)
    }
}

impl Sink for Writer<'_> {
    fn write(&mut self, item: &Item, body: &mut Body<'_, '_>) -> Result<(), Failure> {
        if !self.started {
            self.start(item)?;
        }
        match &item.kind {
            ItemKind::File(map) => self.file(item, map.as_ref(), body),
            ItemKind::Symlink(target) => self.symlink(item, target),
            ItemKind::HardLink(target) => self.hard_link(item, target.as_path()),
            ItemKind::Directory => {
                let Item { mode, uid, gid, mtime, .. } = *item;
                let wanted = Wanted { mode, uid, gid, mtime };
                self.directories.make(item.path.as_path(), wanted, &mut self.pending)
            }
        }
    }

    fn unmentioned(&self) -> u64 {
        self.directories.made_unmentioned
    }

    fn finish(&mut self, top: Option<&Top>) -> Result<[(u64, u64); 2], Failure> {
        self.directories.finish(&mut self.pending)?;
        let mode = match top {
            Some(Top { mode, uid, gid }) => {
                if uid.is_some() || gid.is_some() {
                    fs::fchown(self.root, uid.map(Uid::from_raw), gid.map(Gid::from_raw))
                        .or_fail("change the owner of", self.root.path())?;
                }
                // As chmod(1): the bit by which the group is inherited is not taken away.
                *mode | self.root_mode & 0o2000
            }
            None => self.root_mode,
        };
        if self.root.info()?.mode() != mode {
            self.root.set_mode(mode)?;
        }
        Ok(self.stock.unwritten())
    }
}

fn c_name(name: &OsStr) -> Result<CString, Problem> {
    CString::new(name.as_bytes()).map_err(|_| ("create", Errno::INVAL))
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
        let mut writer = Writer::new(&dir, archive, 0o022, &options, Stock::default()).unwrap();
        writer.threads = with_crew;
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
        (0..crate::pending::MOST_UNDER_WAY + 10)
            .for_each(|number| add(format!("d{}/{number}", number % 7), b"x"));
        add("first".into(), b"new");
        add("d0/0".into(), b"new");
        tar.finish().unwrap();
        let into = scratch.path().join("into");
        unpacked(&path, &into, true).unwrap();
        assert_eq!(std::fs::read(into.join("first")).unwrap(), b"new");
        assert_eq!(std::fs::read(into.join("d0/0")).unwrap(), b"new");
    }
}
