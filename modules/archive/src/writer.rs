//! Owns the writing of items below a directory handle.
//!
//! Everything goes through handles of directories that were opened without following a
//! link, so nothing lands elsewhere, whatever the archive's links say.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oxistrano_core::{Dir, Failure, IoContext};
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::directories::{times, Directories, Finally};
use crate::failures;
use crate::select::{Item, ItemKind, Selection, Top};
use crate::sparse::Map;
use crate::stream::Body;
use crate::{Sink, UnpackOptions};

const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What is to be changed of owner and group.
type Owner = (Option<Uid>, Option<Gid>);

/// Writes items in the order in which they come.
///
/// Speed: one thread writes while another decompresses. A file of an archive does not
/// depend on the others but for its directory, so several writers could share the work
/// here, behind [`Sink`]: whole small files would be handed to them, and a barrier would be
/// needed before hard links, replacements and [`Directories::finish`].
pub(crate) struct Writer<'a> {
    directories: Directories<'a>,
    archive: &'a Path,
    umask: u32,
    /// Owner and group that things have when they are made; looked up once.
    born: Option<(u32, u32)>,
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
        Ok(Self { directories, archive, umask, born: None })
    }

    fn file(
        &mut self,
        item: &Item,
        map: Option<&Map>,
        body: &mut Body<'_, '_>,
    ) -> Result<(), Failure> {
        let path = item.path.as_path();
        let name = item.path.name();
        // Setuid and the like come when owner and contents are there.
        let mode = Mode::from_raw_mode(item.mode & 0o777);
        let file = loop {
            let parent = self.directories.parent_of(path)?;
            match fs::openat(parent, name, CREATE, mode) {
                Ok(file) => break file,
                Err(Errno::EXIST) => self.directories.clear(path, name)?,
                Err(error) => return Err(Failure::io("create", &parent.at(name), error)),
            }
        };
        match map {
            None => self.contents(&file, item, body)?,
            Some(map) => self.parts(&file, item, map, body)?,
        }
        if let Some((uid, gid)) = self.other_owner(item)? {
            fs::fchown(&file, uid, gid).map_err(|e| self.failed("change the owner of", item, e))?;
        }
        if item.mode != item.mode & 0o777 & !self.umask {
            fs::fchmod(&file, Mode::from_raw_mode(item.mode))
                .map_err(|e| self.failed("set the mode of", item, e))?;
        }
        if let Some(mtime) = item.mtime {
            fs::futimens(&file, &times(mtime))
                .map_err(|e| self.failed("set the time of", item, e))?;
        }
        Ok(())
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
        match &item.kind {
            ItemKind::File(map) => self.file(item, map.as_ref(), body),
            ItemKind::Symlink(target) => self.symlink(item, target),
            ItemKind::HardLink(target) => self.hard_link(item, target.as_path()),
            ItemKind::Directory => self.directory(item),
        }
    }

    fn finish(&mut self, top: Option<&Top>) -> Result<(), Failure> {
        self.directories.finish()?;
        let (Some(top), root) = (top, self.directories.root()) else { return Ok(()) };
        if top.uid.is_some() || top.gid.is_some() {
            fs::fchown(root, top.uid.map(Uid::from_raw), top.gid.map(Gid::from_raw))
                .or_fail("change the owner of", root.path())?;
        }
        root.set_mode(top.mode)
    }
}
