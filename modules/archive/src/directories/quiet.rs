//! Handles directories of the spare that need no change: they have the same names as the new release,
//! the right owner, permissions and time, and so have their files. They are not even opened, unless
//! something below them has to be changed.

use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oxistrano_core::Failure;
use rustix::fs::{self, AtFlags, FileType};

use crate::directories::{Directories, Level, State, Wanted};
use crate::known::{Look, Quiet};
use crate::notes::Mark;
use crate::paths::split;
use crate::place::{Finally, kind};

impl Directories<'_> {
    /// Passes through a directory of the spare without opening it. `false` if that is not possible.
    pub(crate) fn pass(
        &mut self,
        path: &Path,
        wanted: Wanted,
        quiet: &Quiet,
    ) -> Result<bool, Failure> {
        let bytes = path.as_os_str().as_bytes();
        let (parent, name) = split(bytes);
        let fits =
            self.has_look(&quiet.look, wanted.mode | self.inherited, (wanted.uid, wanted.gid))
                && wanted.mode & 0o700 == 0o700
                && (wanted.mode | self.inherited) & 0o2000 == self.inherited;
        if !fits {
            return Ok(false);
        }
        if parent != self.current {
            self.leave_for(parent)?;
        }
        let above = match self.levels.last().map(|level| &level.state) {
            _ if parent != self.current => return Ok(false),
            Some(State::Quiet(_)) => None,
            Some(State::Open(place)) if !place.peculiar => Some(place),
            None => Some(&self.root),
            Some(_) => return Ok(false),
        };
        // Users may have lost access to the directory above it since this one was examined, and
        // may have put another in its place before.
        let is_still_there = above.is_none_or(|above| {
            let stat = fs::statat(above, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| {
                kind(&stat) == FileType::Directory && Mark::of_directory(&stat) == quiet.mark
            })
        });
        // Something of the archive may have its name by now.
        if !is_still_there || !self.takes(bytes) {
            return Ok(false);
        }
        let (mtime, number) = (wanted.mtime, wanted.number);
        let finally = Finally { mode: None, owner: None, mtime, adopted: true, number };
        if let Some(number) = number {
            self.stock.notes.add_directory(number, &quiet.mark);
        }
        self.quiet.insert(self.hasher.hash_one(bytes));
        self.push(OsStr::from_bytes(name), State::Quiet(finally));
        Ok(true)
    }

    /// Goes to the directory of this path. Whether nothing was changed in it so far.
    pub(crate) fn is_quiet(&mut self, path: &Path) -> Result<bool, Failure> {
        let (parent, _) = split(path.as_os_str().as_bytes());
        if parent != self.current {
            self.leave_for(parent)?;
        }
        let last = self.levels.last().map(|level| &level.state);
        Ok(parent == self.current && matches!(last, Some(State::Quiet(_))))
    }

    /// Whether owner, group and permissions of something from before are those of a new one.
    pub(crate) fn has_look(
        &self,
        look: &Look,
        mode: u32,
        (uid, gid): (Option<u32>, Option<u32>),
    ) -> bool {
        self.born.is_some_and(|born| {
            let (uid, gid) = (uid.unwrap_or(born.0), gid.unwrap_or(born.1));
            *look == Look { uid, gid, mode }
        })
    }

    /// Takes a name; whether something from before has it.
    pub(super) fn takes(&mut self, path: &[u8]) -> bool {
        let in_quiet =
            !self.quiet.is_empty() && self.quiet.contains(&self.hasher.hash_one(split(path).0));
        in_quiet || self.remains.take(path)
    }

    /// Opens the quiet directories on the current path.
    pub(super) fn wake(&mut self) -> Result<(), Failure> {
        let is_quiet = |level: &Level| matches!(level.state, State::Quiet(_));
        let Some(first) = self.levels.iter().position(is_quiet) else { return Ok(()) };
        let path = self.current.clone();
        for level in self.levels.split_off(first) {
            self.current = path.get(..level.end).unwrap_or_default().to_vec();
            self.levels.push(level);
            self.open_last()?;
        }
        Ok(())
    }
}
