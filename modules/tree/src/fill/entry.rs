//! Copies one entry of a directory: a file or a symbolic link.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::Ordering;

use oxistrano_core::{Dir, Failure};
use rustix::fs::{self, AtFlags, Stat};
use rustix::io::Errno;

use super::{Job, Node, Task};
use crate::file::{Source, add_name, changed, vanished};
use crate::hardlinks::Claim;
use crate::pool::Pool;
use crate::spare::Spare;
use crate::walk::open_below;

impl Task<'_> {
    pub(super) fn file(
        &self,
        node: &Node,
        (from, to): (&Dir, &Dir),
        (name, taken): (&OsStr, bool),
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        let before = self.spare.as_ref().filter(|_| taken);
        self.spare.as_ref().map_or(Ok(()), Spare::check_worth)?;
        self.counts.files.fetch_add(1, Ordering::Relaxed);
        if self.can_link.load(Ordering::Relaxed) && self.link_to_source((from, to), name, before)? {
            self.counts.linked.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let source = Source::open(from, name)?;
        let several = source.stat.st_nlink > 1;
        if let Some(spare) = before {
            let rules = &self.copier.rules;
            if !several && spare.keep(rules, (&source, from), (to, name))? {
                self.counts.bytes.fetch_add(source.size(), Ordering::Relaxed);
                return Ok(());
            }
            spare.replace(to, name)?;
        }
        if several && self.known(&source.stat, to, name, pool)? {
            return Ok(());
        }
        let cloned = self.copier.file(&source, (from, name), (to, name))?;
        self.counts.cloned.fetch_add(cloned.into(), Ordering::Relaxed);
        self.counts.bytes.fetch_add(source.size(), Ordering::Relaxed);
        if several {
            self.hard_links.copied(&source.stat, &node.rel.join(name));
        }
        Ok(())
    }

    pub(super) fn link(
        &self,
        node: &Node,
        (from, to): (&Dir, &Dir),
        (name, taken): (&OsStr, bool),
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        self.counts.links.fetch_add(1, Ordering::Relaxed);
        let info = from.lookup(name)?.ok_or_else(|| vanished(&from.at(name)))?;
        let several = info.stat().st_nlink > 1;
        if let Some(spare) = self.spare.as_ref().filter(|_| taken) {
            let rules = &self.copier.rules;
            if !several && spare.keep_link(rules, (from, info.stat()), (to, name))? {
                return Ok(());
            }
            spare.clear(to, name)?;
        }
        if several && self.known(info.stat(), to, name, pool)? {
            return Ok(());
        }
        self.copier.link(info.stat(), (from, name), (to, name))?;
        if several {
            self.hard_links.copied(info.stat(), &node.rel.join(name));
        }
        Ok(())
    }

    /// If this is another name of a copied file, makes the hard link and returns true.
    fn known(
        &self,
        stat: &Stat,
        to: &Dir,
        name: &OsStr,
        pool: &Pool<Job>,
    ) -> Result<bool, Failure> {
        match self.hard_links.claim(stat, || pool.is_stopped())? {
            Claim::First => Ok(false),
            Claim::To(path) => {
                let dir = open_below(self.root, path.parent().unwrap_or(Path::new("")))?;
                add_name((&dir, path.file_name().unwrap_or_default()), (to, name))
            }
        }
    }

    /// Makes the name a hard link to the source's file. `false`: it has to be copied.
    fn link_to_source(
        &self,
        (from, to): (&Dir, &Dir),
        name: &OsStr,
        before: Option<&Spare>,
    ) -> Result<bool, Failure> {
        let info = from.lookup(name)?.ok_or_else(|| vanished(&from.at(name)))?;
        if !info.is_file() {
            return Err(changed(&from.at(name)));
        }
        // Changing the owner would change the source, too.
        if !self.copier.rules.wanted(info.stat()).fits(info.stat()) {
            return Ok(false);
        }
        if let Some(spare) = before {
            if spare.is_source(&info, to, name) {
                return Ok(true);
            }
            spare.clear(to, name)?;
        }
        match fs::linkat(from, name, to, name, AtFlags::empty()) {
            // Linked by name, so check that it is the same file.
            Ok(()) if to.lookup(name)?.is_some_and(|made| made.same_file(&info)) => Ok(true),
            Ok(()) => {
                to.remove_file(name)?;
                Err(changed(&from.at(name)))
            }
            Err(Errno::XDEV) => {
                self.can_link.store(false, Ordering::Relaxed);
                Ok(false)
            }
            // Too many names, another user's file, or a file system without hard links.
            Err(Errno::MLINK | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS) => {
                Ok(false)
            }
            Err(error) => Err(Failure::io("link", &to.at(name), error)),
        }
    }
}
