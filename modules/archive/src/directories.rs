//! The directories below the root: which of them are open, and when they get owner, permissions and time.
//!
//! An archive usually has a directory's entries together, so a directory is finished at the first
//! entry outside of it, and then forgotten. If it is entered again afterwards, its time is
//! restored. Only permissions that would prevent writing into it again are set at the end.

mod adopt;
mod make;
mod quiet;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxistrano_core::dir::noun;
use oxistrano_core::{Dir, Failure, IoContext};
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::earlier::Earlier;
use crate::entry::Time;
use crate::failures;
use crate::identity::Ids;
use crate::paths::split;
use crate::pending::Pending;
use crate::place::{self, Finally, Place, give_back, kind};
use crate::remains::Remains;
use crate::spare::Stock;

/// The number of directories that are remembered because files in them are not written yet.
const MOST_LEFT: usize = 1 << 14;

/// The wanted permissions, owner, group and time of a directory; `None` leaves one unchanged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) mode: u32,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mtime: Option<Time>,
    /// Its number among the directories of the archive, if it is to be noted.
    pub(crate) number: Option<u32>,
}

/// The target tree, and the open directories on the current path.
pub(crate) struct Directories<'a> {
    root: Arc<Place>,
    /// For messages.
    root_path: &'a Path,
    archive: &'a Path,
    umask: u32,
    /// The set-group-id bit that directories inherit from the root.
    inherited: u32,
    /// Owner and group of new files; looked up once.
    pub(crate) born: Option<Ids>,
    /// From the top down.
    levels: Vec<Level>,
    /// The path of the last of them.
    current: Vec<u8>,
    /// For directories that the archive does not mention.
    unmentioned: Wanted,
    /// How many of those were made.
    pub(crate) made_unmentioned: u64,
    /// How many places there have been.
    places: u64,
    /// Hashes of the paths of those that were left and may be unfinished.
    left: HashSet<u64>,
    hasher: RandomState,
    /// Permissions that are set at the end, by path, and their memory.
    kept: BTreeMap<Vec<u8>, u32>,
    kept_bytes: usize,
    stock: Arc<Stock>,
    /// What was there before.
    remains: Remains,
    /// Hashes of the paths of directories that have the right names from before.
    quiet: HashSet<u64>,
}

/// A directory on the way to the current one.
struct Level {
    /// Where its path ends in the current one.
    end: usize,
    state: State,
}

enum State {
    /// Nothing has been put into it yet.
    Unopened(Finally),
    /// Nothing has to be changed in it so far.
    Quiet(Finally),
    Open(Arc<Place>),
}

impl<'a> Directories<'a> {
    /// Begins with an open root; `umask` is that of this process.
    pub(crate) fn new(
        root: &'a Dir,
        archive: &'a Path,
        umask: u32,
        unmentioned: Wanted,
        stock: &Arc<Stock>,
    ) -> Result<Self, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = fs::openat(root, ".", flags, Mode::empty())
            .or_fail("open the directory", root.path())?;
        let earlier = stock.earlier.as_ref().and_then(Earlier::top);
        let mut remains = Remains::default();
        if stock.spare.is_some() {
            remains.enter(b"", &handle).or_fail("read the directory", root.path())?;
        }
        Ok(Self {
            root: Arc::new(Place::new(handle, 0, PathBuf::new(), false, earlier)),
            root_path: root.path(),
            archive,
            umask,
            inherited: root.info()?.mode() & 0o2000,
            born: None,
            levels: Vec::new(),
            current: Vec::new(),
            unmentioned,
            made_unmentioned: 0,
            places: 0,
            left: HashSet::new(),
            hasher: RandomState::new(),
            kept: BTreeMap::new(),
            kept_bytes: 0,
            stock: Arc::clone(stock),
            remains,
            quiet: HashSet::new(),
        })
    }

    /// Where something lies, for messages.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        self.root_path.join(path)
    }

    /// The directory of `path`; missing ones are created. A link in the path is always refused.
    pub(crate) fn parent_of(
        &mut self,
        path: &Path,
        pending: &mut Pending<'_>,
    ) -> Result<Arc<Place>, Failure> {
        let entry = path.as_os_str().as_bytes();
        let (parent, _) = split(entry);
        if parent != self.current {
            self.leave_for(parent)?;
            let missing = parent.get(self.current.len()..).unwrap_or_default();
            for name in missing.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
                self.enter(OsStr::from_bytes(name), entry, pending)?;
            }
        }
        self.last()
    }

    /// Leaves the directories that are not on the way to `parent`.
    fn leave_for(&mut self, parent: &[u8]) -> Result<(), Failure> {
        let common = self.levels.iter().rposition(|level| {
            parent.get(..level.end) == self.current.get(..level.end)
                && matches!(parent.get(level.end), None | Some(b'/'))
        });
        self.leave_to(common.map_or(0, |last| last + 1))
    }

    /// Leaves directories until the path has this depth.
    fn leave_to(&mut self, depth: usize) -> Result<(), Failure> {
        while self.levels.len() > depth {
            let Some(level) = self.levels.pop() else { break };
            match level.state {
                State::Open(place) => {
                    if Arc::strong_count(&place) > 1 {
                        self.left.insert(self.hasher.hash_one(self.current.as_slice()));
                    }
                    give_back(place, self.root_path, &self.stock.notes)?;
                }
                State::Quiet(_) => {}
                State::Unopened(finally) => self.finish_unopened(finally)?,
            }
            self.current.truncate(self.levels.last().map_or(0, |level| level.end));
        }
        Ok(())
    }

    /// The last directory, opened if necessary.
    fn last(&mut self) -> Result<Arc<Place>, Failure> {
        self.wake()?;
        self.open_last()
    }

    /// The same, if those above it are open.
    fn open_last(&mut self) -> Result<Arc<Place>, Failure> {
        match self.levels.pop() {
            None => Ok(Arc::clone(&self.root)),
            Some(Level { end, state: State::Open(place) }) => {
                let shared = Arc::clone(&place);
                self.levels.push(Level { end, state: State::Open(place) });
                Ok(shared)
            }
            Some(Level { end, state: State::Unopened(finally) | State::Quiet(finally) }) => {
                let (above, name) = self.taken_off();
                let fd = above
                    .open(name)
                    .map_err(|error| self.failed("open the directory", above, name, error))?;
                let earlier = above.earlier_below(name);
                let path = PathBuf::from(OsStr::from_bytes(&self.current));
                let number = self.places + 1;
                let place = Arc::new(Place::new(fd, number, path, above.peculiar, earlier));
                self.places = number;
                place.set_finally(finally);
                self.levels.push(Level { end, state: State::Open(Arc::clone(&place)) });
                Ok(place)
            }
        }
    }

    /// The directory of the level that was just taken off, and its name in it.
    fn taken_off(&self) -> (&Place, &OsStr) {
        let (place, start) = match self.levels.last() {
            Some(Level { end, state: State::Open(place) }) => (place, end + 1),
            // What something lies in has been opened.
            _ => (&self.root, 0),
        };
        (place, OsStr::from_bytes(self.current.get(start..).unwrap_or_default()))
    }

    fn finish_unopened(&self, finally: Finally) -> Result<(), Failure> {
        let (above, name) = self.taken_off();
        match finally {
            Finally { mode: None, owner: None, mtime: None, adopted: false, number: None } => {
                Ok(())
            }
            // Not by its name, because the parent may belong to another user by now.
            _ => self.finish_by_name(above, name, finally),
        }
    }

    fn finish_by_name(&self, above: &Place, name: &OsStr, finally: Finally) -> Result<(), Failure> {
        above
            .open(name)
            .map_err(|error| ("open the directory", error))
            .and_then(|fd| place::finish(&fd, finally, &self.stock.notes))
            .map_err(|(verb, error)| self.failed(verb, above, name, error))
    }

    fn push(&mut self, name: &OsStr, state: State) {
        if !self.current.is_empty() {
            self.current.push(b'/');
        }
        self.current.extend_from_slice(name.as_bytes());
        self.levels.push(Level { end: self.current.len(), state });
    }

    /// Opens `name` in the last directory, or makes it; then it is the last.
    fn enter(
        &mut self,
        name: &OsStr,
        entry: &[u8],
        pending: &mut Pending<'_>,
    ) -> Result<(), Failure> {
        let above = self.last()?;
        if pending.has(&above, name) {
            pending.settle()?;
        }
        // Not `takes`: in a directory that was quiet, each name is that of an entry, so this one has its
        // owner and permissions already, and what is in it is not from before.
        if self.remains.take(above.path().join(name).as_os_str().as_bytes()) {
            self.made_unmentioned += 1;
            return self.adopt(&above, name, self.unmentioned);
        }
        let mode = Mode::from_raw_mode(created_with(self.unmentioned.mode));
        match above.open(name) {
            Ok(fd) => self.enter_again(fd, &above, name, pending),
            Err(Errno::NOENT) => {
                fs::mkdirat(&above, name, mode)
                    .map_err(|error| self.failed("create the directory", &above, name, error))?;
                self.made_unmentioned += 1;
                self.made(&above, name, self.unmentioned)
            }
            Err(error) => Err(self
                .in_the_way(&above, name, entry)
                .unwrap_or_else(|| self.failed("open the directory", &above, name, error))),
        }
    }

    /// Enters a directory again; it will get its current time.
    fn enter_again(
        &mut self,
        fd: OwnedFd,
        above: &Place,
        name: &OsStr,
        pending: &mut Pending<'_>,
    ) -> Result<(), Failure> {
        let path = above.path().join(name);
        let hash = self.hasher.hash_one(path.as_os_str().as_bytes());
        if self.left.contains(&hash) || self.left.len() > MOST_LEFT {
            pending.settle()?;
            self.left.clear();
        }
        let stat = fs::fstat(&fd).or_fail("examine", self.shown(&path))?;
        let mtime = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
        let peculiar = above.peculiar || stat.st_mode & 0o2000 != self.inherited;
        let earlier = above.earlier_below(name);
        self.places += 1;
        let place = Place::new(fd, self.places, path, peculiar, earlier);
        place.set_finally(Finally { mtime: Some(mtime), ..Finally::default() });
        self.push(name, State::Open(Arc::new(place)));
        Ok(())
    }

    /// The level of a directory that is on the way to the current one.
    fn level_of(&self, path: &[u8]) -> Option<usize> {
        let level = self.levels.iter().position(|level| level.end == path.len())?;
        (self.current.get(..path.len()) == Some(path)).then_some(level)
    }

    /// Opens the directory in which `path` lies, apart from the others; makes nothing.
    pub(crate) fn existing_parent_of(&self, path: &Path) -> Result<Option<Place>, Failure> {
        let mut place = self.root.again().or_fail("open the directory", self.root_path)?;
        for name in path.parent().unwrap_or(Path::new("")) {
            let fd = match place.open(name) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => {
                    let entry = path.as_os_str().as_bytes();
                    return Err(self.in_the_way(&place, name, entry).unwrap_or_else(|| {
                        self.failed("open the directory", &place, name, error)
                    }));
                }
            };
            place = Place::new(fd, 0, place.path().join(name), false, None);
        }
        Ok(Some(place))
    }

    /// Why the existing `name` cannot be entered.
    fn in_the_way(&self, above: &Place, name: &OsStr, entry: &[u8]) -> Option<Failure> {
        let stat = above.lookup(name).ok().flatten()?;
        let shown = failures::show(name.as_bytes());
        match kind(&stat) {
            FileType::Directory => None,
            FileType::Symlink => {
                let why = format!("the archive has a symbolic link above it, {shown}");
                Some(failures::unsafe_entry(self.archive, entry, why))
            }
            _ => {
                let why = format!("a directory above it, {shown}, is {}", noun(kind(&stat)));
                Some(failures::bad(self.archive, entry, why))
            }
        }
    }

    fn failed(&self, verb: &str, above: &Place, name: &OsStr, error: Errno) -> Failure {
        Failure::io(verb, &self.shown(&above.path().join(name)), error)
    }

    /// Leaves all directories and sets the postponed permissions, from below, because a parent may become inaccessible.
    pub(crate) fn finish(&mut self, pending: &mut Pending<'_>) -> Result<(), Failure> {
        self.leave_to(0)?;
        pending.settle()?;
        for directory in self.remains.directories() {
            self.remove_remains(&directory)?;
        }
        for (path, mode) in std::mem::take(&mut self.kept).into_iter().rev() {
            oxistrano_core::interrupt::check()?;
            let path = Path::new(OsStr::from_bytes(&path));
            let Some(above) = self.existing_parent_of(path)? else { continue };
            let finally = Finally { mode: Some(mode), ..Finally::default() };
            self.finish_by_name(&above, path.file_name().unwrap_or_default(), finally)?;
        }
        Ok(())
    }
}

/// We must be able to write into it until the end; and no bits beyond 0777.
fn created_with(mode: u32) -> u32 {
    mode & 0o777 | 0o700
}
