//! The work of [`copy_tree`](crate::copy_tree) and [`copy_onto`](crate::copy_onto). Several threads
//! take jobs: directories, and batches of files of large directories.

mod entry;

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use oxistrano_core::dir::Info;
use oxistrano_core::{Dir, Failure, IoContext, interrupt};
use rustix::fs::{self, FileType};

use crate::attributes::{Attributes, passes_acl_on};
use crate::copied::{Copied, Counts};
use crate::copy_options::{CopyOptions, Method};
use crate::file::{Copier, special, vanished};
use crate::hardlinks::HardLinks;
use crate::listing::{Listing, Part};
use crate::metadata::Rules;
use crate::pool::{Pool, Room};
use crate::spare::{Before, Spare};
use crate::walk::{Budget, Place, mount_point, names_in};

/// The number of files of one directory in a job.
const BATCH: usize = 64;

/// Copies what is in `source` into the directory `to`, which is empty unless it was a spare.
pub fn run(
    source: &Dir,
    to: &Dir,
    options: &CopyOptions,
    spare: Option<Spare>,
) -> Result<Copied, Failure> {
    let room = Room::measure();
    let budget = Budget::new(room.kept);
    let mut rules = Rules::new(options.owner, options.group);
    rules.times = options.times;
    rules.attributes = options.attributes;
    rules.strip_acls = options.attributes && !options.inherit && passes_acl_on(to.as_fd());
    if options.inherit {
        rules.inherit_from(&to.info()?);
    }
    let info = source.info()?;
    let can_link = spare.as_ref().is_none_or(|spare| spare.is_on(info.device()));
    let task = Task {
        options,
        listing: options.only.as_deref().map(Listing::new),
        device: info.device(),
        target: to.info()?,
        root: to,
        copier: Copier::new(rules, options.method == Method::Reflink),
        can_link: AtomicBool::new(options.method == Method::Hardlink && can_link),
        hard_links: HardLinks::default(),
        counts: Counts::default(),
        spare,
    };
    let root = Arc::new(Node {
        parent: None,
        from: Place::root(source, &budget)?,
        to: Place::root(to, &budget)?,
        rel: PathBuf::new(),
        adopted: task.spare.is_some(),
        attributes: task.attributes(source),
        info,
        pending: AtomicUsize::new(1),
    });
    let part = task.listing.as_ref().map(Listing::all);
    Pool::run(room.threads, vec![Job::Fill(root, part)], |job, pool| task.work(job, pool))?;
    let (kept, kept_bytes) = task.spare.as_ref().map_or((0, 0), Spare::kept);
    Ok(Copied { kept, kept_bytes, ..task.counts.total() })
}

/// A directory being copied. After its last entry, it gets its metadata.
struct Node {
    parent: Option<Arc<Node>>,
    from: Arc<Place>,
    to: Arc<Place>,
    rel: PathBuf,
    /// Whether the target existed before.
    adopted: bool,
    info: Info,
    attributes: Attributes,
    /// The number of unfinished jobs and subdirectories.
    pending: AtomicUsize,
}

/// A name in the source.
struct Name {
    name: OsString,
    kind: FileType,
    /// Whether the target has it too, from before.
    taken: bool,
}

enum Job {
    /// Copy the contents of a directory that was made.
    Fill(Arc<Node>, Option<Part>),
    /// Make and fill the subdirectory of that name.
    Directory(Arc<Node>, Name, Option<Part>),
    /// Copy these files and links.
    Files(Arc<Node>, Vec<Name>),
}

struct Task<'a> {
    options: &'a CopyOptions,
    listing: Option<Listing<'a>>,
    device: u64,
    target: Info,
    root: &'a Dir,
    copier: Copier,
    can_link: AtomicBool,
    hard_links: HardLinks,
    counts: Counts,
    spare: Option<Spare>,
}

impl Task<'_> {
    fn work(&self, job: Job, pool: &Pool<Job>) -> Result<(), Failure> {
        match job {
            Job::Fill(node, part) => {
                self.fill(&node, (None, None), part, pool)?;
                self.done(&node)
            }
            Job::Directory(parent, name, part) => self.directory(&parent, name, part, pool),
            Job::Files(node, names) => {
                let (from, to) = (node.from.open()?, node.to.open()?);
                self.files(&node, (&from, &to), &names, pool)?;
                self.done(&node)
            }
        }
    }

    fn directory(
        &self,
        parent: &Arc<Node>,
        Name { name, taken, .. }: Name,
        part: Option<Part>,
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        let from = parent.from.open()?.open_dir(&name)?;
        let info = from.info()?;
        if info.device() != self.device {
            return Err(mount_point(from.path()));
        }
        if info.same_file(&self.target) {
            return Err(Failure::new("recursion", "cannot copy a directory into itself")
                .cause(format!("'{}' is the target", from.path().display()))
                .path(from.path()));
        }
        let (to, adopted) = self.target(&*parent.to.open()?, &name, taken, &info)?;
        let attributes = self.attributes(&from);
        let (from_place, from) = Place::below(&parent.from, &name, from);
        let (to_place, to) = match &self.spare {
            // Its owner can replace it while it is filled.
            Some(_) => Place::of_others_below(&parent.to, &name, to)?,
            None => Place::below(&parent.to, &name, to),
        };
        let node = Arc::new(Node {
            parent: Some(Arc::clone(parent)),
            rel: parent.rel.join(&name),
            from: from_place,
            to: to_place,
            adopted,
            info,
            attributes,
            pending: AtomicUsize::new(1),
        });
        self.fill(&node, (from, to), part, pool)?;
        self.counts.directories.fetch_add(1, Ordering::Relaxed);
        self.done(&node)
    }

    /// The directory to fill, and whether it existed before.
    fn target(
        &self,
        parent: &Dir,
        name: &OsStr,
        taken: bool,
        source: &Info,
    ) -> Result<(Dir, bool), Failure> {
        if let (Some(spare), true) = (&self.spare, taken) {
            let there = spare.directory(parent, name, &self.copier.rules, source.stat())?;
            if let Some(dir) = there {
                return Ok((dir, true));
            }
            spare.clear(parent, name)?;
        }
        Ok((parent.make_dir(name, 0o700)?, false))
    }

    /// Copies the contents of a directory: files now, or by idle threads; subdirectories later.
    fn fill(
        &self,
        node: &Arc<Node>,
        (from, to): (Option<Dir>, Option<Dir>),
        part: Option<Part>,
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        let (from, to) = (node.from.with(from)?, node.to.with(to)?);
        let dirs: (&Dir, &Dir) = (&from, &to);
        let excluded = names_in(&self.options.exclude, &node.rel);
        let mut before = if node.adopted { Before::list(&to)? } else { Before::default() };
        let mut batch = Batch { task: self, node, names: Vec::new() };
        if let (Some(part), Some(listing)) = (part, &self.listing) {
            for listed in listing.names(&part).filter(|listed| !excluded.contains(&listed.name)) {
                let info = from.lookup(listed.name)?;
                let named = info.map(|info| before.name(listed.name, info.kind()));
                match named {
                    Some(name) if name.kind == FileType::Directory => {
                        push_directory(node, name, Some(listed.below), pool);
                        continue;
                    }
                    Some(name) if listed.itself => batch.add(name, dirs, pool)?,
                    _ => {}
                }
                // Only a directory has entries below it.
                let missing = match info {
                    Some(_) => listing.first(&listed.below),
                    None => Some(listed.path),
                };
                if let Some(missing) = missing {
                    let below = missing.as_path().strip_prefix(&node.rel);
                    let path = from.at(below.unwrap_or(missing.as_path()));
                    return Err(Failure::new(
                        "missing",
                        format!("cannot copy '{}'", path.display()),
                    )
                    .cause("it is listed, but does not exist")
                    .path(path));
                }
            }
            return self.finish(before, batch, dirs, pool);
        }
        let entries =
            fs::Dir::read_from(from.as_fd()).or_fail("read the directory", from.path())?;
        for entry in entries {
            let entry = entry.or_fail("read the directory", from.path())?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." || excluded.contains(&name) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    from.lookup(name)?.ok_or_else(|| vanished(&from.at(name)))?.kind()
                }
                kind => kind,
            };
            let name = before.name(name, kind);
            match kind {
                FileType::Directory => push_directory(node, name, None, pool),
                _ => batch.add(name, dirs, pool)?,
            }
        }
        self.finish(before, batch, dirs, pool)
    }

    /// After the last name of a directory: copies the last batch, and removes what the source does
    /// not have.
    fn finish(
        &self,
        before: Before,
        batch: Batch<'_>,
        dirs: (&Dir, &Dir),
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        if let Some(spare) = &self.spare {
            before.clear(spare, dirs.1)?;
        }
        self.files(batch.node, dirs, &batch.names, pool)
    }
}

impl Before {
    fn name(&mut self, name: &OsStr, kind: FileType) -> Name {
        Name { name: name.to_owned(), kind, taken: self.take(name) }
    }
}

fn push_directory(node: &Arc<Node>, name: Name, part: Option<Part>, pool: &Pool<Job>) {
    node.pending.fetch_add(1, Ordering::Relaxed);
    pool.push(Job::Directory(Arc::clone(node), name, part));
}

/// Names of files that are copied together.
struct Batch<'a> {
    task: &'a Task<'a>,
    node: &'a Arc<Node>,
    names: Vec<Name>,
}

impl Batch<'_> {
    fn add(&mut self, name: Name, dirs: (&Dir, &Dir), pool: &Pool<Job>) -> Result<(), Failure> {
        self.names.push(name);
        if self.names.len() < BATCH {
            return Ok(());
        }
        let names = std::mem::take(&mut self.names);
        if pool.is_hungry() {
            self.node.pending.fetch_add(1, Ordering::Relaxed);
            pool.push(Job::Files(Arc::clone(self.node), names));
            return Ok(());
        }
        self.task.files(self.node, dirs, &names, pool)
    }
}

impl Task<'_> {
    fn attributes(&self, source: &Dir) -> Attributes {
        match self.options.attributes {
            true => Attributes::read(source.as_fd()),
            false => Attributes::default(),
        }
    }

    fn files(
        &self,
        node: &Node,
        dirs: (&Dir, &Dir),
        names: &[Name],
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        for Name { name, kind, taken } in names {
            interrupt::check()?;
            if pool.is_stopped() {
                return Ok(());
            }
            match kind {
                FileType::RegularFile => self.file(node, dirs, (name, *taken), pool)?,
                FileType::Symlink => self.link(node, dirs, (name, *taken), pool)?,
                _ => {
                    let path = dirs.0.at(name);
                    let noun = dirs.0.lookup(name)?.map_or("gone", |info| info.noun());
                    return Err(special(&path, noun));
                }
            }
        }
        Ok(())
    }

    /// One entry of a directory is done. After the last one, the directory gets its metadata, and
    /// so on upwards.
    fn done(&self, node: &Arc<Node>) -> Result<(), Failure> {
        let mut node = node;
        while node.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            if node.parent.is_some() || self.options.root_metadata {
                let dir = node.to.open()?;
                let (rules, stat) = (&self.copier.rules, node.info.stat());
                let finish = if node.adopted { Rules::finish_kept } else { Rules::finish };
                finish(rules, dir.as_fd(), stat, &node.attributes, dir.path())?;
            }
            let Some(parent) = &node.parent else { break };
            node = parent;
        }
        Ok(())
    }
}
