//! Owns the writing of items below a directory handle.
//!
//! Everything goes through handles of directories that were opened without following a
//! link, so nothing lands elsewhere, whatever the archive's links say.

mod links;
mod regular;
#[cfg(test)]
mod tests;

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use oxistrano_core::{Dir, Failure, IoContext};
use rustix::fs::{self, Gid, Uid};
use rustix::io::Errno;

use crate::attributes::{Attributes, Problem};
use crate::crew::Crew;
use crate::directories::{Directories, Wanted};
use crate::identity::{self, Identity};
use crate::notes::{Note, Notes};
use crate::options::UnpackOptions;
use crate::pass::Sink;
use crate::pending::Pending;
use crate::place::Place;
use crate::select::{Item, ItemKind, Selection, Top};
use crate::spare::Stock;
use crate::stream::Body;

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
        let unmentioned = Wanted { mode, uid, gid, mtime: None, number: None };
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

    /// What was noted of files.
    pub(crate) fn notes(&self) -> &Notes {
        &self.stock.notes
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

    fn attributes(&mut self, item: &Item, place: &Place) -> Result<Attributes, Failure> {
        let owner = self.directories.owner_of_new(place, item.path.name(), (item.uid, item.gid))?;
        let ids = self
            .directories
            .born
            .filter(|_| !place.peculiar)
            .map(|(uid, gid)| (item.uid.unwrap_or(uid), item.gid.unwrap_or(gid)));
        let chmod = item.mode != item.mode & 0o777 & !self.umask;
        let Item { mode, mtime, number, .. } = *item;
        Ok(Attributes { mode, chmod, owner, ids, mtime, stands: false, number })
    }

    fn failed(&self, verb: &str, item: &Item, error: Errno) -> Failure {
        Failure::io(verb, &self.directories.shown(item.path.as_path()), error)
    }
}

impl Sink for Writer<'_> {
    fn note(&mut self, note: Note) {
        self.stock.note([note]);
    }

    fn write(&mut self, item: &Item, body: &mut Body<'_, '_>) -> Result<(), Failure> {
        if !self.started {
            self.start(item)?;
        }
        match &item.kind {
            ItemKind::File(map) => self.file(item, map.as_ref(), body),
            ItemKind::Symlink(target) => self.symlink(item, target),
            ItemKind::HardLink(target) => self.hard_link(item, target.as_path()),
            ItemKind::Directory => {
                let Item { mode, uid, gid, mtime, number, .. } = *item;
                let wanted = Wanted { mode, uid, gid, mtime, number };
                if let Some(quiet) = &item.quiet
                    && self.directories.pass(item.path.as_path(), wanted, quiet)?
                {
                    return Ok(());
                }
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
