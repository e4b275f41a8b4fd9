//! Decides where each file of a manifest gets its contents from: the file of the spare under the same
//! path, any file of another release, or what was sent.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oxistrano_core::{Dir, Failure, RelPath, interrupt};
use rustix::fs::{self, AtFlags, FileType, Stat};
use sha2::{Digest, Sha256};

use crate::earlier;
use crate::index::Index;
use crate::manifest::{CUT, Hash, Manifest, Record, Wrong};
use crate::notes::Mark;
use crate::numbers::Numbers;
use crate::place::kind;
use crate::rows::{Rows, beginning};
use crate::select::stripped;

/// What the index says of a file of the spare that has the contents already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) hash: Hash,
    pub(crate) mark: Mark,
}

/// Where a file's contents come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The file is empty.
    Empty,
    /// The contents were sent.
    Sent,
    /// The file at this path of the tree that is changed.
    Here(PathBuf, Option<Known>),
    /// The file at this path of another tree, by its number in [`Plan::tops`].
    Elsewhere(usize, PathBuf),
    /// No source was found.
    Missing,
}

/// A tree that has an index.
#[derive(Debug)]
pub struct Indexed {
    /// Its top directory.
    pub top: Dir,
    /// The index of what was unpacked into it.
    pub index: Index,
}

/// Where the contents of all files of a manifest come from.
#[derive(Debug)]
pub struct Plan {
    /// By the number of the file.
    pub(crate) sources: Vec<Source>,
    /// The top directories of the other trees.
    pub(crate) tops: Vec<Dir>,
    /// The entries whose contents were not found.
    pub missing: Numbers,
}

impl Plan {
    /// Looks for contents in `spare`, which will be changed, then in the trees of `others`, one after
    /// the other, until all contents are found. `sent`: the entries whose contents were sent.
    ///
    /// # Errors
    /// `bad_manifest`.
    pub fn make(
        manifest: &Manifest,
        sent: &Numbers,
        strip_components: u32,
        spare: Option<Indexed>,
        others: &mut dyn Iterator<Item = Indexed>,
    ) -> Result<Self, Failure> {
        let mut plan = Self { sources: Vec::new(), tops: Vec::new(), missing: Numbers::default() };
        let mut wanted = plan.first(manifest, sent, strip_components, spare).map_err(wrong)?;
        // Contents that are nowhere cost a search of every tree.
        while wanted.left > 0
            && let Some(other) = others.next()
        {
            interrupt::check()?;
            plan.look_into(other, &mut wanted).map_err(wrong)?;
        }
        // In the order of their entries, as `Numbers` needs them.
        let missing = wanted.all.iter().filter(|want| !want.found).map(|want| want.entry);
        plan.missing = missing.collect();
        Ok(plan)
    }

    /// Sets the sources of all contents that were sent or that the spare has. Returns the rest.
    fn first(
        &mut self,
        manifest: &Manifest,
        sent: &Numbers,
        strip_components: u32,
        spare: Option<Indexed>,
    ) -> Result<Wanted, Wrong> {
        let table = spare.as_ref().map(|spare| Table::of(&spare.index)).transpose()?;
        let spare = spare.as_ref().zip(table.as_ref());
        let mut wanted = Vec::new();
        let mut ways = Ways::default();
        let mut sent = sent.iter().peekable();
        let mut cursor = manifest.cursor();
        while let Some(record) = manifest.next(&mut cursor)? {
            if !record.is_file() {
                continue;
            }
            let (entry, file) = (cursor.record - 1, cursor.file - 1);
            while sent.next_if(|number| *number < entry).is_some() {}
            if sent.next_if_eq(&entry).is_some() {
                self.sources.push(Source::Sent);
                continue;
            }
            let hash = manifest.hash(file);
            let here = spare.and_then(|(spare, table)| {
                let path = stripped(&record.entry.name, strip_components)?;
                let is_its_own = ways.lead_through_no_link(&spare.top, path.as_path());
                is_its_own.then(|| spare_has(spare, table, path.as_path(), &record, hash))?
            });
            self.sources.push(match here {
                Some(source) => source,
                None if record.size == 0 => Source::Empty,
                None => {
                    let (size, hash, found) = (record.size, hash.to_vec(), false);
                    wanted.push(Want { entry, file, size, hash, found });
                    Source::Missing
                }
            });
        }
        Ok(Wanted::new(wanted))
    }

    fn look_into(&mut self, other: Indexed, wanted: &mut Wanted) -> Result<(), Wrong> {
        let Indexed { top, index } = other;
        let number = self.tops.len();
        let mut cursor = index.manifest.cursor();
        while let Some(record) = index.manifest.next(&mut cursor)? {
            let wants = wanted.of(&record);
            if wants.is_empty() {
                continue;
            }
            let Some(path) = stripped(&record.entry.name, index.strip_components) else { continue };
            let path = path.as_path();
            if find(&top, &index, cursor.file - 1, path, &record, &record.hash).is_none() {
                continue;
            }
            for want in wants {
                let Some(want) = wanted.all.get_mut(want) else { continue };
                want.found = true;
                wanted.left -= 1;
                if let Some(source) = self.sources.get_mut(want.file as usize) {
                    *source = Source::Elsewhere(number, path.to_owned());
                }
            }
        }
        self.tops.push(top);
        Ok(())
    }
}

/// Contents that have to be found.
struct Wanted {
    all: Vec<Want>,
    /// By the first bytes of their hash.
    rows: Rows,
    /// How many are not found yet.
    left: usize,
}

struct Want {
    entry: u32,
    file: u32,
    size: u64,
    hash: Vec<u8>,
    found: bool,
}

impl Wanted {
    fn new(all: Vec<Want>) -> Self {
        let rows = all.iter().zip(0..).map(|(want, n)| (beginning(&want.hash, CUT), n));
        Self { rows: Rows::new(rows.collect()), left: all.len(), all }
    }

    /// The numbers of those whose contents this file has.
    fn of(&self, record: &Record) -> Vec<usize> {
        if !record.is_file() {
            return Vec::new();
        }
        let rows = self.rows.get(beginning(&record.hash, CUT)).iter();
        let fits = |number: &usize| {
            self.all.get(*number).is_some_and(|want| {
                !want.found && want.size == record.size && record.hash.starts_with(&want.hash)
            })
        };
        rows.map(|(_, number)| *number as usize).filter(fits).collect()
    }
}

fn wrong(why: Wrong) -> Failure {
    Failure::new("bad_manifest", "cannot use the manifest of the archive").cause(why)
}

fn spare_has(
    spare: &Indexed,
    table: &Table,
    path: &Path,
    record: &Record,
    hash: &[u8],
) -> Option<Source> {
    let (file, whole) = table.find(path, &spare.index)?;
    if !whole.starts_with(hash) {
        return None;
    }
    let found = find(&spare.top, &spare.index, file, path, record, &whole)?;
    match found {
        Found::Mark(mark) if mark.size == record.size => {
            Some(Source::Here(path.to_owned(), Some(Known { hash: whole, mark })))
        }
        Found::Mark(_) => None,
        Found::Read => Some(Source::Here(path.to_owned(), None)),
    }
}

/// Checks the directories of paths in the spare. A symbolic link among them (to a shared directory,
/// for example) is replaced by a directory before the files below it are read.
#[derive(Default)]
struct Ways {
    /// The directory that was checked last, and whether its path has no link.
    last: Option<(PathBuf, bool)>,
}

impl Ways {
    fn lead_through_no_link(&mut self, top: &Dir, path: &Path) -> bool {
        let parent = path.parent().unwrap_or(Path::new(""));
        match &self.last {
            Some((last, direct)) if last == parent => *direct,
            _ => {
                let mut ways = parent.ancestors().filter(|way| !way.as_os_str().is_empty());
                let direct = ways.all(|way| {
                    let stat = fs::statat(top, way, AtFlags::SYMLINK_NOFOLLOW);
                    stat.is_ok_and(|stat| kind(&stat) == FileType::Directory)
                });
                self.last = Some((parent.to_owned(), direct));
                direct
            }
        }
    }
}

/// How it was confirmed that a file has the contents of the index: by its mark, or by reading it.
enum Found {
    Mark(Mark),
    Read,
}

fn find(
    top: &Dir,
    index: &Index,
    file: u32,
    path: &Path,
    record: &Record,
    hash: &Hash,
) -> Option<Found> {
    // Links in the path may lead anywhere. That is safe: the mark or the contents of the file decide.
    let stat = fs::statat(top, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if index.holds(file, &stat) {
        return Some(Found::Mark(Mark::of(&stat)));
    }
    let may_be = kind(&stat) == FileType::RegularFile && stat.st_size as u64 == record.size;
    (may_be && reads(top, path, &stat, hash)?).then_some(Found::Read)
}

/// Whether a changed file still has these contents. Perhaps only its owner or its time was changed.
fn reads(top: &Dir, path: &Path, stat: &Stat, hash: &Hash) -> Option<bool> {
    let parent = match path.parent().map(RelPath::new) {
        Some(Ok(parent)) => top.open_below(&parent).ok()?,
        _ => top.duplicate().ok()?,
    };
    let file = earlier::open_regular(&parent, path.file_name()?)?;
    let mut sum = Sha256::new();
    let mut file = file.take(stat.st_size as u64);
    let mut window = vec![0; 64 << 10];
    loop {
        match file.read(&mut window).ok()? {
            0 => return Some(sum.finalize().as_slice() == hash),
            read => sum.update(window.get(..read).unwrap_or_default()),
        }
    }
}

/// The files of an index, by path.
struct Table {
    rows: Rows,
    hasher: RandomState,
}

impl Table {
    fn of(index: &Index) -> Result<Self, Wrong> {
        let hasher = RandomState::new();
        let mut rows = Vec::with_capacity(index.manifest.files() as usize);
        let mut cursor = index.manifest.cursor();
        while let Some(record) = index.manifest.next(&mut cursor)? {
            if record.is_file()
                && let Some(path) = stripped(&record.entry.name, index.strip_components)
            {
                rows.push((hasher.hash_one(bytes(path.as_path())), cursor.file - 1));
            }
        }
        Ok(Self { rows: Rows::new(rows), hasher })
    }

    /// The last file with this path, because it has replaced earlier ones. If another path has the
    /// same hash, it may be the wrong file; its mark and its contents are compared later.
    fn find(&self, path: &Path, index: &Index) -> Option<(u32, Hash)> {
        let (_, file) = self.rows.get(self.hasher.hash_one(bytes(path))).last()?;
        Some((*file, index.manifest.hash(*file).try_into().ok()?))
    }
}

fn bytes(path: &Path) -> &[u8] {
    OsStr::as_bytes(path.as_os_str())
}
