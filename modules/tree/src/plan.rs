//! Plans the update of a live directory: several threads compare both trees; nothing is changed.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use oxistrano_core::dir::Info;
use oxistrano_core::{Dir, Failure, interrupt};
use rustix::fs::FileType;

use crate::changes::Synced;
use crate::file::{Source, same_contents, special, vanished};
use crate::metadata::Rules;
use crate::pool::{Pool, Room};
use crate::sync_options::SyncOptions;
use crate::walk::{Budget, Place, names_in, same_device};

/// The kinds of steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Make a directory writable for us.
    Unlock,
    /// Make a new directory with its contents.
    NewDirectory,
    /// Make a new file or link.
    New,
    /// Replace a file or link.
    Update,
    /// Replace a directory by something else, or something else by a directory.
    Replace,
    /// Set owner and mode.
    Settle,
    /// Remove an entry that the source does not have.
    Delete,
    /// Set owner and mode of a directory, after all changes in it.
    SettleDirectory,
}

/// The whole plan.
pub struct Plan {
    /// Sorted.
    pub steps: Vec<(Step, PathBuf)>,
    pub synced: Synced,
}

impl Plan {
    pub fn make(from: &Dir, to: &Dir, options: &SyncOptions) -> Result<Self, Failure> {
        let room = Room::measure();
        let budget = Budget::new(room.kept);
        let planner = Planner {
            options,
            rules: Rules::new(options.owner, options.group),
            from_device: from.info()?.device(),
            to_device: to.info()?.device(),
            found: Mutex::default(),
            unchanged: AtomicU64::new(0),
        };
        if from.info()?.same_file(&to.info()?) {
            return Err(Failure::new("recursion", "cannot synchronise a directory with itself")
                .path(to.path()));
        }
        if options.root_metadata {
            planner.directory(&from.info()?, &to.info()?, PathBuf::new());
        }
        let root = Pair {
            from: Place::root(from, &budget)?,
            to: Place::root(to, &budget)?,
            rel: PathBuf::new(),
        };
        Pool::run(room.threads, vec![Job::Root(root)], |job, pool| planner.work(job, pool))?;
        let mut found = planner.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.steps.sort();
        found.synced.unchanged = planner.unchanged.into_inner();
        Ok(Self { steps: found.steps, synced: found.synced })
    }
}

/// A directory that exists on both sides.
struct Pair {
    from: Arc<Place>,
    to: Arc<Place>,
    rel: PathBuf,
}

/// A directory that exists on one side.
struct Side {
    parent: Arc<Place>,
    name: OsString,
    rel: PathBuf,
}

enum Job {
    Root(Pair),
    /// Compare the subdirectories of that name.
    Both(Arc<Pair>, OsString),
    /// Count the entries of a new directory.
    New(Side),
    /// Count the entries of a directory that will be removed.
    Old(Side),
    /// Find the entries to remove in a directory that the source does not have, but that must stay.
    Spare(Side),
}

#[derive(Default)]
struct Found {
    steps: Vec<(Step, PathBuf)>,
    synced: Synced,
}

struct Planner<'a> {
    options: &'a SyncOptions,
    rules: Rules,
    from_device: u64,
    to_device: u64,
    found: Mutex<Found>,
    unchanged: AtomicU64,
}

impl Planner<'_> {
    fn work(&self, job: Job, pool: &Pool<Job>) -> Result<(), Failure> {
        match job {
            Job::Root(pair) => self.compare(pair, (None, None), pool),
            Job::Both(parent, name) => {
                let from = parent.from.open()?.open_dir(&name)?;
                same_device(&from, self.from_device)?;
                let to = parent.to.open()?.open_dir(&name)?;
                same_device(&to, self.to_device)?;
                let rel = parent.rel.join(&name);
                let (from_place, from) = Place::below(&parent.from, &name, from);
                let (to_place, to) = Place::below(&parent.to, &name, to);
                let pair = Pair { from: from_place, to: to_place, rel };
                self.compare(pair, (from, to), pool)
            }
            Job::New(side) => self.new_below(side, pool),
            Job::Old(side) => self.old_below(side, false, pool),
            Job::Spare(side) => self.old_below(side, true, pool),
        }
    }

    fn compare(
        &self,
        pair: Pair,
        (from, to): (Option<Dir>, Option<Dir>),
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        let pair = Arc::new(pair);
        let (from, to) = (pair.from.with(from)?, pair.to.with(to)?);
        let protected = names_in(&self.options.protect, &pair.rel);
        let names = |dir: &Dir| -> Result<Vec<OsString>, Failure> {
            let mut names = dir.names()?;
            names.retain(|name| !protected.contains(&name.as_os_str()));
            Ok(names)
        };
        let ours = names(&from)?;
        for name in names(&to)? {
            interrupt::check()?;
            if ours.binary_search(&name).is_err() {
                let side = Side { parent: Arc::clone(&pair.to), rel: pair.rel.join(&name), name };
                self.extra(&to, side, pool)?;
            }
        }
        for name in ours {
            interrupt::check()?;
            let source = from.lookup(&name)?.ok_or_else(|| vanished(&from.at(&name)))?;
            self.one(&pair, (&from, &to), name, &source, pool)?;
        }
        Ok(())
    }

    /// One name that the source has.
    fn one(
        &self,
        pair: &Arc<Pair>,
        (from, to): (&Dir, &Dir),
        name: OsString,
        source: &Info,
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        check_kind(from, &name, source)?;
        let rel = pair.rel.join(&name);
        let new = |name| Job::New(Side { parent: Arc::clone(&pair.from), rel: rel.clone(), name });
        let Some(target) = to.lookup(&name)? else {
            self.add(|found| found.synced.created.add(rel.clone()));
            if source.is_dir() {
                pool.push(new(name));
                self.step(Step::NewDirectory, rel);
            } else {
                self.step(Step::New, rel);
            }
            return Ok(());
        };
        match (source.is_dir(), target.is_dir()) {
            (true, true) => {
                self.directory(source, &target, rel);
                pool.push(Job::Both(Arc::clone(pair), name));
            }
            (false, false) => match self.difference((from, to), &name, source, &target)? {
                None => {
                    self.unchanged.fetch_add(1, Ordering::Relaxed);
                }
                Some(step) => self.update(step, rel),
            },
            (true, false) => {
                pool.push(new(name));
                self.update(Step::Replace, rel);
            }
            (false, true) => {
                if self.is_above_protected(&rel) {
                    let path = to.at(&name);
                    return Err(Failure::new(
                        "protected",
                        format!("refusing to replace the directory '{}'", path.display()),
                    )
                    .cause(format!(
                        "it contains a protected path, and the source has {} there",
                        source.noun()
                    ))
                    .path(path));
                }
                let side = Side { parent: Arc::clone(&pair.to), rel: rel.clone(), name };
                pool.push(Job::Old(side));
                self.update(Step::Replace, rel);
            }
        }
        Ok(())
    }

    /// The steps for something that is not a directory on either side.
    fn difference(
        &self,
        (from, to): (&Dir, &Dir),
        name: &OsStr,
        source: &Info,
        target: &Info,
    ) -> Result<Option<Step>, Failure> {
        if source.kind() != target.kind() {
            return Ok(Some(Step::Update));
        }
        let wanted = self.rules.wanted(source.stat());
        if source.is_symlink() {
            // Compared as bytes, because a `Path` treats "a/." and "a" as equal.
            let leads_to =
                |dir: &Dir| dir.read_link(name).map(|it| it.map(PathBuf::into_os_string));
            if leads_to(from)? != leads_to(to)? {
                return Ok(Some(Step::Update));
            }
            return Ok((!wanted.fits_owner(target.stat())).then_some(Step::Settle));
        }
        if source.size() != target.size() {
            return Ok(Some(Step::Update));
        }
        if !source.same_file(target) && source.size() > 0 {
            let ours = Source::open(from, name)?;
            // If it cannot be read, it can still be replaced.
            let Ok(theirs) = Source::open(to, name) else {
                return Ok(Some(Step::Update));
            };
            if !same_contents(&ours, &theirs, &from.at(name))? {
                return Ok(Some(Step::Update));
            }
        }
        if wanted.fits(target.stat()) {
            return Ok(None);
        }
        // Other names of the same file must not be changed.
        let own = target.stat().st_nlink == 1 && Source::open(to, name).is_ok();
        Ok(Some(if own { Step::Settle } else { Step::Update }))
    }

    /// A directory that is on both sides: its own mode and owner.
    fn directory(&self, source: &Info, target: &Info, rel: PathBuf) {
        if self.rules.wanted(source.stat()).fits(target.stat()) {
            self.unchanged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if target.mode() & 0o300 != 0o300 {
            self.step(Step::Unlock, rel.clone());
        }
        self.update(Step::SettleDirectory, rel);
    }

    /// A name that the source does not have.
    fn extra(&self, dir: &Dir, side: Side, pool: &Pool<Job>) -> Result<(), Failure> {
        let Some(info) = dir.lookup(&side.name)? else { return Ok(()) };
        if info.is_dir() && self.is_above_protected(&side.rel) {
            pool.push(Job::Spare(side));
            return Ok(());
        }
        self.add(|found| found.synced.deleted.add(side.rel.clone()));
        self.step(Step::Delete, side.rel.clone());
        if info.is_dir() {
            pool.push(Job::Old(side));
        }
        Ok(())
    }

    fn new_below(&self, side: Side, pool: &Pool<Job>) -> Result<(), Failure> {
        let dir = side.parent.open()?.open_dir(&side.name)?;
        same_device(&dir, self.from_device)?;
        let (place, dir) = Place::below(&side.parent, &side.name, dir);
        let dir = place.with(dir)?;
        let protected = names_in(&self.options.protect, &side.rel);
        for name in dir.names()? {
            interrupt::check()?;
            if protected.contains(&name.as_os_str()) {
                continue;
            }
            let info = dir.lookup(&name)?.ok_or_else(|| vanished(&dir.at(&name)))?;
            check_kind(&dir, &name, &info)?;
            let rel = side.rel.join(&name);
            self.add(|found| found.synced.created.add(rel.clone()));
            if info.is_dir() {
                pool.push(Job::New(Side { parent: Arc::clone(&place), name, rel }));
            }
        }
        Ok(())
    }

    fn old_below(&self, side: Side, spare: bool, pool: &Pool<Job>) -> Result<(), Failure> {
        let parent = side.parent.open()?;
        let dir = match parent.open_dir(&side.name) {
            Ok(dir) => dir,
            // The live application may have removed it.
            Err(_) if parent.lookup(&side.name)?.is_none() => return Ok(()),
            Err(failure) => return Err(failure),
        };
        same_device(&dir, self.to_device)?;
        let (place, dir) = Place::below(&side.parent, &side.name, dir);
        let dir = place.with(dir)?;
        let protected = names_in(&self.options.protect, &side.rel);
        for name in dir.names()? {
            interrupt::check()?;
            if protected.contains(&name.as_os_str()) {
                continue;
            }
            let next = Side { parent: Arc::clone(&place), rel: side.rel.join(&name), name };
            if spare {
                self.extra(&dir, next, pool)?;
                continue;
            }
            let Some(info) = dir.lookup(&next.name)? else { continue };
            self.add(|found| found.synced.deleted.add(next.rel.clone()));
            if info.is_dir() {
                pool.push(Job::Old(next));
            }
        }
        Ok(())
    }

    fn is_above_protected(&self, rel: &Path) -> bool {
        self.options
            .protect
            .iter()
            .any(|path| path.as_path().starts_with(rel) && path.as_path() != rel)
    }

    fn update(&self, step: Step, rel: PathBuf) {
        self.add(|found| found.synced.updated.add(rel.clone()));
        self.step(step, rel);
    }

    fn step(&self, step: Step, rel: PathBuf) {
        self.add(|found| found.steps.push((step, rel)));
    }

    fn add(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn check_kind(dir: &Dir, name: &OsStr, info: &Info) -> Result<(), Failure> {
    match info.kind() {
        FileType::RegularFile | FileType::Directory | FileType::Symlink => Ok(()),
        _ => Err(special(&dir.at(name), info.noun())),
    }
}
