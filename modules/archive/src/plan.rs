//! Decides where each file of a manifest gets its contents from: the file of the spare under the same
//! path, any file of another release, or what was sent.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oxistrano_core::{Dir, Failure, RelPath, interrupt};
use rustix::fs::{self, AtFlags, FileType, Stat};
use sha2::{Digest, Sha256};

use crate::earlier;
use crate::index::Index;
use crate::known::{Known, Look, Quiet};
use crate::look;
use crate::manifest::{CUT, Manifest, Wrong};
use crate::numbers::Numbers;
use crate::options::UnpackOptions;
use crate::paths::{Paths, clean, stripped};
use crate::place::kind;
use crate::rows::{Rows, beginning};
use crate::twins::Twins;

/// Where a file's contents come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The file is empty.
    Empty,
    /// The contents were sent.
    Sent,
    /// The file is left out.
    Dropped,
    /// The file at the same path of the tree that is changed, by its number there.
    Here {
        file: u32,
        /// Whether it is as the index says. Else its contents were read.
        known: bool,
        /// Its look, 1 more, or 0.
        look: u16,
    },
    /// The file at this path of another tree, by its number in [`Plan::tops`]. `None`: at its own path there.
    Elsewhere(u16, Option<Box<Path>>),
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
#[derive(Debug, Default)]
pub struct Plan {
    /// By the number of the file.
    pub(crate) sources: Vec<Source>,
    /// By the number of the directory: 1 more than the number of its twin in the spare, and its look, 1
    /// more; 0 if it has to be examined.
    quiet: Vec<(u32, u16)>,
    looks: Vec<Look>,
    /// The index of the spare.
    spare: Option<Index>,
    /// The top directories of the other trees.
    pub(crate) tops: Vec<Dir>,
    /// The entries whose contents were not found.
    pub missing: Numbers,
    /// The entries whose contents were sent, although an index says that a tree had them.
    pub(crate) lost: Numbers,
}

/// Of how many files of a manifest another one has the contents, and of how many not.
pub fn in_common(manifest: &Manifest, other: &Manifest) -> (u64, u64) {
    let there = other.hashes().zip(0..).map(|(hash, n)| (beginning(hash, CUT), n));
    let there = Rows::new(there.collect());
    let is_there = |hash: &&[u8]| !there.get(beginning(hash, CUT)).is_empty();
    let same = manifest.hashes().filter(is_there).count() as u64;
    (same, u64::from(manifest.files()) - same)
}

impl Plan {
    /// Looks for contents in `spare`, which will be changed, then in the trees of `others`, one after
    /// the other, until all contents are found. `sent`: the entries whose contents were sent.
    ///
    /// # Errors
    /// `bad_manifest`, `interrupted`.
    pub fn make(
        manifest: &Manifest,
        sent: &Numbers,
        options: &UnpackOptions,
        spare: Option<Indexed>,
        others: &mut dyn Iterator<Item = Indexed>,
    ) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let paths = Paths::new();
        let mut wanted = plan.first(manifest, &paths, sent, options, spare).map_err(wrong)?;
        interrupt::check()?;
        // Contents that are nowhere cost a search of every tree.
        while wanted.left > 0
            && let Some(other) = others.next()
        {
            interrupt::check()?;
            plan.look_into(other, &paths, &mut wanted).map_err(wrong)?;
        }
        // In the order of their entries, as `Numbers` needs them.
        let of = |state| wanted.all.iter().filter(move |want| want.state == state);
        plan.missing = of(State::Wanted).map(|want| want.entry).collect();
        plan.lost = of(State::Lost).map(|want| want.entry).collect();
        Ok(plan)
    }

    /// Sets the sources of all contents that were sent or that the spare has. Returns the rest.
    fn first<'m>(
        &mut self,
        manifest: &'m Manifest,
        paths: &Paths,
        sent: &Numbers,
        options: &UnpackOptions,
        spare: Option<Indexed>,
    ) -> Result<Wanted<'m>, Wrong> {
        let strip = options.strip_components;
        let is_dropped = |name: &[u8]| {
            options.exclude.iter().any(|pattern| pattern.matches(name))
                || clean(name, strip).is_none()
        };
        let (mut twins, mut found) = <(Twins, look::Findings)>::default();
        if let Some(Indexed { top, index }) = &spare {
            twins = Twins::new(manifest, strip, &is_dropped, index)?;
            found = look::examine(manifest, strip, index, top, &twins)?;
        }
        self.sources.reserve_exact(manifest.files() as usize);
        let mut wanted = Vec::new();
        let mut sent = sent.iter().peekable();
        let mut cursor = manifest.cursor();
        let mut directories = Vec::with_capacity(manifest.directories() as usize);
        while let Some(row) = manifest.step(&mut cursor)? {
            let entry = cursor.record - 1;
            if row.is_directory() {
                let twin = twins.of(entry).map_or(0, |twin| twin + 1);
                directories.push((twin, found.look(entry)));
            }
            if !row.is_file() {
                continue;
            }
            let file = cursor.file - 1;
            while sent.next_if(|number| *number < entry).is_some() {}
            let is_sent = sent.next_if_eq(&entry).is_some();
            let twin = twins.of(entry).filter(|_| found.is_there(entry));
            let source = match twin {
                _ if is_sent => Source::Sent,
                Some(file) => {
                    let (known, look) = (found.is_known(entry), found.look(entry));
                    Source::Here { file, known, look }
                }
                None if row.size == 0 => Source::Empty,
                // Its hash is known only if it is not cut.
                None if !manifest.is_cut() && is_dropped(&cursor.name) => Source::Dropped,
                None => Source::Missing,
            };
            let is_quiet = matches!(source, Source::Here { look: 1.., .. });
            if !is_quiet {
                twins.spoil_parent_of(file);
            }
            let state = match source {
                Source::Sent if row.size > 0 && twin.is_none() => Some(State::Sent),
                Source::Missing => Some(State::Wanted),
                _ => None,
            };
            if let Some(state) = state {
                // The spare had it at the same path.
                let had = spare.as_ref().zip(twins.of(entry)).is_some_and(|(spare, twin)| {
                    spare.index.manifest.hash(twin).starts_with(manifest.hash(file))
                });
                let state = if had && state == State::Sent { State::Lost } else { state };
                let path = clean(&cursor.name, strip).map_or(0, |path| paths.hash(&path));
                wanted.push(Want { entry, file, size: row.size, path, state });
            }
            self.sources.push(source);
        }
        for (number, quiet) in directories.iter_mut().enumerate() {
            if !twins.is_alike(number as u32) {
                quiet.1 = 0;
            }
        }
        self.quiet = directories;
        self.looks = found.into_looks();
        self.spare = spare.map(|spare| spare.index);
        Ok(Wanted::new(manifest, wanted))
    }

    fn look_into(
        &mut self,
        other: Indexed,
        paths: &Paths,
        wanted: &mut Wanted<'_>,
    ) -> Result<(), Wrong> {
        let Indexed { top, index } = other;
        let number = u16::try_from(self.tops.len()).map_err(|_| "it has too many sources")?;
        let mut cursor = index.manifest.cursor();
        while let Some(row) = index.manifest.step(&mut cursor)? {
            if !row.is_file() {
                continue;
            }
            let hash = index.manifest.hash(cursor.file - 1);
            let wants = wanted.of(row.size, hash);
            if wants.is_empty() {
                continue;
            }
            let Some(path) = stripped(&cursor.name, index.strip_components) else { continue };
            let path = path.as_path();
            let is_there = find(&top, &index, cursor.file - 1, path, row.size, hash);
            let hashed = paths.hash(path.as_os_str().as_bytes());
            for want in wants {
                let Some(want) = wanted.all.get_mut(want) else { continue };
                match want.state {
                    State::Sent if !is_there => want.state = State::Lost,
                    State::Wanted if is_there => {
                        want.state = State::Found;
                        wanted.left -= 1;
                        if let Some(source) = self.sources.get_mut(want.file as usize) {
                            // Two paths with the same hash: what is read has another hash then.
                            let other = (want.path != hashed).then(|| path.into());
                            *source = Source::Elsewhere(number, other);
                        }
                    }
                    _ => {}
                }
            }
        }
        self.tops.push(top);
        Ok(())
    }

    /// What is known of the file that the spare has in the place of this one.
    pub(crate) fn known(&self, file: u32) -> Option<Known> {
        let Some(Source::Here { file, known: true, look }) = self.sources.get(file as usize) else {
            return None;
        };
        let spare = self.spare.as_ref()?;
        let hash = spare.manifest.hash(*file).try_into().ok()?;
        Some(Known { hash, mark: spare.mark(*file)?, look: self.look(*look) })
    }

    /// What is known of the spare's directory, if nothing in it has to be changed.
    pub(crate) fn quiet(&self, directory: u32) -> Option<Quiet> {
        let (twin, look) = *self.quiet.get(directory as usize)?;
        let mark = self.spare.as_ref()?.mark_of_directory(twin.checked_sub(1)?)?;
        Some(Quiet { mark, look: self.look(look)? })
    }

    fn look(&self, number: u16) -> Option<Look> {
        self.looks.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// Contents that have to be found.
struct Wanted<'m> {
    manifest: &'m Manifest,
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
    /// The hash of its path.
    path: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has to be found.
    Wanted,
    Found,
    /// It was sent.
    Sent,
    /// The same, and an index says that a tree had it.
    Lost,
}

impl<'m> Wanted<'m> {
    fn new(manifest: &'m Manifest, all: Vec<Want>) -> Self {
        let hashed = |want: &Want| beginning(manifest.hash(want.file), CUT);
        let rows = all.iter().zip(0..).map(|(want, n)| (hashed(want), n));
        let left = all.iter().filter(|want| want.state == State::Wanted).count();
        Self { manifest, rows: Rows::new(rows.collect()), left, all }
    }

    /// The numbers of those whose contents this file has.
    fn of(&self, size: u64, hash: &[u8]) -> Vec<usize> {
        let rows = self.rows.get(beginning(hash, CUT)).iter();
        let fits = |number: &usize| {
            self.all.get(*number).is_some_and(|want| {
                let is_open = matches!(want.state, State::Wanted | State::Sent);
                is_open && want.size == size && hash.starts_with(self.manifest.hash(want.file))
            })
        };
        rows.map(|(_, number)| *number as usize).filter(fits).collect()
    }
}

fn wrong(why: Wrong) -> Failure {
    Failure::new("bad_manifest", "cannot use the manifest of the archive").cause(why)
}

fn find(top: &Dir, index: &Index, file: u32, path: &Path, size: u64, hash: &[u8]) -> bool {
    // Links in the path may lead anywhere. That is safe: the mark or the contents of the file decide.
    let Ok(stat) = fs::statat(top, path, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    if index.holds(file, &stat) {
        return true;
    }
    let may_be = kind(&stat) == FileType::RegularFile && stat.st_size as u64 == size;
    may_be && reads(top, path, &stat, hash) == Some(true)
}

/// Whether a changed file still has these contents. Perhaps only its owner or its time was changed.
fn reads(top: &Dir, path: &Path, stat: &Stat, hash: &[u8]) -> Option<bool> {
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
