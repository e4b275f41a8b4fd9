//! Owns the making of symbolic and hard links.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oxistrano_core::{Failure, IoContext};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::failures;
use crate::place::{self, Place, kind};
use crate::select::Item;
use crate::writer::{Writer, c_name};

impl Writer<'_> {
    pub(super) fn symlink(&mut self, item: &Item, target: &[u8]) -> Result<(), Failure> {
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
    pub(super) fn hard_link(&mut self, item: &Item, target: &Path) -> Result<(), Failure> {
        let path = item.path.as_path();
        let name = item.path.name();
        let missing = || {
            let shown = failures::show(target.as_os_str().as_bytes());
            let why = format!(
                "it is a hard link to {shown}, which does not exist yet (excluded, or later in \
                 the archive)"
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
}
