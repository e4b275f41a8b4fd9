//! Examines the files and directories of a spare before they are used: which of them are as their
//! index says. Nothing is changed. Several threads share the work, because these are most of the
//! system calls of a deploy.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use oxistrano_core::{Dir, interrupt};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};

use crate::earlier;
use crate::entry::Time;
use crate::index::Index;
use crate::known::Look;
use crate::manifest::{Cursor, Manifest, Wrong};
use crate::paths::{clean, split};
use crate::place::{has_time, kind};
use crate::twins::Twins;

/// More threads would only wait for the memory.
const MOST_THREADS: usize = 4;
/// Fewer entries than this are not worth a thread.
const FEW: u32 = 4096;
/// Bytes of a file that are read at a time.
const WINDOW: usize = 16 << 10;

const HELD: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What was found of an entry. The value is one of these, or [`FIRST`] more than a look's number.
type Found = u16;
/// Nothing is there that may be used.
const NOTHING: Found = 0;
/// A file that was changed, but has the same contents.
const READ: Found = 1;
/// It is as the index says, but has another time than the new one.
const OTHER_TIME: Found = 2;
const FIRST: Found = 3;

/// What was found, by the number of the new entry.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<Found>,
    looks: Vec<Look>,
}

impl Findings {
    fn of(&self, entry: u32) -> Found {
        self.found.get(entry as usize).copied().unwrap_or_default()
    }

    /// Whether the file of this entry has the contents of the index.
    pub(crate) fn is_there(&self, entry: u32) -> bool {
        self.of(entry) != NOTHING
    }

    /// Whether it is as the index says.
    pub(crate) fn is_known(&self, entry: u32) -> bool {
        self.of(entry) >= OTHER_TIME
    }

    /// The number of its look, 1 more: the entry is as the index says, and has its new time. Else 0.
    pub(crate) fn look(&self, entry: u32) -> u16 {
        (self.of(entry) + 1).saturating_sub(FIRST)
    }

    /// All looks.
    pub(crate) fn into_looks(self) -> Vec<Look> {
        self.looks
    }
}

/// What the threads share.
struct Common<'a> {
    manifest: &'a Manifest,
    strip_components: u32,
    spare: &'a Index,
    twins: &'a Twins,
    top: &'a Dir,
    device: u64,
    looks: Mutex<Vec<Look>>,
}

/// Examines all twins.
pub(crate) fn examine(
    manifest: &Manifest,
    strip_components: u32,
    spare: &Index,
    top: &Dir,
    twins: &Twins,
) -> Result<Findings, Wrong> {
    let Ok(info) = top.info() else { return Ok(Findings::default()) };
    let common = Common {
        manifest,
        strip_components,
        spare,
        twins,
        top,
        device: info.device(),
        looks: Mutex::default(),
    };
    let processors = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let threads = (manifest.entries() / FEW).clamp(1, processors as u32);
    let mut starts = Vec::new();
    let mut cursor = manifest.cursor();
    for thread in 0..threads {
        let from = u64::from(manifest.entries()) * u64::from(thread) / u64::from(threads);
        while u64::from(cursor.record) < from && manifest.step(&mut cursor)?.is_some() {}
        starts.push(cursor.clone());
    }
    let mut ends: Vec<u32> = starts.iter().skip(1).map(|cursor| cursor.record).collect();
    ends.push(manifest.entries());
    let parts = thread::scope(|scope| {
        let mut parts = starts.into_iter().zip(ends);
        let first = parts.next();
        let others: Vec<_> = parts
            .map(|(from, to)| {
                let common = &common;
                (from.clone(), to, scope.spawn(move || part(common, from, to)))
            })
            .collect();
        let mut all = Vec::new();
        all.extend(first.map(|(from, to)| part(&common, from, to)));
        all.extend(others.into_iter().map(|(from, to, thread)| {
            // A thread that has panicked is done again here, and says why.
            thread.join().unwrap_or_else(|_| part(&common, from, to))
        }));
        all.into_iter().collect::<Result<Vec<_>, Wrong>>()
    })?;
    let looks = common.looks.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Findings { found: parts.concat(), looks })
}

fn part(common: &Common<'_>, mut cursor: Cursor, to: u32) -> Result<Vec<Found>, Wrong> {
    let mut way = Way::default();
    // The looks of the previous file and directory.
    let (mut last, mut last_directory) = (None, None);
    let length = to.saturating_sub(cursor.record) as usize;
    let mut found = Vec::with_capacity(length);
    while cursor.record < to {
        let Some(row) = common.manifest.step(&mut cursor)? else { break };
        let twin = common.twins.of(cursor.record - 1);
        let path = twin.and_then(|_| clean(&cursor.name, common.strip_components));
        let Some((twin, path)) = twin.zip(path) else {
            found.push(NOTHING);
            continue;
        };
        if cursor.record.is_multiple_of(1024) && interrupt::check().is_err() {
            // The next check of the caller says it.
            break;
        }
        found.push(match row.is_directory() {
            true => common.directory(&mut way, &path, twin, row.mtime, &mut last_directory),
            false => {
                let hash = common.manifest.hash(cursor.file - 1);
                common.file(&mut way, &path, twin, (row.size, hash, row.mtime), &mut last)
            }
        });
    }
    found.resize(length, NOTHING);
    Ok(found)
}

impl Common<'_> {
    fn directory(
        &self,
        way: &mut Way,
        path: &[u8],
        twin: u32,
        mtime: Option<Time>,
        last: &mut Option<(Look, Found)>,
    ) -> Found {
        let Some(fd) = way.to(self.top, path) else { return NOTHING };
        match fs::fstat(fd) {
            Ok(stat) if self.spare.holds_directory(twin, &stat) => self.seen(&stat, mtime, last),
            _ => NOTHING,
        }
    }

    fn file(
        &self,
        way: &mut Way,
        path: &[u8],
        twin: u32,
        (size, hash, mtime): (u64, &[u8], Option<Time>),
        last: &mut Option<(Look, Found)>,
    ) -> Found {
        let whole = self.spare.manifest.hash(twin);
        if !whole.starts_with(hash) {
            return NOTHING;
        }
        let (parent, name) = split(path);
        let name = OsStr::from_bytes(name);
        // A symbolic link among the directories (to a shared directory, for example) is replaced by a
        // directory before the files below it are read.
        let Some(fd) = way.to(self.top, parent) else { return NOTHING };
        let Ok(stat) = fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) else { return NOTHING };
        if stat.st_size as u64 != size || kind(&stat) != FileType::RegularFile {
            return NOTHING;
        }
        if self.spare.holds(twin, &stat) {
            return match stat.st_nlink {
                1 => self.seen(&stat, mtime, last),
                _ => OTHER_TIME,
            };
        }
        // Perhaps only its owner or its time was changed.
        match reads(fd, name, size, whole) {
            true => READ,
            false => NOTHING,
        }
    }

    fn seen(&self, stat: &Stat, mtime: Option<Time>, last: &mut Option<(Look, Found)>) -> Found {
        if stat.st_dev != self.device || !mtime.is_some_and(|mtime| has_time(stat, mtime)) {
            return OTHER_TIME;
        }
        let look = Look { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 };
        if let Some((_, number)) = last.filter(|(last, _)| *last == look) {
            return number;
        }
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let number = looks.iter().position(|known| *known == look).unwrap_or(looks.len());
        let Ok(found) = Found::try_from(number + usize::from(FIRST)) else { return OTHER_TIME };
        if number == looks.len() {
            looks.push(look);
        }
        *last = Some((look, found));
        found
    }
}

/// The open directories on the way to the current one.
#[derive(Default)]
struct Way {
    /// Where the path of each ends in the current one, and its handle. `None` if it is no directory.
    levels: Vec<(usize, Option<OwnedFd>)>,
    current: Vec<u8>,
    top: Option<OwnedFd>,
}

impl Way {
    /// The handle of a directory; `None` if there is none, or a symbolic link leads to it.
    fn to(&mut self, top: &Dir, path: &[u8]) -> Option<&OwnedFd> {
        if self.top.is_none() {
            self.top = fs::openat(top, ".", HELD, Mode::empty()).ok();
        }
        if self.current != path {
            while let Some((end, _)) = self.levels.last() {
                let shared = path.get(..*end) == self.current.get(..*end);
                if shared && matches!(path.get(*end), None | Some(b'/')) {
                    break;
                }
                self.levels.pop();
            }
            let mut at = self.levels.last().map_or(0, |(end, _)| end + 1);
            while at < path.len() {
                let end =
                    path[at..].iter().position(|byte| *byte == b'/').map_or(path.len(), |n| at + n);
                let above = match self.levels.last() {
                    Some((_, above)) => above.as_ref(),
                    None => self.top.as_ref(),
                };
                let name = OsStr::from_bytes(&path[at..end]);
                let fd = above.and_then(|above| fs::openat(above, name, HELD, Mode::empty()).ok());
                self.levels.push((end, fd));
                at = end + 1;
            }
            self.current.clear();
            self.current.extend_from_slice(path);
        }
        match self.levels.last() {
            Some((_, fd)) => fd.as_ref(),
            None => self.top.as_ref(),
        }
    }
}

/// Whether a file has contents with this hash.
fn reads(above: &OwnedFd, name: &OsStr, size: u64, hash: &[u8]) -> bool {
    let Some(file) = earlier::open_regular_in(above, name) else { return false };
    let mut sum = Sha256::new();
    let mut window = [MaybeUninit::uninit(); WINDOW];
    let mut offset = 0;
    while offset < size {
        match rustix::io::pread(&file, &mut window, offset) {
            Ok((read, _)) if !read.is_empty() => {
                sum.update(&*read);
                offset += read.len() as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => return false,
        }
    }
    offset == size && sum.finalize().as_slice() == hash
}
