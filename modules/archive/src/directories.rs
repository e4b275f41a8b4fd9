//! Owns the directories below the root: which of them are open, and when they get their
//! owner, permissions and time.
//!
//! An archive usually has a directory's entries together, so a directory is finished when
//! an entry comes that lies elsewhere, and nothing needs to be remembered of it. One that is
//! entered again afterwards is left with the time that it had. Only permissions without
//! which nobody could write into a directory again wait for the end.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{CString, OsStr};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxistrano_core::dir::noun;
use oxistrano_core::{Dir, Failure, IoContext};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::earlier::Earlier;
use crate::entry::Time;
use crate::failures;
use crate::identity::Ids;
use crate::pending::Pending;
use crate::place::{self, Finally, Owner, Place, give_back, kind};
use crate::remains::Remains;
use crate::spare::{Spare, Stock};

/// As much is kept, in bytes, of directories that get their permissions at the end.
const MOST_KEPT: usize = 12 << 20;
/// What one of them takes beside its name, about.
const KEPT: usize = 96;
/// As many directories are remembered that were left before all of theirs was written.
const MOST_LEFT: usize = 1 << 14;

/// Permissions, owner, group and time that a directory is to have; `None`: whatever it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) mode: u32,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mtime: Option<Time>,
}

/// Where things are written, and which directories are open on the way there.
pub(crate) struct Directories<'a> {
    root: Arc<Place>,
    /// For messages.
    root_path: &'a Path,
    archive: &'a Path,
    umask: u32,
    /// The set-group-id bit that directories inherit from the root.
    inherited: u32,
    /// Owner and group that things have when they are made; looked up once.
    pub(crate) born: Option<Ids>,
    /// From the top down, each in the one before it.
    levels: Vec<Level>,
    /// The path of the last of them.
    current: Vec<u8>,
    /// For directories that the archive does not mention.
    unmentioned: Wanted,
    /// How many of those were made.
    pub(crate) made_unmentioned: u64,
    /// How many places there have been.
    places: u64,
    /// Hashes of the paths of those that were left and may not be finished.
    left: HashSet<u64>,
    hasher: RandomState,
    /// Permissions that come at the end, by path, and what they take.
    kept: BTreeMap<Vec<u8>, u32>,
    kept_bytes: usize,
    stock: Arc<Stock>,
    /// What was there before.
    remains: Remains,
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
        })
    }

    /// Where something lies, for messages.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        self.root_path.join(path)
    }

    /// Owner and group of what was just made, if they must be changed.
    pub(crate) fn owner_of_new(
        &mut self,
        place: &Place,
        name: &OsStr,
        (uid, gid): (Option<u32>, Option<u32>),
    ) -> Result<Option<Owner>, Failure> {
        if uid.is_none() && gid.is_none() {
            return Ok(None);
        }
        let born = if place.peculiar { (u32::MAX, u32::MAX) } else { self.born_in(place, name)? };
        let uid = uid.filter(|wanted| *wanted != born.0).map(Uid::from_raw);
        let gid = gid.filter(|wanted| *wanted != born.1).map(Gid::from_raw);
        Ok((uid.is_some() || gid.is_some()).then_some((uid, gid)))
    }

    /// Owner and group that things have when they are made; the first of all shows it.
    pub(crate) fn born_in(&mut self, place: &Place, name: &OsStr) -> Result<Ids, Failure> {
        if let Some(born) = self.born {
            return Ok(born);
        }
        let stat = place.lookup(name).or_fail("examine", self.shown(&place.path().join(name)))?;
        let born = stat.map_or((u32::MAX, u32::MAX), |stat| (stat.st_uid, stat.st_gid));
        Ok(*self.born.insert(born))
    }

    /// The directory in which `path` lies; what is missing is made. A link on the way is
    /// refused, whoever made it.
    pub(crate) fn parent_of(
        &mut self,
        path: &Path,
        pending: &mut Pending<'_>,
    ) -> Result<Arc<Place>, Failure> {
        let entry = path.as_os_str().as_bytes();
        let parent = &entry[..entry.iter().rposition(|b| *b == b'/').unwrap_or(0)];
        if parent != self.current {
            let common = self.levels.iter().rposition(|level| {
                parent.get(..level.end) == self.current.get(..level.end)
                    && matches!(parent.get(level.end), None | Some(b'/'))
            });
            self.leave_to(common.map_or(0, |last| last + 1))?;
            let missing = parent.get(self.current.len()..).unwrap_or_default();
            for name in missing.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
                self.enter(OsStr::from_bytes(name), entry, pending)?;
            }
        }
        self.last()
    }

    /// Leaves directories until only so many are left on the way.
    fn leave_to(&mut self, depth: usize) -> Result<(), Failure> {
        while self.levels.len() > depth {
            let Some(level) = self.levels.pop() else { break };
            match level.state {
                State::Open(place) => {
                    if Arc::strong_count(&place) > 1 {
                        self.left.insert(self.hasher.hash_one(self.current.as_slice()));
                    }
                    give_back(place, self.root_path)?;
                }
                State::Unopened(finally) => self.finish_unopened(finally)?,
            }
            self.current.truncate(self.levels.last().map_or(0, |level| level.end));
        }
        Ok(())
    }

    /// The last directory, opened if it has not been.
    fn last(&mut self) -> Result<Arc<Place>, Failure> {
        match self.levels.pop() {
            None => Ok(Arc::clone(&self.root)),
            Some(Level { end, state: State::Open(place) }) => {
                let shared = Arc::clone(&place);
                self.levels.push(Level { end, state: State::Open(place) });
                Ok(shared)
            }
            Some(Level { end, state: State::Unopened(finally) }) => {
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
            Finally { mode: None, owner: None, mtime: None, adopted: false } => Ok(()),
            // Not by its name: the directory above may be another user's by now.
            _ => self.finish_by_name(above, name, finally),
        }
    }

    fn finish_by_name(&self, above: &Place, name: &OsStr, finally: Finally) -> Result<(), Failure> {
        above
            .open(name)
            .map_err(|error| ("open the directory", error))
            .and_then(|fd| place::finish(&fd, finally))
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

    /// A directory that was there before: its time will be what it is now.
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

    /// Notes what a directory gets that was just made; then it is the last.
    fn made(&mut self, above: &Place, name: &OsStr, wanted: Wanted) -> Result<(), Failure> {
        let owner = self.owner_of_new(above, name, (wanted.uid, wanted.gid))?;
        let mode = wanted.mode | self.inherited;
        let mode_known =
            !above.peculiar && created_with(wanted.mode) & !self.umask | self.inherited == mode;
        let mut finally = Finally { owner, mtime: wanted.mtime, ..Finally::default() };
        let path = above.path().join(name);
        if !self.keep(path.as_os_str().as_bytes(), wanted.mode)? && !mode_known {
            finally.mode = Some(mode);
        }
        self.push(name, State::Unopened(finally));
        Ok(())
    }

    /// Whether the permissions have to wait for the end: the last word on them counts.
    fn keep(&mut self, path: &[u8], mode: u32) -> Result<bool, Failure> {
        if mode & 0o700 == 0o700 {
            self.forget(Path::new(OsStr::from_bytes(path)));
            return Ok(false);
        }
        if self.kept.insert(path.to_vec(), mode | self.inherited).is_none() {
            self.kept_bytes += path.len() + KEPT;
        }
        if self.kept_bytes > MOST_KEPT {
            let why = "too many of its directories have permissions without u+rwx";
            return Err(failures::too_large(self.archive, path, why));
        }
        Ok(true)
    }

    /// Something else takes the place of a directory, perhaps.
    pub(crate) fn forget(&mut self, path: &Path) {
        let path = path.as_os_str().as_bytes();
        if !self.kept.is_empty() && self.kept.remove(path).is_some() {
            self.kept_bytes -= path.len() + KEPT;
        }
    }

    /// Makes the directory that an entry stands for, or gives its attributes to the one that
    /// is there.
    pub(crate) fn make(
        &mut self,
        path: &Path,
        wanted: Wanted,
        pending: &mut Pending<'_>,
    ) -> Result<(), Failure> {
        let bytes = path.as_os_str().as_bytes();
        let name = path.file_name().unwrap_or_default();
        if let Some(level) = self.level_of(bytes) {
            let finally = self.finally_of_old(bytes, wanted)?;
            match self.levels.get_mut(level).map(|level| &mut level.state) {
                Some(State::Open(place)) => place.set_finally(finally),
                Some(State::Unopened(unopened)) => *unopened = finally,
                None => {}
            }
            return Ok(());
        }
        loop {
            let above = self.parent_of(path, pending)?;
            if pending.has(&above, name) {
                pending.settle()?;
            }
            if self.remains.take(bytes) {
                return self.adopt(&above, name, wanted);
            }
            let mode = Mode::from_raw_mode(created_with(wanted.mode));
            match fs::mkdirat(&above, name, mode) {
                Ok(()) => return self.made(&above, name, wanted),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.failed("create the directory", &above, name, error)),
            }
            let there = above.lookup(name).or_fail("examine", self.shown(path))?;
            if there.is_some_and(|stat| kind(&stat) == FileType::Directory) {
                // It was left before, and something of it may be under way.
                pending.settle()?;
                let finally = self.finally_of_old(bytes, wanted)?;
                return self.finish_by_name(&above, name, finally);
            }
            self.clear(path, pending)?;
        }
    }

    /// The level of a directory that is on the way to the current one.
    fn level_of(&self, path: &[u8]) -> Option<usize> {
        let level = self.levels.iter().position(|level| level.end == path.len())?;
        (self.current.get(..path.len()) == Some(path)).then_some(level)
    }

    /// What a directory gets whose attributes are not known.
    fn finally_of_old(&mut self, path: &[u8], wanted: Wanted) -> Result<Finally, Failure> {
        let Wanted { mode, uid, gid, mtime } = wanted;
        let mode = (!self.keep(path, mode)?).then_some(mode | self.inherited);
        let owner = (uid.is_some() || gid.is_some())
            .then_some((uid.map(Uid::from_raw), gid.map(Gid::from_raw)));
        Ok(Finally { mode, owner, mtime, adopted: false })
    }

    /// Lets what stands under a name from before be the directory that is wanted there, or makes one
    /// in its place; then it is the last.
    fn adopt(&mut self, above: &Place, name: &OsStr, wanted: Wanted) -> Result<(), Failure> {
        let path = above.path().join(name);
        let failed =
            |error| Failure::io("bring to the new release", &self.root_path.join(&path), error);
        let stock = Arc::clone(&self.stock);
        let spare = stock.spare.as_ref().ok_or_else(|| failed(Errno::STALE))?;
        let born = self.born.filter(|_| !above.peculiar);
        let there = match above.open(name) {
            Ok(fd) => spare.directory(&fd)?.map(|stat| (fd, stat)),
            Err(_) => None,
        };
        let (Some((fd, stat)), Some(born)) = (there, born) else {
            self.clear_before(spare, above, name)?;
            fs::mkdirat(above, name, Mode::from_raw_mode(created_with(wanted.mode)))
                .map_err(|error| self.failed("create the directory", above, name, error))?;
            return self.made(above, name, wanted);
        };
        // First, so that nobody can exchange what is in it any more who could not then.
        let ids = (wanted.uid.unwrap_or(born.0), wanted.gid.unwrap_or(born.1));
        if ids != (stat.st_uid, stat.st_gid) {
            fs::fchown(&fd, Some(Uid::from_raw(ids.0)), Some(Gid::from_raw(ids.1)))
                .map_err(failed)?;
        }
        let last = wanted.mode | self.inherited;
        let waits = self.keep(path.as_os_str().as_bytes(), wanted.mode)?;
        let now = match waits || last & 0o2000 != self.inherited {
            true => created_with(wanted.mode) | self.inherited,
            false => last,
        };
        if stat.st_mode & 0o7777 != now {
            fs::fchmod(&fd, Mode::from_raw_mode(now)).map_err(failed)?;
        }
        self.remains.enter(path.as_os_str().as_bytes(), &fd).map_err(failed)?;
        self.places += 1;
        let place = Place::new(fd, self.places, path, false, None);
        let mode = (!waits && last != now).then_some(last);
        place.set_finally(Finally { mode, owner: None, mtime: wanted.mtime, adopted: true });
        self.push(name, State::Open(Arc::new(place)));
        Ok(())
    }

    /// Takes away what stands under a name from before.
    fn clear_before(&self, spare: &Spare, place: &Place, name: &OsStr) -> Result<(), Failure> {
        CString::new(name.as_bytes())
            .map_err(|_| ("replace", Errno::INVAL))
            .and_then(|text| spare.clear(place, &text))
            .map_err(|(verb, error)| self.failed(verb, place, name, error))
    }

    /// Takes the name of something that is no directory; whether something has it from before. A
    /// directory that the archive has made of one of before has nothing in it any more but what
    /// entries have put there.
    pub(crate) fn take(&mut self, path: &Path) -> Result<bool, Failure> {
        let bytes = path.as_os_str().as_bytes();
        if self.remains.leave(bytes) {
            self.remove_remains(bytes)?;
        }
        Ok(self.remains.take(bytes))
    }

    /// Whether something is only there from before.
    pub(crate) fn is_of_before(&self, path: &Path) -> bool {
        self.remains.has(path.as_os_str().as_bytes())
    }

    /// Removes what no entry has taken in a directory.
    fn remove_remains(&mut self, path: &[u8]) -> Result<(), Failure> {
        let stock = Arc::clone(&self.stock);
        let Some(spare) = stock.spare.as_ref() else { return Ok(()) };
        // As the place of something in it.
        let within = Path::new(OsStr::from_bytes(path)).join("x");
        let Some(place) = self.existing_parent_of(&within)? else { return Ok(()) };
        let shown = self.shown(place.path());
        let fd = place.open(OsStr::new(".")).or_fail("open the directory", &shown)?;
        let stat = fs::fstat(&fd).or_fail("examine", &shown)?;
        for name in self.remains.of(path, &fd).or_fail("read the directory", &shown)? {
            oxistrano_core::interrupt::check()?;
            self.clear_before(spare, &place, OsStr::from_bytes(&name))?;
        }
        let mtime = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
        fs::futimens(&fd, &place::times(mtime)).or_fail("set the time of", &shown)
    }

    /// Removes what stands where a later entry of the same name belongs: a file, a link,
    /// or a directory without anything in it.
    pub(crate) fn clear(&mut self, path: &Path, pending: &mut Pending<'_>) -> Result<(), Failure> {
        let place = self.parent_of(path, pending)?;
        // Whether a directory is empty shows when all is written.
        pending.settle()?;
        remove(&place, path, self.root_path, self.archive)?;
        self.forget(path);
        Ok(())
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

    /// Why `name`, which is there, cannot be entered.
    fn in_the_way(&self, above: &Place, name: &OsStr, entry: &[u8]) -> Option<Failure> {
        let stat = above.lookup(name).ok().flatten()?;
        let shown = failures::show(name.as_bytes());
        match kind(&stat) {
            FileType::Directory => None,
            FileType::Symlink => {
                let why = format!("the archive made {shown}, above it, a symbolic link");
                Some(failures::unsafe_entry(self.archive, entry, why))
            }
            _ => {
                let why = format!("{shown}, above it, is {}", noun(kind(&stat)));
                Some(failures::bad(self.archive, entry, why))
            }
        }
    }

    fn failed(&self, verb: &str, above: &Place, name: &OsStr, error: Errno) -> Failure {
        Failure::io(verb, &self.shown(&above.path().join(name)), error)
    }

    /// Leaves all of them, and sets the permissions that had to wait: those below before
    /// those above, which may be closed to us afterwards.
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

/// Removes a file, a link or an empty directory.
pub(crate) fn remove(
    place: &Place,
    path: &Path,
    root_path: &Path,
    archive: &Path,
) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default();
    match fs::unlinkat(place, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says the one, POSIX the other.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(Failure::io("replace", &root_path.join(path), error)),
    }
    match fs::unlinkat(place, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            let why = "the archive made it a directory before, with entries in it";
            Err(failures::bad(archive, path.as_os_str().as_bytes(), why))
        }
        Err(error) => Err(Failure::io("replace", &root_path.join(path), error)),
    }
}

/// Until the end we must be able to write into it; and no bits beyond 0777.
fn created_with(mode: u32) -> u32 {
    mode & 0o777 | 0o700
}
